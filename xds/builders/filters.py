"""What servers enforce beside access: the filters of chains of traffic in, and their settings.

Limits, faults and external authorisation come in; HTTP filters, network filters and settings per
virtual host and route go out. A filter is in a chain only where something asks for it. All chains
of one port have the same HTTP filters, because the Host header, not the chain, decides whose limits
count; a filter of the shared service acts only for the host that names it. Specification:
data-plane 4.9, 4.10, 4.12, 5.5, 5.6 and 5.9.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass

from xds.builders import names
from xds.builders.descriptors import rate_limit
from xds.policy.limits import (
    Bucket,
    ConnectionLimits,
    Counter,
    ExternalAuthorization,
    Fault,
    LocalLimit,
    RequestLimits,
    SharedConnectionLimit,
    SharedLimit,
)
from xds.policy.traffic import InboundHost
from xds.protos import (
    Any,
    ApiVersion,
    BufferSettings,
    ExtAuthz,
    FaultAbort,
    FaultDelay,
    Filter,
    FractionalPercent,
    GrpcService,
    HeaderValue,
    HeaderValueOption,
    HTTPFault,
    HttpFilter,
    HttpLocalRateLimit,
    HttpRateLimit,
    HttpStatus,
    Message,
    NetworkLocalRateLimit,
    NetworkRateLimit,
    RateLimitDescriptor,
    RateLimitPerRoute,
    RateLimitServiceConfig,
    RuntimeFractionalPercent,
    TokenBucket,
    UInt32Value,
    duration,
    pack,
)

_MAX_BODY = 8192
_STAT_PREFIX = "http_local_rate_limiter"
_MOST = 2**32 - 1
_MILLION = 1_000_000
_ALWAYS = RuntimeFractionalPercent(default_value=FractionalPercent(numerator=100))


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFilters:
    """Which HTTP filters the chains of a port need."""

    local: bool = False
    counters: tuple[Counter, ...] = ()
    """Sorted; names are unique."""
    faults: bool = False
    authorization: ExternalAuthorization | None = None

    @classmethod
    def of(
        cls, hosts: Iterable[InboundHost], authorization: ExternalAuthorization | None
    ) -> RequestFilters:
        """The filters that one of the hosts or the mesh asks for."""
        limits = [one for host in hosts for one in all_limits(host)]
        counters = {one.shared.counter for one in limits if one.shared is not None}
        return cls(
            local=any(one.local is not None for one in limits),
            counters=tuple(sorted(counters)),
            faults=any(one.fault is not None for one in limits),
            authorization=authorization,
        )


NO_FILTERS = RequestFilters()


def all_limits(host: InboundHost) -> list[RequestLimits]:
    """The limits of the host and of each of its routes."""
    return [host.limits, *(limits for _, limits in host.route_limits)]


def request_filters(spec: RequestFilters) -> list[HttpFilter]:
    """The HTTP filters between access control and the router, in order: cheap ones first.

    Faults are last: they stand for the application's own.
    """
    found = []
    if spec.local:
        empty = HttpLocalRateLimit(stat_prefix=_STAT_PREFIX)
        found.append(_http_filter(names.HTTP_LOCAL_LIMIT, empty))
    if spec.authorization is not None:
        found.append(
            _http_filter("envoy.filters.http.ext_authz", _authorization(spec.authorization))
        )
    found += [_http_filter(names.limit_filter(one), _counter(one)) for one in spec.counters]
    if spec.faults:
        found.append(_http_filter(names.HTTP_FAULT, HTTPFault()))
    return found


def apply_limits(config: MutableMapping[str, Any], limits: RequestLimits) -> None:
    """The settings per filter of a virtual host or route are those of the limits."""
    if limits.local is not None:
        config[names.HTTP_LOCAL_LIMIT].CopyFrom(pack(_local(limits.local)))
    if limits.shared is not None:
        name = names.limit_filter(limits.shared.counter)
        config[name].CopyFrom(pack(_shared(limits.shared)))
    if limits.fault is not None:
        config[names.HTTP_FAULT].CopyFrom(pack(_fault(limits.fault)))


def connection_filters(limits: ConnectionLimits, chain: str) -> list[Filter]:
    """The network filters that count the chain's connections; they count for no other chain."""
    found = []
    if limits.local is not None:
        local = NetworkLocalRateLimit(stat_prefix=chain, token_bucket=_bucket(limits.local))
        found.append(_filter("envoy.filters.network.local_ratelimit", local))
    if limits.shared is not None:
        shared = _shared_connections(limits.shared, chain)
        found.append(_filter("envoy.filters.network.ratelimit", shared))
    return found


