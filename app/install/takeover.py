"""From a mesh that runs to the next release, an installation of the archived original included.

What makes the mesh itself (names, trust domain, root) is read from the Deployments that run it, so
it stays whatever the values say; the rest of the values starts anew. Of an original, what another
process did goes once ours does it. Pure but for ``read_running`` and ``obsolete_refs``. Called by
``osm mesh upgrade``. Specification: kubernetes-surface 6.8; docs/upgrade-from-osm.md.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from app.install.assignments import Tree
from app.install.meshes import Mesh
from app.install.render import CONTROLLER, MESH_LABEL, SINGLE_MESH_LABEL
from app.objects.meta import ObjectRef, RawObject
from app.objects.patch import merge_patch
from app.ports import Cluster

_INJECTOR = "osm-injector"
_BOOTSTRAP = "osm-bootstrap"
_CALLED_WHILE_WE_START = frozenset({_INJECTOR, _BOOTSTRAP, "osm-validator"})
"""Services of the original that lead to Pods of the original until ours are ready."""
_APPS, _RBAC = "apps/v1", "rbac.authorization.k8s.io/v1"
_MOST_REPLICAS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A mesh as its Deployments run it."""

    mesh: Mesh
    options: Mapping[str, str] = field(default_factory=dict)
    """Process options of all its Deployments, without dashes."""
    replicas: int = 1
    is_alone: bool = True

    @property
    def release(self) -> str:
        """What Helm called it: the name of its account and roles."""
        return self.options.get("osm-service-account") or self.mesh.name


def read_running(cluster: Cluster, mesh: Mesh) -> Running:
    """How the mesh runs now."""
    deployments = cluster.list(
        _APPS, "Deployment", namespace=mesh.namespace, labels=f"{MESH_LABEL}={mesh.name}"
    )
    return running(mesh, deployments)


def running(mesh: Mesh, deployments: Iterable[RawObject]) -> Running:
    """How these Deployments run the mesh."""
    options: dict[str, str] = {}
    replicas, is_alone = 1, False
    for raw in deployments:
        spec = raw["spec"]
        for container in spec["template"]["spec"]["containers"]:
            options |= parse_options(container.get("args") or ())
        if raw["metadata"]["name"] == CONTROLLER:
            replicas = 1 if spec.get("replicas") is None else spec["replicas"]
            is_alone = raw["metadata"]["labels"].get(SINGLE_MESH_LABEL) == "true"
    return Running(mesh=mesh, options=options, replicas=replicas, is_alone=is_alone)


def parse_options(args: Iterable[str]) -> dict[str, str]:
    """Options by name, written as ``--name=value`` or as ``--name value``."""
    options: dict[str, str] = {}
    name = ""
    for arg in args:
        if arg.startswith("--"):
            name, has_value, value = arg.removeprefix("--").partition("=")
            options[name] = value
            name = "" if has_value else name
        elif name:
            options[name] = arg
            name = ""
    return options


def kept_values(running: Running) -> Tree:
    """The values that make the mesh what it is, and how many controllers somebody wants."""
    mesh, options = running.mesh, running.options
    osm: Tree = {
        "meshName": mesh.name,
        "osmNamespace": mesh.namespace,
        "enforceSingleMesh": running.is_alone,
    }
    for value, option in (
        ("trustDomain", "trust-domain"),
        ("caBundleSecretName", "ca-bundle-secret-name"),
    ):
        if options.get(option):
            osm[value] = options[option]
    if options.get("certificate-manager"):
        osm["certificateProvider"] = {"kind": options["certificate-manager"]}
    if options.get("validator-webhook-config"):
        osm["validatorWebhook"] = {"webhookConfigurationName": options["validator-webhook-config"]}
    prefix = options.get("webhook-config-name", "").removesuffix(f"-{mesh.name}")
    if prefix:
        osm["webhookConfigNamePrefix"] = prefix
    if 1 < running.replicas <= _MOST_REPLICAS:
        osm["osmController"] = {"replicaCount": running.replicas}
    return {"osm": osm}


