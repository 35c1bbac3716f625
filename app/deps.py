"""What request handlers ask for: the running mesh, its snapshot, a connected proxy.

Handlers hold no state. The runtime hangs on the application; tests put another one there.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from app.controller.runtime import Runtime
from app.errors import NotFoundError, UnreachableError
from app.mesh.snapshot import MeshSnapshot
from xds.stream.ledger import ProxyStatus


def current_runtime(request: Request) -> Runtime:
    """The runtime this application serves."""
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


CurrentRuntime = Annotated[Runtime, Depends(current_runtime)]
CurrentSnapshot = Annotated[MeshSnapshot, Depends(current_snapshot)]
ConnectedProxy = Annotated[ProxyStatus, Depends(connected_proxy)]
QueryString = Annotated[str, Depends(query_string)]
