"""HTTP connection managers and the order of their filters.

One spec per chain comes in, one network filter goes out. Chains of one kind and port have equal
bytes whatever services stand behind them; RDS tells those apart. Specification: data-plane 5.6.
"""

from __future__ import annotations

from dataclasses import dataclass

from xds.builders import names, telemetry, tls
from xds.builders.filters import NO_FILTERS, RequestFilters, request_filters
from xds.policy.service import Workload
from xds.protos import (
    AccessLog,
    AccessLogFilter,
    AndFilter,
    CidrRange,
    Filter,
    HeaderMatcher,
    HealthCheckFilter,
    HttpConnectionManager,
    HttpFilter,
    HttpRbac,
    Message,
    NotHealthCheckFilter,
    Rds,
    RouteConfiguration,
    Router,
    StringMatcher,
    UInt32Value,
    duration,
    pack,
)

_Hcm = HttpConnectionManager


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundHttpSpec:
    """What the HTTP chain of a called port depends on."""

    port: int
    counted_as: Workload | None
    """The source label of request counters; None: requests are not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundHttpSpec:
    """What the HTTP chains of a served port depend on."""

    target: int
    normalize_paths: bool
    filters: RequestFilters = NO_FILTERS
    denies: bool = False
    """True puts the filter of denials in; what is denied comes by RDS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressHttpSpec:
    """What the chain of requests to a port outside depends on."""

    routes: str
    normalize_paths: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressHttpSpec:
    """What the chains of gateways on a target port depend on."""

    routes: str
    normalize_paths: bool
    filters: RequestFilters = NO_FILTERS


def outbound_hcm(spec: OutboundHttpSpec) -> Filter:
    """HTTP to the mesh: routed by Host header, logged, counted; nothing is authorised here."""
    hcm = _mesh_hcm(names.outbound_routes(spec.port))
    if spec.counted_as is not None:
        hcm.access_log.append(telemetry.stats_log(spec.counted_as))
    hcm.http_filters.append(_router())
    return _filter(hcm)


def inbound_hcm(spec: InboundHttpSpec) -> Filter:
    """HTTP from the mesh. The RBAC filter is always there and always empty: its rules come by RDS.

    Envoy accepts and ignores rules for a filter the chain lacks, which would be open to all.
    """
    hcm = _mesh_hcm(names.inbound_routes(spec.target))
    if spec.normalize_paths:
        _normalize_paths(hcm)
    hcm.http_filters.append(_health_check())
    for log in hcm.access_log:
        _leave_out_checks(log)
    if spec.denies:
        hcm.http_filters.append(_http_filter(names.HTTP_DENIALS, HttpRbac()))
    hcm.http_filters.extend(inbound_filters(spec.filters))
    return _filter(hcm)


def ingress_hcm(spec: IngressHttpSpec) -> Filter:
    """HTTP from a gateway: the filters of traffic from the mesh, but for its health checks."""
    hcm = _mesh_hcm(spec.routes)
    if spec.normalize_paths:
        _normalize_paths(hcm)
    hcm.http_filters.extend(inbound_filters(spec.filters))
    return _filter(hcm)


def egress_hcm(spec: EgressHttpSpec) -> Filter:
    """HTTP to the outside: routed by Host header, logged."""
    hcm = _mesh_hcm(spec.routes)
    if spec.normalize_paths:
        _normalize_paths(hcm)
    hcm.http_filters.append(_router())
    return _filter(hcm)


def inbound_filters(spec: RequestFilters) -> list[HttpFilter]:
    """What every chain of HTTP from elsewhere has, from the mesh or from gateways, in order."""
    access = _http_filter(names.HTTP_RBAC, HttpRbac())
    return [access, *request_filters(spec), _router()]


def inline_hcm(stat_prefix: str, routes: RouteConfiguration) -> Filter:
    """HTTP on a listener of the sidecar's own: fixed routes, no access log."""
    hcm = _hcm(stat_prefix)
    hcm.route_config.CopyFrom(routes)
    hcm.http_filters.append(_router())
    return _filter(hcm)


def _mesh_hcm(routes: str) -> HttpConnectionManager:
    hcm = _hcm(routes)
    hcm.rds.CopyFrom(Rds(route_config_name=routes, config_source=tls.ads()))
    hcm.access_log.extend([telemetry.stdout_log(), telemetry.tap_log()])
    hcm.upgrade_configs.append(_Hcm.UpgradeConfig(upgrade_type="websocket"))
    hcm.stream_idle_timeout.CopyFrom(duration(0))  # long polls and idle streams are not cut
    hcm.strip_trailing_host_dot = True
    hcm.server_header_transformation = _Hcm.PASS_THROUGH  # callers see the application's own
    return hcm


def _normalize_paths(hcm: HttpConnectionManager) -> None:
    hcm.normalize_path.value = True
    hcm.merge_slashes = True
    hcm.path_with_escaped_slashes_action = _Hcm.UNESCAPE_AND_FORWARD


def _hcm(stat_prefix: str) -> HttpConnectionManager:
    loopback = [_cidr("127.0.0.0", 8), _cidr("::1", 128)]
    return _Hcm(
        stat_prefix=stat_prefix,
        codec_type=_Hcm.AUTO,
        internal_address_config=_Hcm.InternalAddressConfig(cidr_ranges=loopback),
    )


def _cidr(prefix: str, length: int) -> CidrRange:
    return CidrRange(address_prefix=prefix, prefix_len=UInt32Value(value=length))


def _health_check() -> HttpFilter:
    """Answers sidecars that ask for this one: first of all, whatever is allowed or limited.

    It is always there: clients may begin to ask before a change of this listener arrives.
    """
    config = HealthCheckFilter(
        headers=[
            HeaderMatcher(name=":path", string_match=StringMatcher(exact=names.HEALTH_PATH)),
            HeaderMatcher(name=names.HEALTH_HEADER, present_match=True),
        ]
    )
    config.pass_through_mode.value = False
    return _http_filter("envoy.filters.http.health_check", config)


def _leave_out_checks(log: AccessLog) -> None:
    """The log has no line of what the health check answered: every client asks, all the time."""
    checks = AccessLogFilter(not_health_check_filter=NotHealthCheckFilter())
    if log.HasField("filter"):
        both = AndFilter(filters=[checks, log.filter])
        log.filter.CopyFrom(AccessLogFilter(and_filter=both))
    else:
        log.filter.CopyFrom(checks)


def _router() -> HttpFilter:
    return _http_filter("envoy.filters.http.router", Router())


def _http_filter(name: str, config: Message) -> HttpFilter:
    return HttpFilter(name=name, typed_config=pack(config))


def _filter(hcm: HttpConnectionManager) -> Filter:
    return Filter(name="envoy.filters.network.http_connection_manager", typed_config=pack(hcm))
