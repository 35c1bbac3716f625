"""GET /proxies…: who is connected, what each was sent, took and refused, and the resources.

In standalone mode a proxy's own admin interface is handed through, read-only. Keys never appear.
"""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from app.api import schemas
from app.deps import ConnectedProxy, CurrentRuntime, CurrentSnapshot, QueryString
from app.errors import NotFoundError
from app.mesh.snapshot import MeshSnapshot
from app.objects.meta import ObjectKey, ObjectKind
from xds.protos import to_json
from xds.resource import ResourceKind
from xds.stream.ledger import KindStatus, ProxyStatus

router = APIRouter(prefix="/api/v1/proxies", tags=["proxies"], responses=schemas.PROBLEMS)


@router.get("")
def list_proxies(runtime: CurrentRuntime, snapshot: CurrentSnapshot) -> list[schemas.ProxySummary]:
    """Connected proxies, sorted by identity and Pod."""
    connected = [s for s in runtime.ledger.statuses() if s.gone_at is None]
    proxies = [schemas.ProxySummary(**_summary(status, snapshot)) for status in connected]
    return sorted(proxies, key=lambda proxy: (proxy.namespace, proxy.pod or "", proxy.uuid))


@router.get("/{uuid}")
def read_proxy(status: ConnectedProxy, snapshot: CurrentSnapshot) -> schemas.ProxyDetail:
    """One proxy: per kind the version sent, acknowledged and refused, with Envoy's words."""
    kinds = tuple(_kind(kind, status.kinds[kind]) for kind in ResourceKind if kind in status.kinds)
    return schemas.ProxyDetail(**_summary(status, snapshot), kinds=kinds)


@router.get("/{uuid}/resources")
def read_resources(
    status: ConnectedProxy, runtime: CurrentRuntime, kind: ResourceKind | None = None
) -> list[schemas.ResourceContent]:
    """What the proxy is configured with, sorted by kind and name; all kinds unless one is named."""
    published = runtime.current(status.proxy)
    if published is None:
        return []
    wanted = [kind] if kind else sorted(ResourceKind)
    found = [resource for k in wanted for resource in published.resources(k)]
    return [
        schemas.ResourceContent(kind=r.kind, name=r.name, version=r.version, content=to_json(r))
        for r in sorted(found, key=lambda r: (r.kind, r.name))
    ]


@router.get(
    "/{uuid}/envoy/{path:path}",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "What Envoy answered"}},
)
def read_envoy(
    path: str,
    query: QueryString,
    status: ConnectedProxy,
    snapshot: CurrentSnapshot,
    runtime: CurrentRuntime,
) -> PlainTextResponse:
    """What the sidecar's admin interface answers to GET; standalone mode only."""
    admin, pod = runtime.compute.envoy_admin, snapshot.workloads.pods.get(status.proxy.uuid)
    if admin is None or pod is None:
        raise NotFoundError("sidecars are reached through this API in standalone mode only")
    key = ObjectKey(kind=ObjectKind.POD, namespace=pod.namespace, name=pod.name)
    return PlainTextResponse(admin.call(key, "GET", f"/{path}{query}"))


def _summary(status: ProxyStatus, snapshot: MeshSnapshot) -> dict[str, object]:
    pod = snapshot.workloads.pods.get(status.proxy.uuid)
    return {
        "uuid": status.proxy.uuid,
        "identity": str(status.proxy.identity),
        "namespace": status.proxy.identity.namespace,
        "pod": pod.name if pod else None,
        "peer": status.peer,
        "connected_at": status.connected_at,
        "in_sync": all(_is_in_sync(kind) for kind in status.kinds.values()),
        "rejected": tuple(sorted(k for k, s in status.kinds.items() if s.is_rejected)),
    }


def _is_in_sync(status: KindStatus) -> bool:
    """True when the proxy holds what it was sent; one that reconnected may need nothing sent."""
    return status.sent_version in (None, status.acked_version)


def _kind(kind: ResourceKind, status: KindStatus) -> schemas.KindState:
    return schemas.KindState(
        kind=kind,
        sent=status.sent_version,
        acknowledged=status.acked_version,
        rejected=_rejected(status),
    )


def _rejected(status: KindStatus) -> schemas.RejectedUpdate | None:
    if status.rejected_version is None or status.rejected_at is None:
        return None
    return schemas.RejectedUpdate(
        version=status.rejected_version,
        detail=status.rejected_detail or "",
        at=status.rejected_at,
    )
