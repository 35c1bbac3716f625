"""The meshes of a cluster, as the CLI finds them: by their controllers' Deployments.

Called by ``osm install``, ``mesh list``, ``uninstall mesh`` and ``namespace``. The original's
Deployments have the same labels. Specification: kubernetes-surface 2.1, 7.2.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from app.install.render import CONTROLLER, MESH_LABEL, SINGLE_MESH_LABEL
from app.objects.meta import MONITORED_BY_LABEL, VERSION_LABEL, RawObject
from app.ports import Cluster

_OF_THE_ORIGINAL = "osm-bootstrap"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Mesh:
    """A control plane in the cluster."""

    name: str
    namespace: str
    version: str = ""
    """Empty where the Deployment does not say."""
    is_alone: bool = False
    """True when it was installed to be the only mesh of the cluster."""
    is_original: bool = False
    """True for the archived controller, which ran as three Deployments."""
    members: tuple[str, ...] = ()
    """Namespaces of the mesh; sorted."""


def read_meshes(cluster: Cluster) -> tuple[Mesh, ...]:
    """Every mesh of the cluster with its namespaces; sorted by name and namespace."""
    deployments = cluster.list("apps/v1", "Deployment", labels=MESH_LABEL)
    members = cluster.list("v1", "Namespace", labels=MONITORED_BY_LABEL)
    return meshes_of(deployments, members)


def meshes_of(
    deployments: Iterable[RawObject], namespaces: Iterable[RawObject] = ()
) -> tuple[Mesh, ...]:
    """The meshes that these Deployments run, with those of the namespaces that are theirs."""
    found = [_Labelled.of(raw) for raw in deployments]
    controllers = [one for one in found if one.labels.get("app") == CONTROLLER]
    originals = {
        (one.namespace, one.labels.get(MESH_LABEL))
        for one in found
        if one.labels.get("app") == _OF_THE_ORIGINAL
    }
    members = [_Labelled.of(raw) for raw in namespaces]
    return tuple(sorted(_mesh(one, members, originals) for one in controllers))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Labelled:
    name: str
    namespace: str
    labels: dict[str, str]

    @classmethod
    def of(cls, raw: RawObject) -> _Labelled:
        metadata = raw["metadata"]
        return cls(
            name=metadata["name"],
            namespace=metadata.get("namespace") or "",
            labels=metadata.get("labels") or {},
        )


def _mesh(
    one: _Labelled, namespaces: Iterable[_Labelled], originals: set[tuple[str, str | None]]
) -> Mesh:
    name = one.labels.get(MESH_LABEL) or ""
    return Mesh(
        name=name,
        namespace=one.namespace,
        version=one.labels.get(VERSION_LABEL) or "",
        is_alone=one.labels.get(SINGLE_MESH_LABEL) == "true",
        is_original=(one.namespace, name) in originals,
        members=tuple(
            sorted(each.name for each in namespaces if each.labels.get(MONITORED_BY_LABEL) == name)
        ),
    )
