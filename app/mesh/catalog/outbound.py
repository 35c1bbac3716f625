"""Traffic to other services: what a client may dial, and which upstreams answer.

Comes in: the snapshot's ``services``, ``rules``, ``issuers`` and ``config``, and whom the client
may call. Goes out: ``Outbound``. Specification: data-plane 3.6, 3.7, 4.5, 5.4 and 5.9. One compiler
serves one snapshot: clients that may call the same identities share all but host names, those of
one namespace the ``Outbound``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address

from app.mesh.catalog.access import Reach
from app.mesh.catalog.calls import Calls, with_retries
from app.mesh.catalog.denied import MeshAddresses
from app.mesh.catalog.splits import Share, split_matches, split_shares, weighted_upstreams
from app.mesh.policies.part import Retried
from app.mesh.snapshot import MeshSnapshot, Services, ServiceView
from xds.policy.http import HttpMatch
from xds.policy.identity import ServiceIdentity
from xds.policy.service import MeshService
from xds.policy.settings import RoutePolicy
from xds.policy.traffic import (
    DeniedPort,
    Outbound,
    OutboundHost,
    OutboundHttpPort,
    OutboundTcp,
    SplitRule,
    Upstream,
)

_WHOLE = 100
"""Weight of a service that nothing splits."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Served:
    """One virtual host as clients of its own namespace and as others are given it."""

    namespace: str
    local: OutboundHost
    foreign: OutboundHost


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Destination:
    """One Service port as clients dial it, whatever targets its Pods listen on."""

    service: MeshService
    """That of the first view: it names the chain and the virtual host."""
    views: tuple[ServiceView, ...]
    addresses: tuple[str, ...]
    """Never empty; numeric order."""
    split: tuple[Share, ...]
    """Empty: not split."""
    matches: tuple[HttpMatch, ...]
    """Which requests are split; empty: all."""
    whole: Served
    """What clients are given that may call all of it, where nothing splits it."""

    @property
    def seniority(self) -> tuple[object, ...]:
        """Sort key of who gets an address first: oldest, then name; a headless base comes last."""
        created, service = self.views[0].created, self.service
        age = (created is None, created.timestamp() if created else 0.0)
        return (*age, service.name, service.namespace, not service.subdomain, service)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dialled:
    """What clients of one reach may dial: all that does not depend on their namespace."""

    upstreams: tuple[Upstream, ...]
    http: tuple[tuple[int, tuple[str, ...], tuple[Served, ...]], ...]
    """Per port: addresses and virtual hosts; sorted."""
    tcp: tuple[OutboundTcp, ...]
    denied: tuple[DeniedPort, ...]


