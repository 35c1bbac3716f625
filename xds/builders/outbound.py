"""Filter chains of traffic out, and the matcher that chooses among them.

Ports and addresses come in, filter chains and one ``filter_chain_matcher`` go out: exact port, then
exact address, then the chain's name. A chain's own bytes hold no address, so services come, go and
move by the matcher alone, and nothing drains (data-plane 5.4, proved in tests/e2e).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from xds.builders import hcm, names, telemetry
from xds.policy.service import Workload
from xds.policy.traffic import DeniedPort, Outbound, OutboundTcp
from xds.protos import (
    DestinationIPInput,
    DestinationPortInput,
    Filter,
    FilterChain,
    Matcher,
    Message,
    StringValue,
    TcpProxy,
    XdsExtensionConfig,
    pack,
)

_DEFAULT_STAT = f"egress-tcp-proxy.{names.PASSTHROUGH}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundSpec:
    """What the outbound listener depends on; weights and names of HTTP services are not in it."""

    http: tuple[tuple[int, tuple[str, ...]], ...]
    """Port and addresses."""
    tcp: tuple[OutboundTcp, ...]
    denied: tuple[DeniedPort, ...]
    passthrough: bool
    counted_as: Workload | None

    @classmethod
    def of(cls, outbound: Outbound, counted_as: Workload | None) -> OutboundSpec:
        """The part of the policy that decides the listener."""
        return cls(
            http=tuple((port.port, port.addresses) for port in outbound.http),
            tcp=outbound.tcp,
            denied=outbound.denied,
            passthrough=outbound.passthrough,
            counted_as=counted_as,
        )


def chains(spec: OutboundSpec) -> list[FilterChain]:
    """The listener's chains, sorted by name; the default chain is separate."""
    found = [_http_chain(port, spec.counted_as) for port, _ in spec.http]
    found += [_tcp_chain(dialled) for dialled in spec.tcp]
    found += [_denied_chain(denied.port) for denied in spec.denied]
    return sorted(found, key=lambda chain: chain.name)


def default_chain() -> FilterChain:
    """The chain of all that no other chain claims: to its original destination."""
    proxy = _tcp_proxy(TcpProxy(stat_prefix=_DEFAULT_STAT, cluster=names.PASSTHROUGH))
    return FilterChain(name=names.DEFAULT_CHAIN, filters=[proxy])


def matcher(spec: OutboundSpec) -> Matcher:
    """Port, then address, to the name of a chain; anything else is left to the default chain."""
    ports: dict[int, dict[str, Matcher.OnMatch]] = {}

    def claim(port: int, addresses: Iterable[str], chain: str) -> None:
        action = Matcher.OnMatch(action=_config("chain", StringValue(value=chain)))
        ports.setdefault(port, {}).update(dict.fromkeys(addresses, action))

    for port, addresses in spec.http:
        claim(port, addresses, names.outbound_http_chain(port))
    for dialled in spec.tcp:
        service = dialled.rule.service
        claim(service.port, dialled.addresses, names.outbound_tcp_chain(service))
    for denied in spec.denied:
        claim(denied.port, denied.addresses, names.denied_chain(denied.port))
    by_port = {
        str(port): Matcher.OnMatch(matcher=_exact("address", DestinationIPInput(), actions))
        for port, actions in ports.items()
    }
    return _exact("port", DestinationPortInput(), by_port)


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


def _tcp_chain(dialled: OutboundTcp) -> FilterChain:
    name = names.outbound_tcp_chain(dialled.rule.service)
    shares = sorted((names.upstream_cluster(u.service), u.weight) for u in dialled.rule.upstreams)
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
