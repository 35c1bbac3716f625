"""The two webhook configurations as they should be, from settings and roots; pure.

Names, labels and shape are those of an original installation, so that its configurations are taken
over. Selectors use no label that an old API server does not set: 1.20 puts no
``kubernetes.io/metadata.name`` on namespaces, so it may be excluded but never asked for. All that
a server would fill in is written out, so that what is there can be compared. Specification:
kubernetes-surface 3.8 and 5.1.
"""

from __future__ import annotations

import base64
import copy
from dataclasses import dataclass
from typing import Any

from app.controller.crds import RECONCILE_LABEL
from app.objects.meta import (
    CONTROL_PLANE_LABEL,
    IGNORE_LABEL,
    INSTANCE_LABEL,
    MONITORED_BY_LABEL,
    NAME_LABEL,
    PRODUCT,
    VERSION_LABEL,
    ObjectRef,
    RawObject,
)
from app.settings import Settings

API_VERSION = "admissionregistration.k8s.io/v1"
MUTATING = "MutatingWebhookConfiguration"
VALIDATING = "ValidatingWebhookConfiguration"
INJECTION = "osm-inject.k8s.io"
VALIDATOR = "osm-validator.k8s.io"
CONTROL_PLANE_VALIDATOR = "osm-control-plane-validator.k8s.io"
WARNINGS = "osm-warnings.k8s.io"
CONTROL_PLANE_WARNINGS = "osm-control-plane-warnings.k8s.io"

_INJECTION_PATH = "/mutate-pod-creation"
_VALIDATION_PATH = "/validate"
_INJECTION_PORT = 9090
_VALIDATION_PORT = 9093
"""Of the Services; the containers behind them may listen elsewhere."""
_VALIDATION_SECONDS = 10
_POLICY = "policy.openservicemesh.io"
_CONFIG = "config.openservicemesh.io"
_WRITTEN = ("CREATE", "UPDATE")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookScope:
    """What the configurations depend on besides the settings."""

    version: str
    """The release, as a label may have it."""
    roots: bytes
    """PEM: the roots by which the API server knows the webhooks."""


def injection_ref(settings: Settings) -> ObjectRef:
    """The configuration that has Pods injected."""
    name = settings.webhook_config_name or f"osm-webhook-{settings.mesh_name}"
    return ObjectRef(api_version=API_VERSION, kind=MUTATING, name=name)


def validation_ref(settings: Settings) -> ObjectRef:
    """The configuration that has objects validated."""
    name = settings.validator_webhook_config or f"osm-validator-mesh-{settings.mesh_name}"
    return ObjectRef(api_version=API_VERSION, kind=VALIDATING, name=name)


def injection(settings: Settings, scope: WebhookScope) -> RawObject:
    """The configuration that has Pods of the mesh's namespaces injected; without it none start."""
    webhook = _webhook(
        INJECTION,
        client=_client(settings, scope, injector=True),
        rules=[_rule("", ("v1",), ("pods",), operations=("CREATE",))],
        selector=_mesh_namespaces(settings),
        timeout=settings.webhook_timeout,
    )
    return _configuration(
        injection_ref(settings),
        labels=_labels(settings, scope, app="osm-injector"),
        webhooks=[{**webhook, "failurePolicy": "Fail", "reinvocationPolicy": "Never"}],
    )


def validation(settings: Settings, scope: WebhookScope, *, enforced: bool) -> RawObject:
    """The configuration that has objects validated.

    Unless ``enforced`` nothing is refused while no controller answers. What yields warnings only
    never is: neither a MeshConfig that repairs a mesh nor old manifests may depend on us. So is the
    deletion of a root certificate, or the namespace of a dead control plane could not be deleted.
    """
    client = _client(settings, scope, injector=False)
    mesh, anywhere = _mesh_namespaces(settings), dict[str, Any]()
    parts = [
        (VALIDATOR, _refusing_rules(settings), mesh, enforced),
        (CONTROL_PLANE_VALIDATOR, [_root_rule(_WRITTEN)], anywhere, enforced),
        (WARNINGS, _WARNING_RULES, mesh, False),
        (CONTROL_PLANE_WARNINGS, [_SETTINGS_RULE, _root_rule(("DELETE",))], anywhere, False),
    ]
    return _configuration(
        validation_ref(settings),
        labels=_labels(settings, scope, app="osm-controller"),
        webhooks=[
            {
                **_webhook(
                    name, client=client, rules=rules, selector=selector, timeout=_VALIDATION_SECONDS
                ),
                "failurePolicy": "Fail" if strict else "Ignore",
            }
            for name, rules, selector, strict in parts
        ],
    )