class OutboundCompiler:
    """Compiles what clients may send, for one snapshot; remembers what clients share."""

    def __init__(self, snapshot: MeshSnapshot) -> None:
        self._services = snapshot.services
        self._issuers = snapshot.issuers
        self._passthrough = snapshot.config.traffic.enable_egress
        self._calls = Calls(snapshot)
        self._clusters = _one_service_per_cluster(snapshot.services)
        self._address_rank = _address_rank(snapshot.services)
        self._destinations = self._all_destinations(snapshot)
        self._order = {found: place for place, found in enumerate(self._destinations)}
        self._dialled_through = _dialled_through(self._destinations)
        self.addresses = MeshAddresses(
            ((found.service.port, found.addresses) for found in self._destinations),
            self._address_rank,
        )
        self._dialled: dict[Reach, Dialled] = {}
        self._outbound: dict[tuple[Reach, str, Retried], Outbound] = {}
        self._upstreams: dict[tuple[MeshService, tuple[ServiceIdentity, ...] | None], Upstream] = {}

    def compile(self, reach: Reach, namespace: str, retried: Retried = ()) -> Outbound:
        """All that clients of a namespace with this reach may send; equal input, same object.

        ``retried`` has what the client tries again: as a rule nothing, so that all share one.
        """
        found = self._outbound.get((reach, namespace, retried))
        if found is None and retried:
            plain = self.compile(reach, namespace)
            found = self._outbound[reach, namespace, retried] = with_retries(plain, retried)
        elif found is None:
            found = self._outbound[reach, namespace, ()] = self._compile(reach, namespace)
        return found

    def _compile(self, reach: Reach, namespace: str) -> Outbound:
        dialled = self._dialled.get(reach)
        if dialled is None:
            dialled = self._dialled[reach] = self._dial(reach)
        return Outbound(
            upstreams=dialled.upstreams,
            http=tuple(
                OutboundHttpPort(port=port, addresses=addresses, hosts=_hosts(served, namespace))
                for port, addresses, served in dialled.http
            ),
            tcp=dialled.tcp,
            passthrough=self._passthrough,
            denied=dialled.denied,
        )

    def _dial(self, reach: Reach) -> Dialled:
        seen = ((found, self._given(found, reach)) for found in self._visible(reach))
        given = [(found, served) for found, served in seen if served is not None]
        claimed: dict[int, set[str]] = {}
        http = self._http([pair for pair in given if pair[0].service.protocol.is_http], claimed)
        tcp = _tcp([pair for pair in given if not pair[0].service.protocol.is_http], claimed)
        named = {called for _, _, hosts in http for served in hosts for called in _called(served)}
        named |= {upstream.service for chain in tcp for upstream in chain.rule.upstreams}
        return Dialled(
            upstreams=self._upstreams_of(named, reach),
            http=http,
            tcp=tcp,
            denied=self.addresses.unclaimed(claimed)
            if self._passthrough and reach is not None
            else (),
        )

    def _visible(self, reach: Reach) -> Sequence[Destination]:
        """Services of allowed identities, and split roots that have one of them as backend."""
        if reach is None:
            return self._destinations
        services = {s for identity in reach for s in self._services.by_identity.get(identity, ())}
        found = {d for service in services for d in self._dialled_through.get(service, ())}
        return sorted(found, key=self._order.__getitem__)

    def _given(self, destination: Destination, reach: Reach) -> Served | None:
        """Where traffic goes: to backends the client may call, else to the service itself.

        None where it may call neither: of a split root it sees the requests that are spread.
        """
        whole = ((destination.views, _WHOLE),)
        own, spread = _allowed(whole, reach), _allowed(destination.split, reach)
        served = destination.whole
        if not self._may_copy(served, reach):
            served = _with_policy(served, replace(served.local.policy, mirror=None))
        if own == whole and not spread:
            return served
        if not (own or spread):
            return None
        rule = self._split_rule(destination.service, spread or own)
        if spread and destination.matches:
            others = self._split_rule(destination.service, own).upstreams
            rule = replace(rule, matches=destination.matches, others=others)
        return _with_rule(served, rule)

    def _may_copy(self, served: Served, reach: Reach) -> bool:
        """False where the client may not call the service that would get copies."""
        mirror = served.local.policy.mirror
        if mirror is None or reach is None:
            return True
        return not reach.isdisjoint(self._services.by_service[mirror.service].identities)

    def _split_rule(self, service: MeshService, shares: Sequence[Share]) -> SplitRule:
        upstreams = (
            replace(upstream, service=self._clusters[upstream.service])
            for upstream in weighted_upstreams(shares)
        )
        return SplitRule(service=service, upstreams=tuple(upstreams))

    def _http(
        self, given: Iterable[tuple[Destination, Served]], claimed: dict[int, set[str]]
    ) -> tuple[tuple[int, tuple[str, ...], tuple[Served, ...]], ...]:
        hosts: dict[int, list[Served]] = {}
        for found, served in given:
            port = found.service.port
            claimed.setdefault(port, set()).update(found.addresses)
            hosts.setdefault(port, []).append(served)
        return tuple(
            (port, tuple(sorted(claimed[port], key=self._address_rank.__getitem__)), tuple(served))
            for port, served in sorted(hosts.items())
        )

    def _upstreams_of(self, services: Iterable[MeshService], reach: Reach) -> tuple[Upstream, ...]:
        return tuple(
            self._upstream(service, reach) for service in sorted(services, key=_cluster_name)
        )

    def _upstream(self, service: MeshService, reach: Reach) -> Upstream:
        identities = self._services.by_service[service].identities
        allowed = None if reach is None else tuple(i for i in identities if i in reach)
        found = self._upstreams.get((service, allowed))
        if found is None:
            siblings = self._services.by_parent[service.parent]
            servers = {identity for view in siblings for identity in view.identities}
            found = self._upstreams[service, allowed] = Upstream(
                service=service,
                server_names=self._issuers.subject_names(servers),
                endpoints_of=allowed,
                settings=self._calls.cluster(service),
            )
        return found

    def _all_destinations(self, snapshot: MeshSnapshot) -> tuple[Destination, ...]:
        """Every Service port that can be dialled, sorted by fully qualified name, then port."""
        groups: dict[tuple[str, int], list[ServiceView]] = {}
        for view in snapshot.services.views:
            if view.addresses:
                key = (view.service.fqdn(snapshot.dns_suffix), view.service.port)
                groups.setdefault(key, []).append(view)
        return tuple(self._destination(views, snapshot) for _, views in sorted(groups.items()))

    def _destination(self, views: list[ServiceView], snapshot: MeshSnapshot) -> Destination:
        views.sort(key=lambda view: (not view.service.protocol.is_http, view.service))
        first, suffix = views[0].service, snapshot.dns_suffix
        addresses = {address for view in views for address in view.addresses}
        rule = self._split_rule(first, [(tuple(views), _WHOLE)])
        split = split_shares(snapshot.services, snapshot.rules, views[0])
        policy = self._calls.route(views[0], split, self._clusters)
        return Destination(
            service=first,
            views=tuple(views),
            addresses=tuple(sorted(addresses, key=self._address_rank.__getitem__)),
            split=split,
            matches=split_matches(snapshot.rules, first) if split else (),
            whole=Served(
                namespace=first.namespace,
                local=OutboundHost(
                    rule=rule,
                    domains=first.host_names(local=True, dns_suffix=suffix),
                    policy=policy,
                ),
                foreign=OutboundHost(
                    rule=rule,
                    domains=first.host_names(local=False, dns_suffix=suffix),
                    policy=policy,
                ),
            ),
        )


