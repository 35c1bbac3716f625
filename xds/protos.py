"""The only door to generated messages: ``google.protobuf``, ``envoy.*`` and ``xds.*``.

Everyone in ``xds`` who builds or reads a message imports its type here, by Envoy's own name; where
two packages share a name, one of them has a longer one here. ``pack`` and ``serialize`` are
deterministic, because versions are hashes of bytes (data-plane 5.13 and appendix E). ``to_json`` is
what people see: it never shows a private key.
"""

from __future__ import annotations

from typing import Any as Untyped

from envoy.config.accesslog.v3.accesslog_pb2 import (
    AccessLog,
    AccessLogFilter,
    AndFilter,
    NotHealthCheckFilter,
    ResponseFlagFilter,
    RuntimeFilter,
)
from envoy.config.bootstrap.v3.bootstrap_pb2 import (
    Admin,
    Bootstrap,
    LayeredRuntime,
    RuntimeLayer,
)
from envoy.config.cluster.v3.circuit_breaker_pb2 import CircuitBreakers
from envoy.config.cluster.v3.cluster_pb2 import Cluster, UpstreamConnectionOptions
from envoy.config.cluster.v3.outlier_detection_pb2 import OutlierDetection
from envoy.config.core.v3.address_pb2 import Address, CidrRange, SocketAddress, TcpKeepalive
from envoy.config.core.v3.base_pb2 import (
    DataSource,
    HeaderValue,
    HeaderValueOption,
    Locality,
    Metadata,
    Node,
    RoutingPriority,
    RuntimeFractionalPercent,
    RuntimeUInt32,
    TrafficDirection,
    TransportSocket,
    WatchedDirectory,
)
from envoy.config.core.v3.config_source_pb2 import (
    AggregatedConfigSource,
    ApiConfigSource,
    ApiVersion,
    ConfigSource,
    PathConfigSource,
)
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.core.v3.grpc_service_pb2 import GrpcService
from envoy.config.core.v3.health_check_pb2 import HealthCheck, HealthStatus
from envoy.config.core.v3.protocol_pb2 import (
    Http1ProtocolOptions,
    Http2ProtocolOptions,
    HttpProtocolOptions,
    KeepaliveSettings,
)
from envoy.config.core.v3.substitution_format_string_pb2 import SubstitutionFormatString
from envoy.config.endpoint.v3.endpoint_components_pb2 import (
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_components_pb2 import (
    Filter,
    FilterChain,
    FilterChainMatch,
    ListenerFilter,
    ListenerFilterChainMatchPredicate,
)
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.overload.v3.overload_pb2 import OverloadManager, ResourceMonitor
from envoy.config.ratelimit.v3.rls_pb2 import RateLimitServiceConfig
from envoy.config.rbac.v3.rbac_pb2 import RBAC, Permission, Policy, Principal
from envoy.config.route.v3.route_components_pb2 import (
    DirectResponseAction,
    HeaderMatcher,
    RateLimit,
    RetryPolicy,
    Route,
    RouteAction,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
)
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.access_loggers.grpc.v3.als_pb2 import (
    CommonGrpcAccessLogConfig,
    HttpGrpcAccessLogConfig,
)
from envoy.extensions.access_loggers.stats.v3.stats_pb2 import Config as StatsAccessLog
from envoy.extensions.access_loggers.stream.v3.stream_pb2 import StdoutAccessLog
from envoy.extensions.clusters.common.dns.v3.dns_pb2 import DnsLookupFamily
from envoy.extensions.clusters.dns.v3.dns_cluster_pb2 import DnsCluster
from envoy.extensions.common.ratelimit.v3.ratelimit_pb2 import RateLimitDescriptor
from envoy.extensions.filters.common.fault.v3.fault_pb2 import FaultDelay
from envoy.extensions.filters.http.ext_authz.v3.ext_authz_pb2 import BufferSettings, ExtAuthz
from envoy.extensions.filters.http.fault.v3.fault_pb2 import FaultAbort, HTTPFault
from envoy.extensions.filters.http.health_check.v3.health_check_pb2 import (
    HealthCheck as HealthCheckFilter,
)
from envoy.extensions.filters.http.local_ratelimit.v3.local_rate_limit_pb2 import (
    LocalRateLimit as HttpLocalRateLimit,
)
from envoy.extensions.filters.http.ratelimit.v3.rate_limit_pb2 import RateLimit as HttpRateLimit
from envoy.extensions.filters.http.ratelimit.v3.rate_limit_pb2 import RateLimitPerRoute
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC as HttpRbac  # noqa: N811
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBACPerRoute
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.listener.http_inspector.v3.http_inspector_pb2 import HttpInspector
from envoy.extensions.filters.listener.original_dst.v3.original_dst_pb2 import OriginalDst
from envoy.extensions.filters.listener.tls_inspector.v3.tls_inspector_pb2 import TlsInspector
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (  # noqa: E501
    HttpConnectionManager,
    HttpFilter,
    Rds,
)
from envoy.extensions.filters.network.local_ratelimit.v3.local_rate_limit_pb2 import (
    LocalRateLimit as NetworkLocalRateLimit,
)
from envoy.extensions.filters.network.ratelimit.v3.rate_limit_pb2 import (
    RateLimit as NetworkRateLimit,
)
from envoy.extensions.filters.network.rbac.v3.rbac_pb2 import RBAC as NetworkRbac  # noqa: N811
from envoy.extensions.filters.network.tcp_proxy.v3.tcp_proxy_pb2 import (
    ON_DOWNSTREAM_DATA,
    ON_DOWNSTREAM_TLS_HANDSHAKE,
    TcpProxy,
)
from envoy.extensions.matching.common_inputs.network.v3.network_inputs_pb2 import (
    ApplicationProtocolInput,
    DestinationIPInput,
    DestinationPortInput,
    ServerNameInput,
    TransportProtocolInput,
)
from envoy.extensions.matching.input_matchers.ip.v3.ip_pb2 import Ip as IpMatcher
from envoy.extensions.rbac.principals.mtls_authenticated.v3.mtls_authenticated_pb2 import (
    Config as MtlsAuthenticated,
)
from envoy.extensions.resource_monitors.downstream_connections.v3.downstream_connections_pb2 import (  # noqa: E501
    DownstreamConnectionsConfig,
)
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import (
    CertificateValidationContext,
    SubjectAltNameMatcher,
    TlsCertificate,
)
from envoy.extensions.transport_sockets.tls.v3.common_pb2 import (
    TlsParameters as TlsParametersMessage,
)
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import SdsSecretConfig, Secret
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import (
    CommonTlsContext,
    DownstreamTlsContext,
    UpstreamTlsContext,
)
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import (
    HttpProtocolOptions as UpstreamHttpOptions,
)
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage, StreamAccessLogsResponse
from envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)
from envoy.service.discovery.v3.discovery_pb2 import Resource as DiscoveryResource
from envoy.type.matcher.v3.metadata_pb2 import MetadataMatcher
from envoy.type.matcher.v3.path_pb2 import PathMatcher
from envoy.type.matcher.v3.regex_pb2 import RegexMatcher
from envoy.type.matcher.v3.string_pb2 import StringMatcher
from envoy.type.v3.http_status_pb2 import HttpStatus
from envoy.type.v3.percent_pb2 import FractionalPercent, Percent
from envoy.type.v3.range_pb2 import Int32Range
from envoy.type.v3.token_bucket_pb2 import TokenBucket
from google.protobuf import json_format
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError, Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import BoolValue, StringValue, UInt32Value, UInt64Value
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from xds.core.v3.extension_pb2 import TypedExtensionConfig as XdsExtensionConfig
from xds.resource import Resource, ResourceKind
from xds.type.matcher.v3.matcher_pb2 import Matcher
from xds.type.matcher.v3.string_pb2 import StringMatcher as XdsStringMatcher

