"""Namespaces of the mesh: GET what they are, PUT and DELETE what they should be.

Writes touch labels and annotations alone, with the caller's own token: the controller needs no
right to change a namespace. Only a cluster has them; on one machine the YAML says it. Rules:
``app.mesh.membership``. Specification: kubernetes-surface 7.3, 7.4, 8.2.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Path

from app.api import schemas
from app.controller.runtime import Runtime
from app.deps import CallerCluster, CurrentRuntime, CurrentSnapshot
from app.errors import ForbiddenError, NotFoundError, RefusedError
from app.mesh import membership
from app.mesh.membership import Change
from app.objects.meta import PROXY_UUID_LABEL, ObjectRef, RawObject
from app.ports import Cluster

router = APIRouter(prefix="/api/v1/namespaces", tags=["namespaces"], responses=schemas.PROBLEMS)
changes = APIRouter(prefix="/api/v1/namespaces", tags=["namespaces"], responses=schemas.PROBLEMS)
Name = Annotated[str, Path(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]


@router.get("")
def list_namespaces(runtime: CurrentRuntime, snapshot: CurrentSnapshot) -> list[schemas.Namespace]:
    """Monitored namespaces, sorted."""
    return [
        schemas.Namespace(
            name=found.name,
            mesh=runtime.settings.mesh_name,
            injection=found.injection,
            metrics=found.metrics,
            ignored=found.ignored,
        )
        for _, found in sorted(snapshot.workloads.namespaces.items())
    ]


@changes.put("/{name}/membership")
def add_namespace(
    name: Name,
    cluster: CallerCluster,
    runtime: CurrentRuntime,
    inject: bool = True,  # noqa: FBT001, FBT002 a query parameter
    force: bool = False,  # noqa: FBT001, FBT002 a query parameter
) -> schemas.NamespaceChange:
    """The namespace belongs to this mesh; ``force`` takes it from another."""
    _refuse_control_plane(cluster, runtime, name)
    raw = _read(cluster, name)
    return _apply(
        cluster,
        name,
        membership.join(raw, runtime.settings.mesh_name, inject=inject, force=force),
    )


@changes.delete("/{name}/membership")
def remove_namespace(
    name: Name, cluster: CallerCluster, runtime: CurrentRuntime
) -> schemas.NamespaceChange:
    """The namespace belongs to no mesh; its Pods keep their sidecars until they are restarted."""
    change = membership.leave(_read(cluster, name), runtime.settings.mesh_name)
    return _apply(cluster, name, change)


@changes.put("/{name}/ignore")
def ignore_namespace(name: Name, cluster: CallerCluster) -> schemas.NamespaceChange:
    """No Pod of the namespace is injected, no object of it validated."""
    return _apply(cluster, name, membership.ignore(_read(cluster, name)))


@changes.put("/{name}/metrics")
def enable_metrics(
    name: Name, cluster: CallerCluster, runtime: CurrentRuntime
) -> schemas.NamespaceChange:
    """Prometheus scrapes the sidecars of the namespace, running ones too."""
    return _scrape(cluster, name, runtime, enable=True)


@changes.delete("/{name}/metrics")
def disable_metrics(
    name: Name, cluster: CallerCluster, runtime: CurrentRuntime
) -> schemas.NamespaceChange:
    """Prometheus scrapes no sidecar of the namespace."""
    return _scrape(cluster, name, runtime, enable=False)


def _scrape(
    cluster: Cluster, name: str, runtime: Runtime, *, enable: bool
) -> schemas.NamespaceChange:
    mesh = runtime.settings.mesh_name
    answer = _apply(cluster, name, membership.scrape(_read(cluster, name), mesh, enable=enable))
    for pod in cluster.list("v1", "Pod", namespace=name, labels=PROXY_UUID_LABEL):
        ref = ObjectRef(api_version="v1", kind="Pod", namespace=name, name=pod["metadata"]["name"])
        try:
            cluster.patch(ref, membership.scrape_pod(enable=enable))
        except NotFoundError:  # it ended meanwhile
            continue
    return answer


def _refuse_control_plane(cluster: Cluster, runtime: Runtime, name: str) -> None:
    if name == runtime.settings.osm_namespace or _has_controller(cluster, name):
        raise RefusedError(f"Namespace [{name}] holds a control plane; it cannot join a mesh")


def _has_controller(cluster: Cluster, name: str) -> bool:
    """Of another mesh; a caller who may not see Deployments is not stopped by that."""
    with suppress(ForbiddenError):
        return bool(cluster.list("apps/v1", "Deployment", namespace=name, labels=_CONTROLLER))
    return False


_CONTROLLER = "app=osm-controller"


def _read(cluster: Cluster, name: str) -> RawObject:
    found = cluster.read(_ref(name))
    if found is None:
        raise NotFoundError(f"there is no namespace {name}")
    return found


def _apply(cluster: Cluster, name: str, change: Change) -> schemas.NamespaceChange:
    if change.patch is not None:
        cluster.patch(_ref(name), change.patch)
    return schemas.NamespaceChange(
        namespace=name, changed=change.patch is not None, message=change.message
    )


def _ref(name: str) -> ObjectRef:
    return ObjectRef(api_version="v1", kind="Namespace", name=name)