def is_enforced(current: RawObject | None) -> bool:
    """True when what is there refuses objects that cannot be validated."""
    webhooks = (current or {}).get("webhooks") or ()
    return any(
        webhook.get("name") == VALIDATOR and webhook.get("failurePolicy") == "Fail"
        for webhook in webhooks
    )


def restored(current: RawObject | None, wanted: RawObject) -> RawObject:
    """What is there with our labels and webhooks; all other metadata stays."""
    if current is None:
        return wanted
    merged = copy.deepcopy(current)
    labels = current["metadata"].get("labels") or {}
    merged["metadata"]["labels"] = {**labels, **wanted["metadata"]["labels"]}
    merged["webhooks"] = wanted["webhooks"]
    return merged


def version_label(version: str) -> str:
    """The release as the value of a label: ``2.1.0+local`` has a character too many."""
    fit = "".join(sign if sign.isalnum() or sign in "-_." else "-" for sign in version)
    return fit[:63].strip("-_.")


def _configuration(
    ref: ObjectRef, *, labels: dict[str, str], webhooks: list[dict[str, Any]]
) -> RawObject:
    return {
        "apiVersion": ref.api_version,
        "kind": ref.kind,
        "metadata": {"name": ref.name, "labels": labels},
        "webhooks": webhooks,
    }


def _labels(settings: Settings, scope: WebhookScope, *, app: str) -> dict[str, str]:
    return {
        "app": app,
        NAME_LABEL: PRODUCT,
        INSTANCE_LABEL: settings.mesh_name,
        VERSION_LABEL: scope.version,
        RECONCILE_LABEL: "true",
    }


def _webhook(
    name: str,
    *,
    client: dict[str, Any],
    rules: list[dict[str, Any]],
    selector: dict[str, Any],
    timeout: int,
) -> dict[str, Any]:
    return {
        "name": name,
        "clientConfig": client,
        "rules": rules,
        "namespaceSelector": selector,
        "objectSelector": {},
        "matchPolicy": "Exact",
        "sideEffects": "NoneOnDryRun",
        "timeoutSeconds": timeout,
        "admissionReviewVersions": ["v1"],
    }


def _client(settings: Settings, scope: WebhookScope, *, injector: bool) -> dict[str, Any]:
    """Where the API server asks, and whom it trusts there."""
    path = _INJECTION_PATH if injector else _VALIDATION_PATH
    roots = {"caBundle": base64.b64encode(scope.roots).decode()}
    if settings.webhook_url:
        port = settings.injector_port if injector else settings.validator_port
        return {"url": f"{settings.webhook_url}:{port}{path}", **roots}
    service = {
        "namespace": settings.osm_namespace,
        "name": "osm-injector" if injector else "osm-validator",
        "path": path,
        "port": _INJECTION_PORT if injector else _VALIDATION_PORT,
    }
    return {"service": service, **roots}


def _mesh_namespaces(settings: Settings) -> dict[str, Any]:
    """Namespaces of this mesh, never the control plane's own nor that of Kubernetes itself."""
    spared = sorted({settings.osm_namespace, "kube-system"})
    return {
        "matchLabels": {MONITORED_BY_LABEL: settings.mesh_name},
        "matchExpressions": [
            {"key": IGNORE_LABEL, "operator": "DoesNotExist"},
            {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": spared},
            {"key": CONTROL_PLANE_LABEL, "operator": "DoesNotExist"},
        ],
    }


def _refusing_rules(settings: Settings) -> list[dict[str, Any]]:
    own = ("ingressbackends", "egresses", "upstreamtrafficsettings", "trafficdenies")
    rules = [_rule(_POLICY, ("v1alpha1",), own)]
    if settings.validate_traffic_target:
        rules.append(_rule("access.smi-spec.io", ("v1alpha3",), ("traffictargets",)))
    return rules


def _root_rule(operations: tuple[str, ...]) -> dict[str, Any]:
    return _rule(_CONFIG, ("v1alpha2",), ("meshrootcertificates",), operations=operations)


def _rule(
    group: str,
    versions: tuple[str, ...],
    resources: tuple[str, ...],
    *,
    operations: tuple[str, ...] = _WRITTEN,
) -> dict[str, Any]:
    return {
        "operations": list(operations),
        "apiGroups": [group],
        "apiVersions": list(versions),
        "resources": list(resources),
        "scope": "*",
    }


_SETTINGS_RULE = _rule(_CONFIG, ("v1alpha1", "v1alpha2"), ("meshconfigs",))
_WARNING_RULES = [
    _rule(_POLICY, ("v1alpha1",), ("retries", "telemetries")),
    _rule("specs.smi-spec.io", ("v1alpha4",), ("httproutegroups", "tcproutes")),
    _rule("split.smi-spec.io", ("v1alpha2", "v1alpha4"), ("trafficsplits",)),
]
