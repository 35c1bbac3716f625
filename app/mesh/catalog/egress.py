"""Traffic of one identity to outside the mesh: its grants as hosts, streams and clusters.

Comes in: the snapshot's grants, the oldest first. Goes out: ``Egress``, empty for who has none.
Hosts of several Egresses are one virtual host each; what two of them say of one thing is the
older's word. Specification: data-plane 4.6, 5.9 and 5.10.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Network

from app.mesh.catalog.access import Reach, canonical_order
from app.mesh.catalog.denied import MeshAddresses
from app.mesh.policies.overlaps import told_apart
from app.mesh.policies.part import EgressGrant
from xds.policy.egress import (
    NO_EGRESS,
    Egress,
    EgressCluster,
    EgressHost,
    EgressHttp,
    EgressProtocol,
    EgressRoute,
    EgressStream,
)
from xds.policy.http import ANY_PATH, ANY_REQUEST, HttpMatch
from xds.policy.identity import ServiceIdentity
from xds.policy.settings import PLAIN_CLUSTER
from xds.policy.traffic import DeniedPort, Outbound

_ANY_HOST = "*"
_Routes = dict[HttpMatch, tuple[EgressCluster, list[str]]]
"""Per match: where its requests go, and the grants that let them out."""


class EgressCompiler:
    """Adds to a client's traffic what it may send outside; clients of equal grants share it."""

    def __init__(self, grants: tuple[EgressGrant, ...], addresses: MeshAddresses) -> None:
        self._grants = grants
        self._addresses = addresses
        self._added: dict[tuple[int, Egress], tuple[Outbound, Outbound]] = {}

    def add(self, outbound: Outbound, reach: Reach, client: ServiceIdentity) -> Outbound:
        """The same traffic and what the client may send outside: the same object where nothing.

        A network that an Egress names may hold mesh addresses: those that the client may not call
        are denied on its ports, as where all may leave.
        """
        egress = compile_egress(self._grants, client)
        if egress == NO_EGRESS:
            return outbound
        key = (id(outbound), egress)
        if key not in self._added:
            denied = self._denied(outbound, egress) if reach is not None else ()
            # The old one is kept, too: its place in memory is the key.
            self._added[key] = outbound, replace(outbound, egress=egress, denied=denied)
        return self._added[key][1]

    def _denied(self, outbound: Outbound, egress: Egress) -> tuple[DeniedPort, ...]:
        claimed: dict[int, set[str]] = {port.port: set(port.addresses) for port in outbound.http}
        for dialled in outbound.tcp:
            claimed.setdefault(dialled.rule.service.port, set()).update(dialled.addresses)
        return self._addresses.unclaimed(claimed, egress.ports)


def compile_egress(grants: Iterable[EgressGrant], client: ServiceIdentity) -> Egress:
    """All that the client may send outside; equal grants make equal values."""
    own = told_apart(grant for grant in grants if client in grant.sources)
    if not own:
        return NO_EGRESS
    clusters: dict[str, EgressCluster] = {}
    http = tuple(_http(own, clusters))
    streams = tuple(
        stream
        for protocols in ((EgressProtocol.HTTPS,), _UNSNIFFED)
        for grant in own
        for stream in _streams(grant, protocols, clusters)
    )
    return Egress(
        clusters=tuple(clusters[name] for name in sorted(clusters)), http=http, streams=streams
    )


_UNSNIFFED = (EgressProtocol.TCP, EgressProtocol.TCP_SERVER_FIRST)


def _http(
    grants: Sequence[EgressGrant], clusters: dict[str, EgressCluster]
) -> Iterator[EgressHttp]:
    """Per port: those of single networks, then that of all other addresses."""
    of_port: dict[int, list[EgressGrant]] = {}
    for grant in grants:
        for port, protocol in grant.ports:
            if protocol is EgressProtocol.HTTP:
                of_port.setdefault(port, []).append(grant)
    for port in sorted(of_port):
        found = of_port[port]
        in_networks = [grant for grant in found if grant.ranges and not grant.hosts]
        elsewhere = [grant for grant in found if grant not in in_networks]
        for together, ranges in _networks(in_networks):
            there = [g for g in found if g.hosts or not g.ranges or g.name in together]
            hosts = _hosts(there, port, clusters)
            yield _http_port(port, hosts, granted_by=",".join(together), ranges=ranges)
        if elsewhere:
            yield _http_port(port, _hosts(elsewhere, port, clusters))