def _counter(counter: Counter) -> HttpRateLimit:
    found = HttpRateLimit(
        domain=counter.domain,
        failure_mode_deny=not counter.fail_open,
        rate_limit_service=_service(names.limit_cluster(counter.server), counter.timeout_seconds),
        rate_limited_status=HttpStatus(code=counter.status),
        stat_prefix=counter.name.replace("/", "_"),
    )
    if counter.headers:
        found.enable_x_ratelimit_headers = HttpRateLimit.DRAFT_VERSION_03
    if counter.timeout_seconds:
        found.timeout.CopyFrom(duration(counter.timeout_seconds))
    return found


def _shared(limit: SharedLimit) -> RateLimitPerRoute:
    return RateLimitPerRoute(rate_limits=[rate_limit(one) for one in limit.descriptors])


def _local(limit: LocalLimit) -> HttpLocalRateLimit:
    found = HttpLocalRateLimit(
        stat_prefix=_STAT_PREFIX,
        token_bucket=_bucket(limit.bucket),
        filter_enabled=_ALWAYS,
        filter_enforced=_ALWAYS,
        response_headers_to_add=[_header(name, value) for name, value in limit.headers],
    )
    if limit.status is not None:
        found.status.code = limit.status
    return found


def _header(name: str, value: str) -> HeaderValueOption:
    """A header as written: Envoy would take what stands between percent signs for a command."""
    return HeaderValueOption(
        header=HeaderValue(key=name, value=value.replace("%", "%%")),
        append_action=HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
    )


def _bucket(bucket: Bucket) -> TokenBucket:
    return TokenBucket(
        max_tokens=min(bucket.amount + bucket.burst, _MOST),
        tokens_per_fill=UInt32Value(value=bucket.amount),
        fill_interval=duration(bucket.seconds),
    )


def _shared_connections(limit: SharedConnectionLimit, chain: str) -> NetworkRateLimit:
    found = NetworkRateLimit(
        stat_prefix=chain,
        domain=limit.domain,
        failure_mode_deny=not limit.fail_open,
        rate_limit_service=_service(names.limit_cluster(limit.server), limit.timeout_seconds),
    )
    for pairs in limit.descriptors:
        entries = [RateLimitDescriptor.Entry(key=key, value=value) for key, value in pairs]
        found.descriptors.append(RateLimitDescriptor(entries=entries))
    if limit.timeout_seconds:
        found.timeout.CopyFrom(duration(limit.timeout_seconds))
    return found


def _fault(fault: Fault) -> HTTPFault:
    found = HTTPFault()
    if fault.delay_seconds is not None:
        delay = FaultDelay(
            fixed_delay=duration(fault.delay_seconds), percentage=_share(fault.delay_percent)
        )
        found.delay.CopyFrom(delay)
    if fault.abort_status is not None:
        share = _share(fault.abort_percent)
        found.abort.CopyFrom(FaultAbort(http_status=fault.abort_status, percentage=share))
    return found


def _share(percent: float) -> FractionalPercent:
    return FractionalPercent(
        numerator=round(percent * _MILLION / 100), denominator=FractionalPercent.MILLION
    )


def _authorization(asked: ExternalAuthorization) -> ExtAuthz:
    return ExtAuthz(
        grpc_service=_grpc(names.AUTHORIZATION, asked.timeout_seconds),
        transport_api_version=ApiVersion.V3,
        failure_mode_allow=asked.allow_on_failure,
        with_request_body=BufferSettings(max_request_bytes=_MAX_BODY, allow_partial_message=True),
        stat_prefix=asked.stat_prefix,
    )


def _service(cluster: str, timeout_seconds: float | None) -> RateLimitServiceConfig:
    return RateLimitServiceConfig(
        grpc_service=_grpc(cluster, timeout_seconds), transport_api_version=ApiVersion.V3
    )


def _grpc(cluster: str, timeout_seconds: float | None) -> GrpcService:
    found = GrpcService(envoy_grpc=GrpcService.EnvoyGrpc(cluster_name=cluster))
    if timeout_seconds:
        found.timeout.CopyFrom(duration(timeout_seconds))
    return found


def _http_filter(name: str, config: Message) -> HttpFilter:
    return HttpFilter(name=name, typed_config=pack(config))


def _filter(name: str, config: Message) -> Filter:
    return Filter(name=name, typed_config=pack(config))
