"""Values and manifests to the objects of one installation.

Parsed YAML comes in; the same objects go out with this mesh's names, namespace and labels, and with
the values that somebody set. Edits parsed objects, never text: there is no template language.
Pure; called by the CLI. Specification: kubernetes-surface 6.1, 6.2, 6.4.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from app.install.addons import addon_of, fill_addon, is_deployed
from app.install.pods import fill_pod, fill_resources
from app.install.preset import preset_mesh_config, preset_root_certificate
from app.install.values import Image, Values
from app.objects.meta import INSTANCE_LABEL, VERSION_LABEL, RawObject

MESH_LABEL = "meshName"
SINGLE_MESH_LABEL = "enforceSingleMesh"
CONTROLLER = "osm-controller"

_ACCOUNT = "osm"
"""Name, in the manifests, of what is called like the mesh."""
_NAMED_LIKE_THE_MESH = frozenset(
    {"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}
)
_WEBHOOK = "osm-webhook-osm"
_VALIDATOR = "osm-validator-mesh-osm"
_PRESET = "preset-mesh-config"
_ROOT_PRESET = "preset-mesh-root-certificate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """One mesh to install: where, which release, and what was set."""

    values: Values
    namespace: str
    version: str

    @property
    def mesh_name(self) -> str:
        """The mesh, and the name of its account and roles."""
        return self.values.osm.mesh_name

    @property
    def webhook_name(self) -> str:
        """The MutatingWebhookConfiguration."""
        return f"{self.values.osm.webhook_config_name_prefix}-{self.mesh_name}"

    @property
    def validator_name(self) -> str:
        """The ValidatingWebhookConfiguration."""
        given = self.values.osm.validator_webhook.webhook_configuration_name
        return given or f"osm-validator-mesh-{self.mesh_name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """Which versions of optional kinds the API server has."""

    autoscaling: str = "autoscaling/v2"
    policy: str = "policy/v1"


def render(
    objects: Iterable[RawObject],
    optional: Iterable[RawObject],
    installation: Installation,
    dialect: Dialect,
) -> tuple[RawObject, ...]:
    """The objects to apply, in the order of the manifests; those of ``optional`` that are wanted.

    What came in is not changed.
    """
    wanted = [*objects, *(raw for raw in optional if _is_wanted(raw, installation.values))]
    rendered = [_rendered(copy.deepcopy(raw), installation, dialect) for raw in wanted]
    return tuple(one for raw in rendered for one in (raw, *_companions(raw, installation)))


def _is_wanted(raw: RawObject, values: Values) -> bool:
    controller, addon = values.osm.osm_controller, addon_of(raw)
    if addon is not None:
        return is_deployed(addon, values.osm)
    match raw["kind"]:
        case "HorizontalPodAutoscaler":
            return controller.auto_scale.enable
        case "PodDisruptionBudget":
            return controller.enable_pod_disruption_budget
    return True


def _rendered(raw: RawObject, installation: Installation, dialect: Dialect) -> RawObject:
    if raw["kind"] == "CustomResourceDefinition":
        return raw
    _rename(raw, installation)
    _label(raw["metadata"], installation)
    if raw["kind"] == "Deployment":
        _label(raw["spec"]["template"]["metadata"], installation)
    addon = addon_of(raw)
    if addon is not None:
        fill_addon(raw, addon, installation.values.osm)
        return raw
    match raw["kind"]:
        case "ClusterRole":
            _name_webhooks(raw["rules"], installation)
        case "ConfigMap" if raw["metadata"]["name"] == _PRESET:
            _fill_preset(raw, installation)
        case "Deployment" if raw["metadata"]["name"] == CONTROLLER:
            _fill_deployment(raw, installation)
        case "HorizontalPodAutoscaler":
            raw["apiVersion"] = dialect.autoscaling
            _fill_autoscaler(raw, installation.values)
        case "PodDisruptionBudget":
            raw["apiVersion"] = dialect.policy
    return raw


# Names and labels


def _rename(raw: RawObject, installation: Installation) -> None:
    metadata, mesh = raw["metadata"], installation.mesh_name
    if raw["kind"] == "Namespace":
        metadata["name"] = installation.namespace
    elif "namespace" in metadata:
        metadata["namespace"] = installation.namespace
    if raw["kind"] in _NAMED_LIKE_THE_MESH and metadata["name"] == _ACCOUNT:
        metadata["name"] = mesh
    for named in (*raw.get("subjects", ()), raw.get("roleRef", {})):
        if named.get("name") == _ACCOUNT:
            named["name"] = mesh
        if "namespace" in named:
            named["namespace"] = installation.namespace


def _label(metadata: RawObject, installation: Installation) -> None:
    """Labels that the manifests have get this installation's values; none is added."""
    labels = metadata.get("labels") or {}
    for label, value in (
        (INSTANCE_LABEL, installation.mesh_name),
        (VERSION_LABEL, installation.version),
        (MESH_LABEL, installation.mesh_name),
        (SINGLE_MESH_LABEL, str(installation.values.osm.enforce_single_mesh).lower()),
    ):
        if label in labels:
            labels[label] = value


def _name_webhooks(rules: Iterable[RawObject], installation: Installation) -> None:
    names = {_WEBHOOK: installation.webhook_name, _VALIDATOR: installation.validator_name}
    for rule in rules:
        if "resourceNames" in rule:
            rule["resourceNames"] = [names.get(name, name) for name in rule["resourceNames"]]


