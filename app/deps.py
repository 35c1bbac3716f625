"""What request handlers ask for: the running mesh, its snapshot, a connected proxy.

Handlers hold no state. The runtime hangs on the application; tests put another one there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.controller.runtime import Runtime
from app.errors import (
    NotFoundError,
    UnauthenticatedError,
    UncheckedError,
    UnreachableError,
)
from app.mesh.snapshot import MeshSnapshot
from app.ports import Caller, Cluster
from xds.stream.ledger import ProxyStatus

_BEARER = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    description="A token of the cluster whose owner may get (or update) the mesh's MeshConfig.",
)
_READING = frozenset({"GET", "HEAD"})


async def current_runtime(request: Request) -> Runtime:
    """The runtime this application serves; asked for without a thread of the pool."""
    runtime: Runtime = request.app.state.runtime
    return runtime


def current_snapshot(runtime: Annotated[Runtime, Depends(current_runtime)]) -> MeshSnapshot:
    """The newest snapshot; an error while the first one is being read."""
    snapshot = runtime.snapshot
    if snapshot is None:
        raise UnreachableError("the mesh has not read all objects yet; try again in a moment")
    return snapshot


def connected_proxy(
    uuid: str, runtime: Annotated[Runtime, Depends(current_runtime)]
) -> ProxyStatus:
    """What the ledger says of the connected proxy with that UUID."""
    status = runtime.ledger.get(uuid)
    if status is None or status.gone_at is not None:
        raise NotFoundError(f"no proxy {uuid} is connected; /api/v1/proxies lists those that are")
    return status


def query_string(request: Request) -> str:
    """The request's query string with its question mark; empty when there is none."""
    return f"?{request.url.query}" if request.url.query else ""


def query_parameters(request: Request) -> Mapping[str, str]:
    """The query's parameters; the last of a name counts."""
    return dict(request.query_params)


def bearer_token(
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
) -> str:
    """The token the caller shows; never logged."""
    if credentials is None or not credentials.credentials:
        raise UnauthenticatedError(
            "send a token: Authorization: Bearer TOKEN (kubectl create token NAME makes one)"
        )
    return credentials.credentials


def authorised(
    request: Request,
    token: Annotated[str, Depends(bearer_token)],
    runtime: Annotated[Runtime, Depends(current_runtime)],
) -> Caller:
    """Who asks: may ``get`` the MeshConfig to read, ``update`` it to write."""
    authenticator = runtime.compute.authenticator
    assert authenticator is not None  # noqa: S101 main asks for tokens only where there is one
    verb = "get" if request.method in _READING else "update"
    try:
        return authenticator.caller(token, verb)
    except UnreachableError as error:
        raise UncheckedError(f"your token cannot be checked now: {error}") from error


def caller_cluster(
    token: Annotated[str, Depends(bearer_token)],
    runtime: Annotated[Runtime, Depends(current_runtime)],
) -> Cluster:
    """The API server as the caller may use it: the controller needs no right of its own to it."""
    authenticator = runtime.compute.authenticator
    assert authenticator is not None  # noqa: S101 main serves this only where there is one
    return authenticator.cluster_as(token)


CurrentRuntime = Annotated[Runtime, Depends(current_runtime)]
CurrentSnapshot = Annotated[MeshSnapshot, Depends(current_snapshot)]
ConnectedProxy = Annotated[ProxyStatus, Depends(connected_proxy)]
QueryString = Annotated[str, Depends(query_string)]
QueryParameters = Annotated[Mapping[str, str], Depends(query_parameters)]
CallerCluster = Annotated[Cluster, Depends(caller_cluster)]
