"""How long a Pod that ends has to wait until no proxy sends it anything new.

Its address must have left the published endpoints, and every connected proxy must have taken them
(data-plane 7.7). Asked by the kubelet between the withdrawal from Endpoints and SIGTERM; bounded,
since a dead proxy never answers.
"""

from __future__ import annotations

import time

from app.controller.runtime import Runtime
from app.mesh.snapshot import MeshSnapshot

_LONGEST_SECONDS = 5.0
_LOOK_SECONDS = 0.02
_SETTLE_SECONDS = 0.1
"""After the snapshot: until it is published. After the ACK: for requests that are on their way."""


class Propagation:
    """Waits for the proxies of a control plane."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def wait(self, address: str) -> None:
        """Returns once all proxies know that the address is gone, or after five seconds."""
        deadline = time.monotonic() + _LONGEST_SECONDS
        while _serves(self._runtime.snapshot, address) and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        time.sleep(_SETTLE_SECONDS)
        self._runtime.hub.wait_until_settled(max(0.0, deadline - time.monotonic()))
        time.sleep(_SETTLE_SECONDS)


def _serves(snapshot: MeshSnapshot | None, address: str) -> bool:
    """True while a service of the mesh has the address among its endpoints."""
    if snapshot is None:
        return False
    return any(
        endpoint.address == address and not endpoint.draining
        for endpoints in snapshot.endpoints.by_service.values()
        for endpoint in endpoints
    )
