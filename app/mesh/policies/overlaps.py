"""What Egresses say differently of the same traffic of one source: the oldest one's word counts.

Grants come in, the oldest first; what of the younger ones is not in force goes out.
Specification: data-plane 4.6, “overlapping SNI or prefixes on a port” and “several objects”.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import IPv4Network

from app.mesh.policies.part import EgressGrant
from xds.policy.egress import EgressProtocol
from xds.policy.identity import ServiceIdentity

_SNIFFED = (EgressProtocol.HTTP, EgressProtocol.HTTPS)
_Overlap = tuple[str, str, str]
"""Name of the younger Egress, its field, and the reason."""


def told_apart(grants: Iterable[EgressGrant]) -> list[EgressGrant]:
    """One source's grants without protocols that an older one rules out on the port.

    A server that talks first is never kept waiting for bytes of its client, so its port has no
    traffic that is told by them.
    """
    first: dict[int, bool] = {}
    kept = []
    for grant in grants:
        ports = tuple(
            (port, protocol)
            for port, protocol in grant.ports
            if protocol is EgressProtocol.TCP
            or first.setdefault(port, protocol in _SNIFFED) == (protocol in _SNIFFED)
        )
        if ports:
            kept.append(grant if ports == grant.ports else replace(grant, ports=ports))
    return kept


def overlaps(grants: Iterable[EgressGrant]) -> Iterator[_Overlap]:
    """What of an Egress is not in force for at least one of its sources; sorted, told once."""
    of_source: dict[ServiceIdentity, list[EgressGrant]] = {}
    for grant in grants:
        for source in grant.sources:
            of_source.setdefault(source, []).append(grant)
    told: set[_Overlap] = set()
    for own in {tuple(own): own for own in of_source.values()}.values():
        kept = told_apart(own)
        told.update(_ruled_out(own, kept))
        for index, grant in enumerate(kept):
            for older in kept[:index]:
                told.update(_unbound(older, grant))
    yield from sorted(told)


def _ruled_out(own: list[EgressGrant], kept: list[EgressGrant]) -> Iterator[_Overlap]:
    holders: dict[int, str] = {}
    left: set[tuple[str, int, EgressProtocol]] = set()
    for grant in kept:
        left.update((grant.name, *pair) for pair in grant.ports)
        for port, protocol in grant.ports:
            if protocol is not EgressProtocol.TCP:
                holders.setdefault(port, grant.name)
    for grant in own:
        for port, protocol in grant.ports:
            if (grant.name, port, protocol) not in left:
                reason = (
                    f"{protocol} on port {port} is not in force: Egress {holders[port]!r} has the "
                    "port for other traffic, and tcp-server-first excludes http and https: use "
                    "another port"
                )
                yield grant.name, "spec.ports", reason


def _unbound(older: EgressGrant, grant: EgressGrant) -> Iterator[_Overlap]:
    """The younger one's settings, where the older one's count."""
    if older.connections == grant.connections:
        return
    for port, protocol in grant.ports:
        if any(
            port == other and _meet(older, grant, (theirs, protocol))
            for other, theirs in older.ports
        ):
            reason = (
                f"what Egress {older.name!r}, which is older, lets out of port {port}, too, has "
                "that one's connectionSettings"
            )
            yield grant.name, "spec.matches", reason


def _meet(
    one: EgressGrant, other: EgressGrant, protocols: tuple[EgressProtocol, EgressProtocol]
) -> bool:
    """Some traffic of the protocols fits both."""
    if any(protocol in _SNIFFED for protocol in protocols) and len(set(protocols)) > 1:
        return False
    if protocols[0] is EgressProtocol.HTTP:
        return bool({*one.hosts} & {*other.hosts}) or not (one.hosts or other.hosts)
    named = protocols[0] is not EgressProtocol.HTTPS or _share_name(one.hosts, other.hosts)
    return named and _share_address(one.ranges, other.ranges)


def _share_name(some: tuple[str, ...], others: tuple[str, ...]) -> bool:
    if not some or not others:
        return True
    return any(_covers(a, b) or _covers(b, a) for a in some for b in others)


def _covers(name: str, other: str) -> bool:
    return name == other or (name.startswith("*.") and other.endswith(name[1:]))


def _share_address(some: tuple[str, ...], others: tuple[str, ...]) -> bool:
    if not some or not others:
        return True
    networks = [IPv4Network(written) for written in others]
    return any(IPv4Network(a).overlaps(b) for a in some for b in networks)