def upgraded_values(
    kept: Tree, previous: Tree, given: Tree, *, reuse: bool
) -> tuple[Tree, tuple[str, ...]]:
    """The values of the next release, and the names of those that are back at their defaults."""
    base = merge_patch(previous, kept) if reuse else kept
    values = merge_patch(base, given)
    dropped = sorted(set(leaves(previous)) - set(leaves(values)))
    return copy.deepcopy(values), tuple(dropped)


def leaves(tree: Any, prefix: str = "") -> Iterator[str]:
    """Names of all values in a tree, such as ``osm.image.tag``."""
    if isinstance(tree, dict):
        for name, below in tree.items():
            yield from leaves(below, f"{prefix}.{name}" if prefix else name)
    else:
        yield prefix


def in_two_steps(
    mesh: Mesh, objects: Iterable[RawObject]
) -> tuple[list[RawObject], list[RawObject]]:
    """What to apply now, and what once the new controller is ready.

    The original serves webhooks until then: their Services are turned over last.
    """
    now: list[RawObject] = []
    then: list[RawObject] = []
    for raw in objects:
        waits = raw["kind"] == "Service" and raw["metadata"]["name"] in _CALLED_WHILE_WE_START
        (then if waits and mesh.is_original else now).append(raw)
    return now, then


def obsolete_refs(
    cluster: Cluster, running: Running, current: Iterable[ObjectRef]
) -> tuple[ObjectRef, ...]:
    """What the original left that nothing needs any more; objects of ours are never among it."""
    if not running.mesh.is_original:
        return ()
    namespace, ours = running.mesh.namespace, set(current)
    found = [ref for ref in original_refs(running) if ref not in ours]
    helm = cluster.list(
        "v1",
        "Secret",
        namespace=namespace,
        labels=f"owner=helm,name={running.release}",
        metadata_only=True,
    )
    found += [
        ObjectRef(
            api_version="v1", kind="Secret", namespace=namespace, name=one["metadata"]["name"]
        )
        for one in helm
    ]
    return tuple(found)


def in_removal_order(refs: Iterable[ObjectRef]) -> list[ObjectRef]:
    """Sorted, but what an original is known by goes last: removing can be taken up again."""

    def rank(ref: ObjectRef) -> tuple[bool, bool, ObjectRef]:
        is_deployment = ref.kind == "Deployment"
        return is_deployment, is_deployment and ref.name == _BOOTSTRAP, ref

    return sorted(refs, key=rank)


def original_refs(running: Running) -> Iterator[ObjectRef]:
    """Objects that an original installation has, and ours has under the same names or not."""
    namespace, release = running.mesh.namespace, running.release
    for name in (_INJECTOR, _BOOTSTRAP):
        yield ObjectRef(api_version=_APPS, kind="Deployment", namespace=namespace, name=name)
    # Whatever version the server prefers: it is the same object.
    yield _ref("autoscaling/v1", "HorizontalPodAutoscaler", namespace, f"{_INJECTOR}-hpa")
    yield _ref("policy/v1", "PodDisruptionBudget", namespace, f"{_INJECTOR}-pdb")
    yield _ref("policy/v1beta1", "PodDisruptionBudget", namespace, f"{_INJECTOR}-pdb")
    for name in (release, f"{release}-preinstall", f"{release}-cleanup"):
        yield _ref(_RBAC, "ClusterRoleBinding", "", name)
        yield _ref(_RBAC, "ClusterRole", "", name)
        yield _ref("v1", "ServiceAccount", namespace, name)
        yield _ref("batch/v1", "Job", namespace, name)


def _ref(api_version: str, kind: str, namespace: str, name: str) -> ObjectRef:
    return ObjectRef(api_version=api_version, kind=kind, namespace=namespace, name=name)
