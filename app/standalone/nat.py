"""ClusterIPs as rules of the node's own packet filter. Pure: forwards in, rules as text out.

For clients without a sidecar; a sidecar's own rules redirect connections before they leave the Pod.
Every range is balanced evenly: the first of n targets takes one connection in n, the next one in
n-1 …
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ServiceForward:
    """One port of a ClusterIP and the Pods behind it; without targets connections are refused."""

    address: str
    port: int
    protocol: str = "TCP"
    targets: tuple[tuple[str, int], ...]
    """``(address, port)`` of ready Pods."""


def build_rules(services: IPv4Network, forwards: Iterable[ServiceForward]) -> str:
    """Both tables, complete, so that each is replaced in one step."""
    ordered = sorted(forwards)
    lines = [
        "*nat",
        ":PREROUTING ACCEPT [0:0]",
        ":INPUT ACCEPT [0:0]",
        ":OUTPUT ACCEPT [0:0]",
        ":POSTROUTING ACCEPT [0:0]",
        ":OSM_SERVICES - [0:0]",
        f"-A PREROUTING -d {services} -j OSM_SERVICES",
        f"-A OUTPUT -d {services} -j OSM_SERVICES",
        *(rule for forward in ordered for rule in _forward_rules(forward)),
        *_hairpin_rules(ordered),
        "COMMIT",
        "*filter",
        ":INPUT ACCEPT [0:0]",
        ":FORWARD ACCEPT [0:0]",
        ":OUTPUT ACCEPT [0:0]",
        # What no rule above turned has no target: refuse at once, else it would wander until a
        # timeout.
        *(
            f"-A {chain} -d {services} {refusal}"
            for chain in ("FORWARD", "OUTPUT")
            for refusal in ("-p tcp -j REJECT --reject-with tcp-reset", "-j REJECT")
        ),
        "COMMIT",
    ]
    return "\n".join(lines) + "\n"


def _forward_rules(forward: ServiceForward) -> Iterator[str]:
    targets = sorted(set(forward.targets))
    protocol = forward.protocol.lower()
    match = f"-A OSM_SERVICES -d {forward.address}/32 -p {protocol} --dport {forward.port}"
    for index, (address, port) in enumerate(targets):
        left = len(targets) - index
        chance = f" -m statistic --mode random --probability {1 / left:.10f}" if left > 1 else ""
        yield f"{match}{chance} -j DNAT --to-destination {address}:{port}"


def _hairpin_rules(forwards: Iterable[ServiceForward]) -> Iterator[str]:
    """A Pod that reaches itself through a ClusterIP must not see itself as the client."""
    addresses = {address for forward in forwards for address, _ in forward.targets}
    for address in sorted(addresses):
        yield f"-A POSTROUTING -s {address}/32 -d {address}/32 -j MASQUERADE"