def _allowed(shares: Iterable[Share], reach: Reach) -> tuple[Share, ...]:
    """The shares without the views that the client may not call."""
    if reach is None:
        return tuple(shares)
    kept = (
        (tuple(view for view in views if not reach.isdisjoint(view.identities)), weight)
        for views, weight in shares
    )
    return tuple((views, weight) for views, weight in kept if views)


def _with_rule(served: Served, rule: SplitRule) -> Served:
    return replace(
        served,
        local=replace(served.local, rule=rule),
        foreign=replace(served.foreign, rule=rule),
    )


def _with_policy(served: Served, policy: RoutePolicy) -> Served:
    return replace(
        served,
        local=replace(served.local, policy=policy),
        foreign=replace(served.foreign, policy=policy),
    )


def _called(served: Served) -> Iterator[MeshService]:
    """All services that a client of the host may send something to."""
    host = served.local
    for upstream in (*host.rule.upstreams, *host.rule.others):
        yield upstream.service
    if host.policy.mirror is not None:
        yield host.policy.mirror.service


def _hosts(served: Sequence[Served], namespace: str) -> tuple[OutboundHost, ...]:
    """The port's virtual hosts for clients of a namespace; no host name stands twice.

    ``web-0.web`` may be a Pod of this namespace's StatefulSet or a Service of the namespace
    ``web``; DNS search lists find the former first, so names of the own namespace win.
    """
    hosts = [each.local if each.namespace == namespace else each.foreign for each in served]
    if len(set().union(*(host.domains for host in hosts))) == sum(len(h.domains) for h in hosts):
        return tuple(hosts)
    owner: dict[str, OutboundHost] = {}
    for host in sorted(hosts, key=lambda host: host.rule.service.namespace != namespace):
        for domain in host.domains:
            owner.setdefault(domain, host)
    # None is left without a name: fully qualified ones are unique.
    return tuple(
        replace(host, domains=tuple(d for d in host.domains if owner[d] is host)) for host in hosts
    )


def _tcp(
    given: Iterable[tuple[Destination, Served]], claimed: dict[int, set[str]]
) -> tuple[OutboundTcp, ...]:
    """A chain per service with the addresses that neither HTTP nor an older service has claimed."""
    chains = []
    for found, served in sorted(given, key=lambda pair: pair[0].seniority):
        taken = claimed.setdefault(found.service.port, set())
        addresses = tuple(address for address in found.addresses if address not in taken)
        taken.update(addresses)
        if addresses:
            chains.append(OutboundTcp(rule=served.local.rule, addresses=addresses))
    return tuple(sorted(chains, key=lambda chain: _chain_name(chain.rule.service)))


def _one_service_per_cluster(services: Services) -> dict[MeshService, MeshService]:
    """Each mesh service → the one that names its cluster: two ports may share a target."""
    first: dict[str, MeshService] = {}
    ordered = sorted(
        services.by_service, key=lambda service: (not service.protocol.is_http, service)
    )
    return {service: first.setdefault(_cluster_name(service), service) for service in ordered}


def _dialled_through(
    destinations: Iterable[Destination],
) -> dict[MeshService, tuple[Destination, ...]]:
    """What a client of each mesh service may dial: the service, and the roots that it backs."""
    found: dict[MeshService, list[Destination]] = {}
    for destination in destinations:
        for views in (destination.views, *(views for views, _ in destination.split)):
            for view in views:
                found.setdefault(view.service, []).append(destination)
    return {service: tuple(dialled) for service, dialled in found.items()}


def _address_rank(services: Services) -> dict[str, int]:
    """Each address → its place in numeric order, IPv4 first."""
    parsed = {a: ip_address(a) for view in services.views for a in view.addresses}
    ordered = sorted(parsed, key=lambda address: (parsed[address].version, int(parsed[address])))
    return {address: place for place, address in enumerate(ordered)}


def _cluster_name(service: MeshService) -> str:
    return f"{service.full_name}|{service.target}"


def _chain_name(service: MeshService) -> str:
    return f"{service.full_name}_{service.port}_{service.protocol}"
