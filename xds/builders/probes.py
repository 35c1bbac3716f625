"""Static listeners on which a sidecar answers health probes, and the clusters behind them.

Come in the probes of one Pod, go out listeners 15901 to 15903 as far as they are used; 15902 always
is, for ``/osm-ready`` and ``/osm-drain``. Called by ``bootstrap``.
Source: kubernetes-surface 3.6 and 3.7.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from xds.builders.telemetry import LOG_FIELDS, stdout_log
from xds.policy.bootstrap import BootstrapSpec, Probe, ProbeCheck, ProbeType
from xds.protos import (
    AccessLog,
    Address,
    Cluster,
    ClusterLoadAssignment,
    DataSource,
    DirectResponseAction,
    Endpoint,
    FaultDelay,
    Filter,
    FilterChain,
    FilterChainMatch,
    FractionalPercent,
    HeaderMatcher,
    HealthCheck,
    HealthCheckFilter,
    Http2ProtocolOptions,
    HttpConnectionManager,
    HTTPFault,
    HttpFilter,
    LbEndpoint,
    Listener,
    ListenerFilter,
    LocalityLbEndpoints,
    Percent,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    Router,
    SocketAddress,
    StdoutAccessLog,
    StringMatcher,
    Struct,
    SubstitutionFormatString,
    TcpProxy,
    TlsInspector,
    UInt32Value,
    UpstreamHttpOptions,
    VirtualHost,
    duration,
    pack,
)

ADMIN_CLUSTER = "envoy-admin"
ADMIN_PORT = 15000

_LOOPBACK = "127.0.0.1"
_FAULT_FILTER = "envoy.filters.http.fault"
_HEALTH_CHECK_PATH = "/grpc.health.v1.Health/Check"
_OK = 200
_ALL = 100
_CONNECT_SECONDS = 5

_TCP_FIELDS = (
    "start_time",
    "bytes_received",
    "bytes_sent",
    "duration",
    "requested_server_name",
    "response_flags",
    "upstream_cluster",
    "upstream_host",
)


def probe_listeners(spec: BootstrapSpec) -> Iterator[Listener]:
    """One listener per probe type in use, and the readiness listener in any case."""
    for probe_type in ProbeType:
        probes = [probe for probe in spec.probes if probe.type is probe_type]
        if probes or probe_type is ProbeType.READINESS:
            yield _listener(probe_type, probes, spec)


def probe_clusters(probes: Iterable[Probe]) -> Iterator[Cluster]:
    """One cluster per probe, at the container's own port."""
    for probe in probes:
        cluster = local_cluster(_cluster_name(probe), probe.port)
        if probe.check is ProbeCheck.TCP:
            cluster.health_checks.append(_tcp_check(probe))
        if probe.check is ProbeCheck.GRPC:
            options = UpstreamHttpOptions()
            options.explicit_http_config.http2_protocol_options.CopyFrom(Http2ProtocolOptions())
            cluster.typed_extension_protocol_options[
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
            ].CopyFrom(pack(options))
        yield cluster


def local_cluster(name: str, port: int) -> Cluster:
    """A cluster of the one endpoint 127.0.0.1:``port``."""
    return Cluster(
        name=name,
        type=Cluster.STATIC,
        connect_timeout=duration(_CONNECT_SECONDS),
        load_assignment=load_assignment(name, _LOOPBACK, port),
    )


def load_assignment(name: str, host: str, port: int) -> ClusterLoadAssignment:
    """The assignment of one endpoint to a cluster."""
    endpoint = Endpoint(address=socket_address(host, port))
    return ClusterLoadAssignment(
        cluster_name=name,
        endpoints=[LocalityLbEndpoints(lb_endpoints=[LbEndpoint(endpoint=endpoint)])],
    )


def socket_address(host: str, port: int) -> Address:
    """A TCP address."""
    return Address(socket_address=SocketAddress(address=host, port_value=port))


def _listener(probe_type: ProbeType, probes: list[Probe], spec: BootstrapSpec) -> Listener:
    listener = Listener(
        name=f"{probe_type}_listener",
        address=socket_address("0.0.0.0", probe_type.port),  # noqa: S104 the kubelet's way in
        # A guard against too many connections must not make the kubelet kill the Pod.
        ignore_global_conn_limit=True,
    )
    tunneled = [probe for probe in probes if probe.check is ProbeCheck.HTTPS]
    if tunneled:
        listener.listener_filters.append(
            ListenerFilter(
                name="envoy.filters.listener.tls_inspector", typed_config=pack(TlsInspector())
            )
        )
        listener.filter_chains.append(_tls_chain(tunneled[0]))
    listener.filter_chains.append(_http_chain(probe_type, probes, spec))
    return listener