def _networks(grants: Sequence[EgressGrant]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Names of grants and the networks that all of them hold; the first that fits is exact.

    Of two networks that overlap one holds the other, so where more grants meet is asked first.
    """
    holders: dict[IPv4Network, set[str]] = {}
    for grant in grants:
        for written in grant.ranges:
            holders.setdefault(IPv4Network(written), set()).add(grant.name)
    lengths = sorted({network.prefixlen for network in holders})
    found: dict[tuple[str, ...], list[str]] = {}
    for network in sorted(holders):
        wider = (network.supernet(new_prefix=n) for n in lengths if n <= network.prefixlen)
        names = {name for around in wider for name in holders.get(around, ())}
        found.setdefault(tuple(sorted(names)), []).append(str(network))
    order = sorted(found, key=lambda names: (-len(names), names))
    return [(names, tuple(found[names])) for names in order]


def _http_port(
    port: int, hosts: tuple[EgressHost, ...], *, granted_by: str = "", ranges: tuple[str, ...] = ()
) -> EgressHttp:
    paths = {route.match.path for host in hosts for route in host.routes}
    return EgressHttp(
        port=port,
        granted_by=granted_by,
        ranges=ranges,
        hosts=hosts,
        normalize_paths=bool(paths - {ANY_PATH}),
    )


def _hosts(
    grants: Iterable[EgressGrant], port: int, clusters: dict[str, EgressCluster]
) -> tuple[EgressHost, ...]:
    named: dict[str, _Routes] = {}
    for grant in grants:
        for host in grant.hosts or (_ANY_HOST,):
            routes = named.setdefault(host, {})
            cluster = _cluster_of(grant, host, port, clusters)
            for match in (ANY_REQUEST,) if grant.matches is None else grant.matches:
                routes.setdefault(match, (cluster, []))[1].append(grant.name)
    return tuple(_host(host, port, named[host]) for host in sorted(named))


def _host(name: str, port: int, routes: _Routes) -> EgressHost:
    domains = (name,) if name == _ANY_HOST else (name, f"{name}:{port}")
    return EgressHost(
        name=name,
        domains=domains,
        routes=tuple(
            EgressRoute(
                match=match,
                cluster=routes[match][0].name,
                granted_by=tuple(sorted(routes[match][1])),
            )
            for match in sorted(routes, key=canonical_order)
        ),
    )


def _streams(
    grant: EgressGrant,
    protocols: Sequence[EgressProtocol],
    clusters: dict[str, EgressCluster],
) -> Iterator[EgressStream]:
    for port, protocol in sorted(grant.ports):
        if protocol in protocols:
            yield EgressStream(
                port=port,
                protocol=protocol,
                server_names=grant.hosts if protocol is EgressProtocol.HTTPS else (),
                ranges=grant.ranges,
                cluster=_dialled_cluster(grant, port, clusters).name,
                granted_by=grant.name,
            )


def _cluster_of(
    grant: EgressGrant, host: str, port: int, clusters: dict[str, EgressCluster]
) -> EgressCluster:
    """The host's own cluster; a host of many names is wherever the client dialled."""
    if host.startswith("*"):
        return _dialled_cluster(grant, port, clusters)
    name = f"{host}:{port}"
    found = EgressCluster(name=name, host=host, port=port, connections=grant.connections)
    return clusters.setdefault(name, found)


def _dialled_cluster(
    grant: EgressGrant, port: int, clusters: dict[str, EgressCluster]
) -> EgressCluster:
    plain = grant.connections == PLAIN_CLUSTER.connections
    name = str(port) if plain else f"{port}|{grant.name}"
    found = EgressCluster(name=name, port=port, connections=grant.connections)
    return clusters.setdefault(name, found)
