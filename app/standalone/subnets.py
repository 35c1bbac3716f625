"""Which private address ranges a node takes: the first that no route of the host overlaps. Pure.

Ranges that clusters on the same machine like to use are left alone, even while no route shows them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network

_OTHERS = tuple(
    IPv4Network(cidr)
    for cidr in ("10.96.0.0/12", "10.128.0.0/14", "10.200.0.0/16", "10.217.0.0/16", "10.244.0.0/16")
)
"""Defaults of kubeadm, OpenShift, cilium and flannel."""

_TRIPLES = (
    *((f"10.{n}.0.0/16", f"10.{n + 1}.0.0/16", f"10.{n + 2}.0.0/30") for n in range(42, 252, 4)),
    # For machines whose VPN claims all of 10.0.0.0/8.
    *((f"172.{n}.0.0/16", f"172.{n + 1}.0.0/16", f"172.{n + 2}.0.0/30") for n in (20, 23, 26)),
    ("198.18.0.0/16", "198.19.0.0/17", "198.19.128.0/30"),
)
"""Pods, services, link."""

_NARROWEST_DEFAULT = 4
"""Wider routes than this lead "everywhere else"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subnets:
    """The node's private address ranges."""

    pods: IPv4Network
    services: IPv4Network
    link: IPv4Network
    """Joins host and node; a /30."""

    @property
    def gateway(self) -> str:
        """Address of the bridge: gateway and name server of Pods."""
        return str(self.pods[1])

    @property
    def host(self) -> str:
        """The host's end of the link."""
        return str(self.link[1])

    @property
    def node(self) -> str:
        """The node's end of the link."""
        return str(self.link[2])


def candidates(taken: Iterable[IPv4Network]) -> Iterator[Subnets]:
    """Ranges that overlap nothing taken, best first; at most 57."""
    avoided = (*_OTHERS, *taken)
    for pods, services, link in _TRIPLES:
        subnets = Subnets(
            pods=IPv4Network(pods), services=IPv4Network(services), link=IPv4Network(link)
        )
        ranges = (subnets.pods, subnets.services, subnets.link)
        if not any(mine.overlaps(other) for mine in ranges for other in avoided):
            yield subnets


def routed(destinations: Iterable[str]) -> tuple[IPv4Network, ...]:
    """Ranges that the host's routes lead to, from the ``dst`` fields of ``ip -json route``.

    Default routes are none, nor their halves that VPNs set: our own routes are more specific.
    """
    networks = (IPv4Network(text, strict=False) for text in destinations if text != "default")
    return tuple(network for network in networks if network.prefixlen >= _NARROWEST_DEFAULT)
