"""Mesh addresses that a client may not call, on ports where traffic could pass them by.

A connection to one of them is closed by the client's own sidecar, so that nothing leaves in
plaintext. Specification: data-plane 5.4, mesh-denied chains.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

from xds.policy.traffic import DeniedPort


class MeshAddresses:
    """Every address of the mesh, by port."""

    def __init__(
        self, claims: Iterable[tuple[int, Iterable[str]]], rank: Mapping[str, int]
    ) -> None:
        """``rank`` orders addresses."""
        of_port: dict[int, set[str]] = {}
        for port, addresses in claims:
            of_port.setdefault(port, set()).update(addresses)
        self._of_port = tuple(
            (port, tuple(sorted(of_port[port], key=rank.__getitem__))) for port in sorted(of_port)
        )

    def unclaimed(
        self, claimed: Mapping[int, AbstractSet[str]], ports: AbstractSet[int] | None = None
    ) -> tuple[DeniedPort, ...]:
        """What no chain of the client claims, of the given ports or of all of them; sorted."""
        left = (
            (port, tuple(a for a in addresses if a not in claimed.get(port, ())))
            for port, addresses in self._of_port
            if ports is None or port in ports
        )
        return tuple(DeniedPort(port=port, addresses=kept) for port, kept in left if kept)
