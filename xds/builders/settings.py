"""Settings of a called host as Envoy takes them: the start of every cluster, and of its checks.

Frozen settings come in, a cluster goes out that its builder completes; mesh services and hosts
outside the mesh begin here alike. Specification: data-plane 4.9 and 5.10.
"""

from __future__ import annotations

from xds.builders import names
from xds.policy.service import MeshService
from xds.policy.settings import (
    PLAIN_CLUSTER,
    Balancing,
    ClusterSettings,
    Connections,
    OutlierDetection,
)
from xds.protos import (
    CircuitBreakers,
    Cluster,
    HeaderValue,
    HeaderValueOption,
    HealthCheck,
    Http1ProtocolOptions,
    Http2ProtocolOptions,
    RoutingPriority,
    UInt32Value,
    UpstreamHttpOptions,
    duration,
    pack,
)
from xds.protos import OutlierDetection as OutlierMessage

_CONNECT_SECONDS = 5
_SHORTEST_SECONDS = 0.001
"""Envoy refuses 0, and less than a millisecond is 0 to some of its timers."""
_UNLIMITED = 4294967295
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_BALANCING = {
    Balancing.ROUND_ROBIN: Cluster.ROUND_ROBIN,
    Balancing.LEAST_REQUEST: Cluster.LEAST_REQUEST,
    Balancing.RANDOM: Cluster.RANDOM,
    Balancing.RING_HASH: Cluster.RING_HASH,
    Balancing.MAGLEV: Cluster.MAGLEV,
}
_CHECK_TIMEOUT_SECONDS = 1
_CHECK_INTERVAL_SECONDS = 10
_UNHEALTHY_AFTER = 3


def new_cluster(
    name: str, discovery: Cluster.DiscoveryType, settings: ClusterSettings = PLAIN_CLUSTER
) -> Cluster:
    """A cluster with all that its settings say, but the check of its health; HTTP as it came."""
    connections = settings.connections
    connect = max(connections.connect_timeout_seconds or _CONNECT_SECONDS, _SHORTEST_SECONDS)
    cluster = Cluster(name=name, type=discovery, connect_timeout=duration(connect))
    cluster.lb_policy = _BALANCING[settings.balancing]
    cluster.circuit_breakers.thresholds.extend(
        [
            _thresholds(RoutingPriority.DEFAULT, connections),
            _thresholds(RoutingPriority.HIGH, PLAIN_CLUSTER.connections),
        ]
    )
    if settings.outliers is not None:
        cluster.outlier_detection.CopyFrom(_outliers(settings.outliers))
    cluster.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(pack(_http(connections)))
    return cluster


def health_check(service: MeshService, dns_suffix: str) -> HealthCheck:
    """Asks the sidecar of an HTTP service, and connects to any other."""
    check = HealthCheck(
        timeout=duration(_CHECK_TIMEOUT_SECONDS),
        interval=duration(_CHECK_INTERVAL_SECONDS),
        healthy_threshold=UInt32Value(value=1),
        unhealthy_threshold=UInt32Value(value=_UNHEALTHY_AFTER),
    )
    if service.protocol.is_http:
        check.http_health_check.host = service.fqdn(dns_suffix)
        check.http_health_check.path = names.HEALTH_PATH
        header = HeaderValue(key=names.HEALTH_HEADER, value="1")
        check.http_health_check.request_headers_to_add.append(HeaderValueOption(header=header))
    else:
        check.tcp_health_check.SetInParent()
    return check


def _http(connections: Connections) -> UpstreamHttpOptions:
    options = UpstreamHttpOptions(
        use_downstream_protocol_config=UpstreamHttpOptions.UseDownstreamHttpConfig(
            http_protocol_options=Http1ProtocolOptions(),
            http2_protocol_options=Http2ProtocolOptions(),
        )
    )
    if connections.max_requests_per_connection:
        most = UInt32Value(value=connections.max_requests_per_connection)
        options.common_http_protocol_options.max_requests_per_connection.CopyFrom(most)
    return options


def _thresholds(priority: RoutingPriority, bounds: Connections) -> CircuitBreakers.Thresholds:
    return CircuitBreakers.Thresholds(
        priority=priority,
        max_connections=_most(bounds.max_connections),
        max_pending_requests=_most(bounds.max_pending_requests),
        max_requests=_most(bounds.max_requests),
        max_retries=_most(bounds.max_retries),
        track_remaining=True,
    )


def _most(bound: int | None) -> UInt32Value:
    return UInt32Value(value=_UNLIMITED if bound is None else bound)


def _outliers(rule: OutlierDetection) -> OutlierMessage:
    return OutlierMessage(
        consecutive_5xx=UInt32Value(value=rule.consecutive_errors),
        interval=duration(max(rule.interval_seconds, _SHORTEST_SECONDS)),
        base_ejection_time=duration(max(rule.base_ejection_seconds, _SHORTEST_SECONDS)),
        max_ejection_percent=UInt32Value(value=min(rule.max_ejection_percent, 100)),
        # Envoy compares endpoints with one another by default; nobody has asked for that here.
        enforcing_success_rate=UInt32Value(value=0),
    )
