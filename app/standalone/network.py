"""The node: one network namespace that is a small cluster network, and one namespace per Pod on its bridge.

Skeleton: signatures are final, bodies follow.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from app.objects.meta import ObjectKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Subnets:
    """The node's private address ranges; chosen by ``Node.up`` so that no route of the host overlaps."""

    pods: IPv4Network
    services: IPv4Network
    link: IPv4Network
    """Joins host and node; a /30."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodNetwork:
    """A Pod's place in the network."""

    namespace: str
    """Name of its network namespace, as in ``ip netns``."""
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceForward:
    """One port of a ClusterIP and the Pods behind it; without targets connections are refused."""

    address: str
    port: int
    protocol: str = "TCP"
    targets: tuple[tuple[str, int], ...]
    """``(address, port)`` of ready Pods."""


def missing_rights() -> tuple[str, ...]:
    """What this machine or user lacks for a node, one sentence each; empty when all is there."""
    raise NotImplementedError


def require_rights() -> None:
    """Raise ``RightsError`` with one sentence when ``missing_rights`` finds anything."""
    raise NotImplementedError


def tear_down(mesh: str, state_dir: Path) -> None:
    """Nothing of this mesh's node is left: processes in its namespaces, namespaces, links, routes, records.

    Works from names and state on disk alone; may be repeated; leaves ``<state>/pods`` (logs) to the caller.
    """
    raise NotImplementedError


class Node:
    """The machine under standalone mode. Methods may be called from any thread."""

    adopted: bool
    """True when a node of an earlier process was found whole, with the same addresses."""
    subnets: Subnets
    namespace: str
    """Network namespace of bridge, ClusterIP rules and DNS server."""
    host_address: str
    """The host's end of the link: where Pods reach the controller's ADS port."""
    dns_address: str
    """The bridge's address: gateway and name server of all Pods."""

    @classmethod
    def up(cls, mesh: str, state_dir: Path) -> Node:
        """The node exists: adopted when it is whole, else made anew after removing leftovers.

        Raise ``RightsError`` when rights or programs are missing or no address range is free.
        """
        raise NotImplementedError

    def add_pod(self, pod: ObjectKey) -> PodNetwork:
        """The Pod has a network; the one it has already, if so."""
        raise NotImplementedError

    def remove_pod(self, pod: ObjectKey) -> None:
        """The Pod's network is gone and its address free, whether or not it existed. Kill its processes first."""
        raise NotImplementedError

    def pods(self) -> dict[ObjectKey, PodNetwork]:
        """All Pods that have a network, sorted by key; after adoption those of the process before."""
        raise NotImplementedError

    def service_address(self, service: ObjectKey) -> str:
        """The ClusterIP of a Service: the same until released, also across restarts of this process."""
        raise NotImplementedError

    def release_service_address(self, service: ObjectKey) -> None:
        """The ClusterIP is free, whether or not there was one."""
        raise NotImplementedError

    def forward(self, services: Iterable[ServiceForward]) -> None:
        """ClusterIPs lead to exactly these targets; replaces all there were, in one step."""
        raise NotImplementedError