REDACTED = "[redacted]"

_MESSAGES = {
    ResourceKind.LDS: Listener,
    ResourceKind.RDS: RouteConfiguration,
    ResourceKind.CDS: Cluster,
    ResourceKind.EDS: ClusterLoadAssignment,
    ResourceKind.SDS: Secret,
}


def serialize(message: Message) -> bytes:
    """The message's bytes, equal for equal content; maps are sorted by key."""
    return message.SerializeToString(deterministic=True)


def pack(message: Message) -> Any:
    """The message in an ``Any``, serialized deterministically; ``Any.Pack`` is not."""
    return Any(type_url=type_url(message), value=serialize(message))


def type_url(message: Message) -> str:
    """The URL by which Envoy knows the type of the message."""
    return f"type.googleapis.com/{message.DESCRIPTOR.full_name}"


def resource_of(kind: ResourceKind, name: str, message: Message) -> Resource:
    """The resource that holds the message."""
    return Resource.of(kind, name, serialize(message))


def message_of(resource: Resource) -> Untyped:
    """The message that the resource holds. A secret's holds its private key: do not print it."""
    return _MESSAGES[resource.kind].FromString(resource.body)


def to_json(resource: Resource) -> dict[str, Untyped]:
    """The resource as people read it: proto field names, keys sorted by path, private keys hidden.

    Certificates are public and stay, as text.
    """
    message = message_of(resource)
    if resource.kind is ResourceKind.SDS:
        _redact(message)
    return to_dict(message)


def to_dict(message: Message) -> dict[str, Untyped]:
    """The message as JSON, with proto field names; nothing is hidden."""
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def duration(seconds: float) -> Duration:
    """The duration, exact to the nanosecond that the number names."""
    whole = int(seconds)
    return Duration(seconds=whole, nanos=round((seconds - whole) * 1_000_000_000))


def _redact(secret: Untyped) -> None:
    certificate = secret.tls_certificate
    if certificate.HasField("private_key"):
        certificate.private_key.inline_string = REDACTED
    for source in (certificate.certificate_chain, secret.validation_context.trusted_ca):
        if source.inline_bytes:
            source.inline_string = source.inline_bytes.decode("ascii", "replace")