def _tls_chain(probe: Probe) -> FilterChain:
    proxy = TcpProxy(
        stat_prefix="health_probes_https",
        cluster=_cluster_name(probe),
        access_log=[_tcp_log()],
    )
    return FilterChain(
        filter_chain_match=FilterChainMatch(transport_protocol="tls"),
        filters=[Filter(name="envoy.filters.network.tcp_proxy", typed_config=pack(proxy))],
    )


def _tcp_log() -> AccessLog:
    fields = Struct()
    fields.update({name: LOG_FIELDS[name] for name in _TCP_FIELDS})
    config = StdoutAccessLog(log_format=SubstitutionFormatString(json_format=fields))
    return AccessLog(name="stdout", typed_config=pack(config))


def _http_chain(probe_type: ProbeType, probes: list[Probe], spec: BootstrapSpec) -> FilterChain:
    is_readiness = probe_type is ProbeType.READINESS
    routes = list(_own_routes(spec)) if is_readiness else []
    routes += [route for probe in probes for route in _routes(probe)]
    filters = [_tcp_filter(probe) for probe in probes if probe.check is ProbeCheck.TCP]
    if is_readiness:
        filters.append(HttpFilter(name=_FAULT_FILTER, typed_config=pack(HTTPFault())))
    filters.append(HttpFilter(name="envoy.filters.http.router", typed_config=pack(Router())))
    host = VirtualHost(name="local_service", domains=["*"], routes=routes)
    connection_manager = HttpConnectionManager(
        stat_prefix="health_probes_http",
        access_log=[stdout_log()],
        route_config=RouteConfiguration(name="local_route", virtual_hosts=[host]),
        http_filters=filters,
        # Kubelets before 1.25 ask a hook's path with one slash more: //osm-drain.
        merge_slashes=True,
    )
    network_filter = Filter(
        name="envoy.filters.network.http_connection_manager", typed_config=pack(connection_manager)
    )
    return FilterChain(filters=[network_filter])


def _own_routes(spec: BootstrapSpec) -> Iterator[Route]:
    yield Route(
        match=RouteMatch(path="/osm-ready"),
        route=RouteAction(cluster=ADMIN_CLUSTER, prefix_rewrite="/ready", timeout=duration(1)),
    )
    drain = Route(
        match=RouteMatch(path="/osm-drain"),
        direct_response=DirectResponseAction(
            status=_OK, body=DataSource(inline_string="drained\n")
        ),
    )
    seconds = spec.drain_delay.total_seconds()
    if seconds:
        everyone = FractionalPercent(numerator=_ALL, denominator=FractionalPercent.HUNDRED)
        delay = FaultDelay(fixed_delay=duration(seconds), percentage=everyone)
        drain.typed_per_filter_config[_FAULT_FILTER].CopyFrom(pack(HTTPFault(delay=delay)))
    yield drain


def _routes(probe: Probe) -> Iterator[Route]:
    timeout = duration(probe.timeout_seconds)
    name = _cluster_name(probe)
    if probe.check is ProbeCheck.HTTP:
        yield Route(
            match=RouteMatch(path=probe.moved_path),
            route=RouteAction(cluster=name, prefix_rewrite=probe.path, timeout=timeout),
        )
    if probe.check is ProbeCheck.GRPC:
        yield Route(
            match=RouteMatch(path=_HEALTH_CHECK_PATH),
            route=RouteAction(cluster=name, timeout=timeout),
        )


def _tcp_filter(probe: Probe) -> HttpFilter:
    """Answers 200 while the cluster's active check succeeds, else 503, without asking anyone."""
    is_probe = HeaderMatcher(name=":path", string_match=StringMatcher(exact=probe.moved_path))
    config = HealthCheckFilter(
        headers=[is_probe],
        cluster_min_healthy_percentages={_cluster_name(probe): Percent(value=_ALL)},
    )
    config.pass_through_mode.value = False
    return HttpFilter(name="envoy.filters.http.health_check", typed_config=pack(config))


def _tcp_check(probe: Probe) -> HealthCheck:
    interval = duration(probe.period_seconds)
    return HealthCheck(
        timeout=duration(probe.timeout_seconds),
        interval=interval,
        # These clusters never have traffic; the default would look once a minute.
        no_traffic_interval=interval,
        no_traffic_healthy_interval=interval,
        # The kubelet counts failures itself.
        unhealthy_threshold=UInt32Value(value=1),
        healthy_threshold=UInt32Value(value=1),
        tcp_health_check=HealthCheck.TcpHealthCheck(),
    )


def _cluster_name(probe: Probe) -> str:
    return f"{probe.container}_{probe.type}_cluster"
