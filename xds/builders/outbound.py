"""Filter chains of traffic out, and the matcher that chooses among them.

Ports and addresses come in, filter chains and one ``filter_chain_matcher`` go out: exact port, then
exact address, then the chain's name. A chain's own bytes hold no address, so services come, go and
move by the matcher alone, and nothing drains (data-plane 5.4, proved in tests/e2e).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from xds.builders import egress, hcm, names, telemetry
from xds.builders.egress import EgressChains
from xds.policy.egress import NO_EGRESS, Egress
from xds.policy.service import Workload
from xds.policy.traffic import Outbound, SplitRule
from xds.protos import (
    DestinationIPInput,
    DestinationPortInput,
    Filter,
    FilterChain,
    Listener,
    Matcher,
    Message,
    StringValue,
    TcpProxy,
    XdsExtensionConfig,
    pack,
    serialize,
)

_DEFAULT_STAT = f"egress-tcp-proxy.{names.PASSTHROUGH}"


Claim = tuple[int, str, tuple[str, ...]]
"""A port, the chain that serves it, and the addresses that lead there."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class ChainMatcher:
    """The part of the listener that holds addresses: a serialized piece, shared by workloads."""

    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundSpec:
    """What the outbound listener depends on; weights and names of HTTP services are not in it."""

    http: tuple[int, ...]
    tcp: tuple[SplitRule, ...]
    denied: tuple[int, ...]
    matcher: ChainMatcher
    passthrough: bool
    egress: EgressChains
    counted_as: Workload | None

    @classmethod
    def of(
        cls, outbound: Outbound, matcher: ChainMatcher, counted_as: Workload | None
    ) -> OutboundSpec:
        """The part of the policy that decides the listener; ``matcher`` is that of its claims."""
        return cls(
            http=tuple(port.port for port in outbound.http),
            tcp=tuple(dialled.rule for dialled in outbound.tcp),
            denied=tuple(denied.port for denied in outbound.denied),
            matcher=matcher,
            passthrough=outbound.passthrough,
            egress=EgressChains.of(outbound.egress),
            counted_as=counted_as,
        )


def claims(outbound: Outbound) -> tuple[Claim, ...]:
    """Which chain takes which address of which port; each (port, address) stands once."""
    found = [(p.port, names.outbound_http_chain(p.port), p.addresses) for p in outbound.http]
    for dialled in outbound.tcp:
        service = dialled.rule.service
        found.append((service.port, names.outbound_tcp_chain(service), dialled.addresses))
    found += [(d.port, names.denied_chain(d.port), d.addresses) for d in outbound.denied]
    return tuple(found)


def build_matcher(claimed: tuple[Claim, ...], outside: Egress = NO_EGRESS) -> ChainMatcher:
    """Port, then address, to the name of a chain; other addresses of the port may go outside.

    What no egress fits is left to the default chain, and reset where there is none.
    """
    ports: dict[int, dict[str, Matcher.OnMatch]] = {}
    for port, chain, addresses in claimed:
        action = Matcher.OnMatch(action=_config("chain", StringValue(value=chain)))
        ports.setdefault(port, {}).update(dict.fromkeys(addresses, action))
    leaving = egress.port_matchers(outside)
    by_port = {
        str(port): Matcher.OnMatch(matcher=_port_matcher(ports.get(port, {}), leaving.get(port)))
        for port in sorted(ports.keys() | leaving.keys())
    }
    if not by_port:
        return ChainMatcher(body=b"")
    tree = _exact("port", DestinationPortInput(), by_port)
    return ChainMatcher(body=serialize(Listener(filter_chain_matcher=tree)))


def chains(spec: OutboundSpec) -> list[FilterChain]:
    """The listener's chains, sorted by name; the default chain is separate."""
    found = [_http_chain(port, spec.counted_as) for port in spec.http]
    found += [_tcp_chain(rule) for rule in spec.tcp]
    found += [_denied_chain(port) for port in spec.denied]
    found += egress.chains(spec.egress)
    return sorted(found, key=lambda chain: chain.name)


def default_chain() -> FilterChain:
    """The chain of all that no other chain claims: to its original destination."""
    proxy = _tcp_proxy(TcpProxy(stat_prefix=_DEFAULT_STAT, cluster=names.PASSTHROUGH))
    return FilterChain(name=names.DEFAULT_CHAIN, filters=[proxy])


def _port_matcher(of_mesh: Mapping[str, Matcher.OnMatch], outside: Matcher | None) -> Matcher:
    if not of_mesh:
        assert outside is not None  # noqa: S101 a port has one of both
        return outside
    tree = _exact("address", DestinationIPInput(), of_mesh)
    if outside is not None:
        tree.on_no_match.matcher.CopyFrom(outside)
    return tree


def _exact(name: str, value: Message, matches: Mapping[str, Matcher.OnMatch]) -> Matcher:
    tree = Matcher.MatcherTree(input=_config(name, value))
    for key, action in matches.items():
        tree.exact_match_map.map[key].CopyFrom(action)
    return Matcher(matcher_tree=tree)


def _config(name: str, value: Message) -> XdsExtensionConfig:
    return XdsExtensionConfig(name=name, typed_config=pack(value))


def _http_chain(port: int, counted_as: Workload | None) -> FilterChain:
    spec = hcm.OutboundHttpSpec(port=port, counted_as=counted_as)
    return FilterChain(name=names.outbound_http_chain(port), filters=[hcm.outbound_hcm(spec)])


def _tcp_chain(rule: SplitRule) -> FilterChain:
    name = names.outbound_tcp_chain(rule.service)
    shares = sorted((names.upstream_cluster(u.service), u.weight) for u in rule.upstreams)
    proxy = TcpProxy(stat_prefix=name)
    if len(shares) == 1:
        proxy.cluster = shares[0][0]
    else:
        for cluster, weight in shares:
            proxy.weighted_clusters.clusters.add(name=cluster, weight=weight)
    return FilterChain(name=name, filters=[_tcp_proxy(proxy)])


def _denied_chain(port: int) -> FilterChain:
    name = names.denied_chain(port)
    proxy = TcpProxy(stat_prefix=name, cluster=names.MESH_DENIED)
    return FilterChain(name=name, filters=[_tcp_proxy(proxy)])


def _tcp_proxy(proxy: TcpProxy) -> Filter:
    proxy.access_log.append(telemetry.stdout_log())
    return Filter(name="envoy.filters.network.tcp_proxy", typed_config=pack(proxy))
