"""Traffic that leaves the mesh: which chain takes it, its routes, and the clusters it goes to.

``Egress`` comes in; filter chains, one matcher per port, route configurations and clusters go out.
A port's matcher asks in order: requests by what the HTTP inspector saw, then TLS by server name,
then the rest by address; what no grant fits has no chain and is reset. Specification: data-plane
4.6, 5.4, 5.9 and 5.10.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_network

from xds.builders import hcm, names, telemetry
from xds.builders.routes import route_matches
from xds.builders.settings import new_cluster
from xds.policy.egress import (
    Egress,
    EgressCluster,
    EgressHost,
    EgressHttp,
    EgressProtocol,
    EgressStream,
)
from xds.policy.settings import ClusterSettings
from xds.protos import (
    ApplicationProtocolInput,
    BoolValue,
    CidrRange,
    Cluster,
    ClusterLoadAssignment,
    DestinationIPInput,
    DnsCluster,
    DnsLookupFamily,
    Endpoint,
    Filter,
    FilterChain,
    HttpInspector,
    Int32Range,
    IpMatcher,
    LbEndpoint,
    ListenerFilter,
    ListenerFilterChainMatchPredicate,
    LocalityLbEndpoints,
    Matcher,
    Message,
    Route,
    RouteAction,
    RouteConfiguration,
    ServerNameInput,
    StringValue,
    TcpProxy,
    TlsInspector,
    TransportProtocolInput,
    UInt32Value,
    VirtualHost,
    XdsExtensionConfig,
    XdsStringMatcher,
    duration,
    pack,
    resource_of,
)
from xds.resource import Resource, ResourceKind

_Predicate = Matcher.MatcherList.Predicate
_HTTP_PROTOCOLS = ("'http/1.0'", "'http/1.1'", "'h2c'")
"""What the input calls the protocols that the HTTP inspector finds."""
_STAT = "egress-tcp-proxy"


def build_egress_cluster(cluster: EgressCluster) -> Resource:
    """A host found by DNS, or wherever the client dialled."""
    settings = ClusterSettings(connections=cluster.connections)
    if not cluster.host:
        found = new_cluster(cluster.name, Cluster.ORIGINAL_DST, settings)
        found.lb_policy = Cluster.CLUSTER_PROVIDED
        return resource_of(ResourceKind.CDS, cluster.name, found)
    found = new_cluster(cluster.name, Cluster.STATIC, settings)
    found.alt_stat_name = cluster.name.replace(".", "_").replace(":", "_")
    dns = DnsCluster(respect_dns_ttl=True, dns_lookup_family=DnsLookupFamily.V4_PREFERRED)
    by_dns = Cluster.CustomClusterType(name="envoy.clusters.dns", typed_config=pack(dns))
    found.cluster_type.CopyFrom(by_dns)
    found.load_assignment.CopyFrom(_assignment(cluster))
    return resource_of(ResourceKind.CDS, cluster.name, found)


def build_egress_routes(http: EgressHttp) -> Resource:
    """The route configuration of requests to the port."""
    name = names.egress_routes(http.port, http.granted_by)
    routes = RouteConfiguration(
        name=name,
        virtual_hosts=[_host(host) for host in http.hosts],
        validate_clusters=BoolValue(value=False),
    )
    return resource_of(ResourceKind.RDS, name, routes)


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressChains:
    """What the outbound listener depends on; hosts, routes and addresses are not in it."""

    http: tuple[tuple[str, hcm.EgressHttpSpec], ...] = ()
    """By the chain's name."""
    streams: tuple[tuple[str, int, str], ...] = ()
    """Name of the chain, port and cluster; names are unique."""
    http_ports: tuple[int, ...] = ()
    """Where requests are told from other traffic by their first bytes; sorted."""
    tls_ports: tuple[int, ...] = ()
    """The same for TLS; it has all of ``http_ports``, so that TLS is not taken for HTTP."""

    @classmethod
    def of(cls, egress: Egress) -> EgressChains:
        """The chains of the traffic."""
        http_ports = {http.port for http in egress.http}
        tls_ports = {s.port for s in egress.streams if s.protocol is EgressProtocol.HTTPS}
        return cls(
            http=tuple((_http_chain(http), _http_spec(http)) for http in egress.http),
            streams=tuple(
                dict.fromkeys((stream_chain(s), s.port, s.cluster) for s in egress.streams)
            ),
            http_ports=tuple(sorted(http_ports)),
            tls_ports=tuple(sorted(http_ports | tls_ports)),
        )


NO_CHAINS = EgressChains()


def chains(spec: EgressChains) -> Iterator[FilterChain]:
    """One chain per port for requests, one per port and cluster for connections."""
    for name, manager in spec.http:
        yield FilterChain(name=name, filters=[hcm.egress_hcm(manager)])
    for name, port, cluster in spec.streams:
        yield FilterChain(name=name, filters=[_tcp_proxy(port, cluster)])


def inspectors(spec: EgressChains) -> Iterator[ListenerFilter]:
    """Listener filters that look at first bytes, on the ports that need it alone.

    A client that waits for its server to talk first would else wait for the inspector's timeout.
    """
    if spec.tls_ports:
        yield _inspector("envoy.filters.listener.tls_inspector", TlsInspector(), spec.tls_ports)
    if spec.http_ports:
        yield _inspector("envoy.filters.listener.http_inspector", HttpInspector(), spec.http_ports)


