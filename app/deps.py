"""What request handlers ask for: the running mesh, its snapshot, a connected proxy.

Handlers hold no state. The runtime hangs on the application; tests put another one there.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from app.controller.runtime import Runtime
from app.errors import NotFoundError, UnreachableError
from app.mesh.snapshot import MeshSnapshot
from xds.server.ports import StreamInfo


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


def connected_proxy(uuid: str, runtime: Annotated[Runtime, Depends(current_runtime)]) -> StreamInfo:
    """The newest stream of the proxy with that UUID."""
    streams = {stream.proxy.uuid: stream for stream in runtime.connected()}
    if uuid not in streams:
        raise NotFoundError(
            f"no proxy {uuid} is connected; /api/v1/proxies lists those that are"
        )
    return streams[uuid]


CurrentRuntime = Annotated[Runtime, Depends(current_runtime)]
CurrentSnapshot = Annotated[MeshSnapshot, Depends(current_snapshot)]
ConnectedProxy = Annotated[StreamInfo, Depends(connected_proxy)]