# Presets


def _fill_preset(raw: RawObject, installation: Installation) -> None:
    key = f"{_PRESET}.json"
    base = json.loads(raw["data"][key])
    spec = preset_mesh_config(base, installation.values, installation.namespace)
    raw["data"][key] = json.dumps(spec, indent=2) + "\n"


def _companions(raw: RawObject, installation: Installation) -> Iterator[RawObject]:
    """The preset of the root stands beside that of the mesh, where it is wanted."""
    if raw["kind"] != "ConfigMap" or raw["metadata"]["name"] != _PRESET:
        return
    osm = installation.values.osm
    spec = preset_root_certificate(
        installation.values,
        namespace=installation.namespace,
        secret=osm.ca_bundle_secret_name or "osm-ca-bundle",
        trust_domain=osm.trust_domain or "cluster.local",
    )
    if spec is not None:
        root = copy.deepcopy(raw)
        root["metadata"]["name"] = _ROOT_PRESET
        root["data"] = {f"{_ROOT_PRESET}.json": json.dumps(spec, indent=2) + "\n"}
        yield root


# The Deployment


def _fill_deployment(raw: RawObject, installation: Installation) -> None:
    osm, spec = installation.values.osm, raw["spec"]
    controller = osm.osm_controller
    template = spec["template"]
    template["metadata"]["labels"] = {**controller.pod_labels, **template["metadata"]["labels"]}
    if controller.replica_count is not None and not controller.auto_scale.enable:
        spec["replicas"] = controller.replica_count
    pod = template["spec"]
    pod["serviceAccountName"] = installation.mesh_name
    fill_pod(
        pod,
        affinity=controller.affinity,
        nodeSelector=controller.node_selector,
        tolerations=controller.tolerations or osm.control_plane_tolerations,
        imagePullSecrets=osm.image_pull_secrets,
    )
    _fill_container(pod["containers"][0], installation)


def _fill_container(container: RawObject, installation: Installation) -> None:
    osm = installation.values.osm
    fill_resources(container, osm.osm_controller.resource)
    if osm.image.pull_policy is not None:
        container["imagePullPolicy"] = osm.image.pull_policy
    default = container["image"]
    container["image"] = _image(default, osm.image, "osm_controller")
    container["args"] = _arguments(container["args"], installation)
    container["env"] = _environment(container["env"], installation, default)


def _image(default: str, image: Image, role: str) -> str:
    """The default image with another registry, name, tag or digest, where one was set."""
    path, _, tag = default.rpartition(":")
    registry, _, name = path.rpartition("/")
    registry = image.registry if image.registry is not None else registry
    name = getattr(image.name, role) or image.name.osm_controller or name
    where = f"{registry}/{name}" if registry else name
    digest = getattr(image.digest, role) or image.digest.osm_controller
    if digest and not image.tag:
        return f"{where}@{digest}"
    return f"{where}:{image.tag or tag}"


def _arguments(args: Iterable[str], installation: Installation) -> list[str]:
    """The options, each as ``--name=value``; what nobody set stays as the manifests have it."""
    osm = installation.values.osm
    given: Mapping[str, object] = {
        "--verbosity": osm.controller_log_level,
        "--mesh-name": installation.mesh_name,
        "--osm-namespace": installation.namespace,
        "--osm-service-account": installation.mesh_name,
        "--osm-version": installation.version,
        "--webhook-config-name": installation.webhook_name,
        "--validator-webhook-config": installation.validator_name,
        "--webhook-timeout": osm.injector.webhook_timeout_seconds,
        "--ca-bundle-secret-name": osm.ca_bundle_secret_name,
        "--trust-domain": osm.trust_domain,
        "--osm-container-pull-policy": osm.image.pull_policy,
        "--enable-reconciler": _switch(osm.enable_reconciler),
        "--validate-traffic-target": _switch(installation.values.smi.validate_traffic_target),
    }
    options = dict(arg.partition("=")[::2] for arg in args)
    options |= {name: str(value) for name, value in given.items() if value is not None}
    return [f"{name}={value}" if value else name for name, value in options.items()]


def _environment(
    env: Iterable[RawObject], installation: Installation, default_image: str
) -> list[RawObject]:
    osm = installation.values.osm
    given = {
        "OSM_DEFAULT_ENVOY_IMAGE": osm.sidecar_image,
        "OSM_DEFAULT_INIT_CONTAINER_IMAGE": _image(default_image, osm.image, "osm_sidecar_init"),
    }
    variables = {variable["name"]: variable for variable in env}
    for name, value in given.items():
        if value is not None:
            variables[name] = {"name": name, "value": value}
    return list(variables.values())


def _switch(value: bool | None) -> str | None:  # noqa: FBT001 the value itself
    return None if value is None else str(value).lower()


def _fill_autoscaler(raw: RawObject, values: Values) -> None:
    scale, spec = values.osm.osm_controller.auto_scale, raw["spec"]
    for field, value in (("minReplicas", scale.min_replicas), ("maxReplicas", scale.max_replicas)):
        if value is not None:
            spec[field] = value
    targets = {"cpu": scale.cpu, "memory": scale.memory}
    for metric in spec["metrics"]:
        target = targets[metric["resource"]["name"]].target_average_utilization
        if target is not None:
            metric["resource"]["target"]["averageUtilization"] = target
