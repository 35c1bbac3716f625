"""May this mesh be installed here? Asked before anything is written.

Facts of the cluster come in; out go obstacles, each with what to do about it. Pure but for
``read_facts``. Called by ``osm install``. Specification: kubernetes-surface 6.6.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from app.install.meshes import Mesh, read_meshes
from app.install.render import Installation
from app.objects.meta import MONITORED_BY_LABEL, ObjectRef, RawObject
from app.ports import Cluster, ServerVersion

OLDEST_SERVER = (1, 20)
_SMI_GROUPS = ("access.smi-spec.io", "specs.smi-spec.io", "split.smi-spec.io")
_CRD = ("apiextensions.k8s.io/v1", "CustomResourceDefinition")
_CONVERTER = "osm-bootstrap"
"""The Service that converted objects for early releases of the original."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the cluster is like before an installation."""

    server: ServerVersion
    meshes: tuple[Mesh, ...] = ()
    namespace_labels: dict[str, str] | None = None
    """None: the namespace does not exist yet."""
    converted_crds: tuple[str, ...] = ()
    """SMI definitions that somebody else's webhook converts; sorted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Why a mesh cannot be installed, and what would help."""

    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.reason}; {self.remedy}"


def read_facts(cluster: Cluster, namespace: str) -> Facts:
    """The facts of a cluster, for an installation in that namespace."""
    raw = cluster.read(ObjectRef(api_version="v1", kind="Namespace", name=namespace))
    return Facts(
        server=cluster.version(),
        meshes=read_meshes(cluster),
        namespace_labels=None if raw is None else raw["metadata"].get("labels") or {},
        converted_crds=converted_crds(cluster.list(*_CRD)),
    )


def converted_crds(crds: Iterable[RawObject]) -> tuple[str, ...]:
    """Names of SMI definitions with a conversion webhook that is not the original's own."""
    return tuple(
        sorted(
            raw["metadata"]["name"]
            for raw in crds
            if raw["spec"].get("group") in _SMI_GROUPS and _converter(raw) not in (None, _CONVERTER)
        )
    )


def obstacles(facts: Facts, installation: Installation) -> tuple[Obstacle, ...]:
    """Everything that stands against the installation; empty when nothing does."""
    return (
        *_server(facts.server),
        *_other_meshes(facts.meshes, installation),
        *_namespace(facts, installation),
        *_definitions(facts.converted_crds),
    )


def _server(server: ServerVersion) -> Iterator[Obstacle]:
    if (server.major, server.minor) < OLDEST_SERVER:
        oldest = ".".join(map(str, OLDEST_SERVER))
        yield Obstacle(
            reason=f"the cluster runs Kubernetes {server.text}",
            remedy=f"upgrade it to {oldest} or later",
        )


def _other_meshes(meshes: tuple[Mesh, ...], installation: Installation) -> Iterator[Obstacle]:
    here = [mesh for mesh in meshes if mesh.namespace == installation.namespace]
    elsewhere = [mesh for mesh in meshes if mesh.namespace != installation.namespace]
    alone = [mesh for mesh in elsewhere if mesh.is_alone]
    if here:
        yield Obstacle(
            reason=f"namespace {installation.namespace} already holds mesh {_names(here)}",
            remedy=_remedy_for(here[0]),
        )
    if alone:
        yield Obstacle(
            reason=f"mesh {_names(alone)} was installed to be the only one of the cluster",
            remedy="uninstall it, or install it anew with --no-enforce-single-mesh",
        )
    elif elsewhere and installation.values.osm.enforce_single_mesh:
        yield Obstacle(
            reason=f"the cluster already has mesh {_names(elsewhere)}",
            remedy="add --no-enforce-single-mesh to let them share it",
        )
    if any(mesh.name == installation.mesh_name for mesh in elsewhere):
        yield Obstacle(
            reason=f"there is a mesh named {installation.mesh_name} in another namespace",
            remedy="choose another --mesh-name",
        )


def _remedy_for(mesh: Mesh) -> str:
    upgrade = f"osm mesh upgrade --mesh-name {mesh.name}"
    if mesh.is_original:
        return f"it is an original OSM: `{upgrade}` takes it over and keeps its settings"
    return f"change it with `{upgrade}`, or remove it with `osm uninstall mesh`"


def _namespace(facts: Facts, installation: Installation) -> Iterator[Obstacle]:
    owner = (facts.namespace_labels or {}).get(MONITORED_BY_LABEL)
    if owner:
        name = installation.namespace
        yield Obstacle(
            reason=f"namespace {name} is a member of mesh {owner}, so the control plane's own Pods "
            "would get sidecars",
            remedy=f"osm namespace remove {name} --mesh-name {owner}",
        )


def _definitions(names: tuple[str, ...]) -> Iterator[Obstacle]:
    if names:
        yield Obstacle(
            reason=f"another product's webhook converts {', '.join(names)}",
            remedy="remove that product, or its webhook from spec.conversion of these definitions",
        )


def _converter(crd: RawObject) -> str | None:
    """The Service that converts a definition's objects; None for no webhook."""
    conversion = crd["spec"].get("conversion") or {}
    if conversion.get("strategy") != "Webhook":
        return None
    config = (conversion.get("webhook") or {}).get("clientConfig") or {}
    return str((config.get("service") or {}).get("name") or config.get("url") or "")


def _names(meshes: Iterable[Mesh]) -> str:
    return ", ".join(f"[{mesh.name}] in namespace [{mesh.namespace}]" for mesh in meshes)