def _inspector(name: str, config: Message, ports: tuple[int, ...]) -> ListenerFilter:
    of_port = [
        ListenerFilterChainMatchPredicate(
            destination_port_range=Int32Range(start=port, end=port + 1)
        )
        for port in ports
    ]
    ours = of_port[0]
    if len(of_port) > 1:
        ours = ListenerFilterChainMatchPredicate(
            or_match=ListenerFilterChainMatchPredicate.MatchSet(rules=of_port)
        )
    others = ListenerFilterChainMatchPredicate(not_match=ours)
    return ListenerFilter(name=name, typed_config=pack(config), filter_disabled=others)


def stream_chain(stream: EgressStream) -> str:
    """The chain of the stream: that of its port, where its cluster has no settings of its own."""
    own = stream.granted_by if stream.cluster != str(stream.port) else ""
    return names.egress_chain(stream.protocol, stream.port, own)


def _http_chain(http: EgressHttp) -> str:
    return names.egress_chain(EgressProtocol.HTTP, http.port, http.granted_by)


def _http_spec(http: EgressHttp) -> hcm.EgressHttpSpec:
    return hcm.EgressHttpSpec(
        routes=names.egress_routes(http.port, http.granted_by),
        normalize_paths=http.normalize_paths,
    )


def port_matchers(egress: Egress) -> dict[int, Matcher]:
    """By port: the chain of what no mesh service has claimed."""
    found: dict[int, Matcher] = {}
    for http in egress.http:
        needed = [_any_of(ApplicationProtocolInput(), map(_exactly, _HTTP_PROTOCOLS))]
        _append(found, http.port, [*needed, *_within(http.ranges)], _http_chain(http))
    for stream in egress.streams:
        needed = list(_tls(stream)) if stream.protocol is EgressProtocol.HTTPS else []
        _append(found, stream.port, [*needed, *_within(stream.ranges)], stream_chain(stream))
    return found


def _append(found: dict[int, Matcher], port: int, needed: list[Message], chain: str) -> None:
    action = Matcher.OnMatch(action=_config("chain", StringValue(value=chain)))
    matcher = found.setdefault(port, Matcher())
    if matcher.HasField("on_no_match"):
        return  # an older grant takes all that is left of the port
    if not needed:
        matcher.on_no_match.CopyFrom(action)
        return
    predicate = needed[0]
    if len(needed) > 1:
        predicate = _Predicate(and_matcher=_Predicate.PredicateList(predicate=needed))
    matcher.matcher_list.matchers.add(predicate=predicate, on_match=action)


def _tls(stream: EgressStream) -> Iterator[Message]:
    if not stream.server_names:
        yield _any_of(TransportProtocolInput(), [_exactly("tls")])
        return
    yield _any_of(ServerNameInput(), map(_server_name, stream.server_names))


def _server_name(name: str) -> XdsStringMatcher:
    return XdsStringMatcher(suffix=name[1:]) if name.startswith("*.") else _exactly(name)


def _exactly(text: str) -> XdsStringMatcher:
    return XdsStringMatcher(exact=text)


def _any_of(value: Message, accepted: Iterable[XdsStringMatcher]) -> Message:
    source = _config("value", value)
    found: list[Message] = [
        _Predicate(single_predicate=_Predicate.SinglePredicate(input=source, value_match=matcher))
        for matcher in accepted
    ]
    if len(found) > 1:
        found = [_Predicate(or_matcher=_Predicate.PredicateList(predicate=found))]
    return found[0]


def _within(ranges: Iterable[str]) -> Iterator[Message]:
    """The destination is in one of the networks; none given: anywhere."""
    networks = [_cidr(written) for written in ranges]
    if networks:
        config = IpMatcher(cidr_ranges=networks, stat_prefix="egress")
        matcher = XdsExtensionConfig(name="envoy.matching.matchers.ip", typed_config=pack(config))
        yield _Predicate(
            single_predicate=_Predicate.SinglePredicate(
                input=_config("address", DestinationIPInput()), custom_match=matcher
            )
        )


def _cidr(written: str) -> CidrRange:
    network = ip_network(written)
    return CidrRange(
        address_prefix=str(network.network_address),
        prefix_len=UInt32Value(value=network.prefixlen),
    )


def _tcp_proxy(port: int, cluster: str) -> Filter:
    proxy = TcpProxy(
        stat_prefix=f"{_STAT}.{port}", cluster=cluster, access_log=[telemetry.stdout_log()]
    )
    return Filter(name="envoy.filters.network.tcp_proxy", typed_config=pack(proxy))


def _host(host: EgressHost) -> VirtualHost:
    return VirtualHost(
        name=names.egress_host(host.name),
        domains=host.domains,
        routes=[
            Route(match=match, route=RouteAction(cluster=route.cluster, timeout=duration(0)))
            for route in host.routes
            for match in route_matches(route.match)
        ],
    )


def _assignment(cluster: EgressCluster) -> ClusterLoadAssignment:
    endpoint = Endpoint()
    endpoint.address.socket_address.address = cluster.host
    endpoint.address.socket_address.port_value = cluster.port
    return ClusterLoadAssignment(
        cluster_name=cluster.name,
        endpoints=[
            LocalityLbEndpoints(
                lb_endpoints=[LbEndpoint(endpoint=endpoint)],
                load_balancing_weight=UInt32Value(value=100),
            )
        ],
    )


def _config(name: str, value: Message) -> XdsExtensionConfig:
    return XdsExtensionConfig(name=name, typed_config=pack(value))
