"""An UpstreamTrafficSetting as servers keep it: typed object in, neutral values of ``xds`` out.

What Envoy could not take is left out, the smallest unit of it, and told of: admission refuses it,
the list of what is not in force shows it. A limit counts for the Service whose setting it is, and
for no other. Specification: data-plane 4.9, 4.10 and appendix C.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from app.mesh.hosts import is_host
from app.mesh.policies.entries import descriptors_of
from app.mesh.policies.problems import Problem, Problems
from app.mesh.routes import is_header_name
from app.objects.meta import shown
from app.objects.upstream import (
    FaultSetting,
    HeaderValue,
    HttpGlobalLimit,
    HttpLocalLimit,
    RateLimitService,
    RouteRateLimit,
    TcpGlobalLimit,
    Unit,
    UpstreamTrafficSettingSpec,
)
from xds.policy.limits import (
    NO_CONNECTION_LIMITS,
    NO_LIMITS,
    STATUS_CODES,
    Bucket,
    ConnectionLimits,
    Counter,
    Descriptor,
    Fault,
    LocalLimit,
    RateLimitServer,
    RequestLimits,
    SharedConnectionLimit,
    SharedLimit,
)

_SECONDS: dict[Unit, int] = {"second": 1, "minute": 60, "hour": 3600}
_MOST_TOKENS = 2**32 - 1
_SHORTEST, _LONGEST = timedelta(milliseconds=1), timedelta(hours=24)
_TOO_MANY = 429
_CONTROL = frozenset("\0\r\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """What the servers of one Service enforce."""

    host: RequestLimits = NO_LIMITS
    routes: tuple[tuple[str, RequestLimits], ...] = ()
    """By path pattern; sorted, unique: the first one written counts."""
    connections: ConnectionLimits = NO_CONNECTION_LIMITS


def server_limits(spec: UpstreamTrafficSettingSpec | None, service: str) -> ServerLimits:
    """The limits of the Service ``<namespace>/<name>``; None: it has no setting."""
    return ServerLimits() if spec is None else _read(spec, service, Problems())


def wrong_limits(spec: UpstreamTrafficSettingSpec) -> tuple[Problem, ...]:
    """What is left out, and why."""
    problems = Problems()
    _read(spec, "", problems)
    return tuple(problems)


def _read(spec: UpstreamTrafficSettingSpec, service: str, problems: Problems) -> ServerLimits:
    limit = spec.rate_limit
    local, shared = (limit.local, limit.global_) if limit else (None, None)
    place = problems.at("spec.rateLimit.global.http")
    http = shared.http if shared else None
    counter = _counter(http, service, place) if http else None
    host = RequestLimits(
        local=_local(local.http if local else None, problems.at("spec.rateLimit.local.http")),
        shared=_shared(counter, descriptors_of(http.descriptors if http else (), place)),
        fault=_fault(spec.fault, problems.at("spec.fault")),
    )
    tcp = local.tcp if local else None
    connections = ConnectionLimits(
        local=_bucket(tcp.connections, tcp.unit, tcp.burst) if tcp else None,
        shared=_connections(
            shared.tcp if shared else None, problems.at("spec.rateLimit.global.tcp")
        ),
    )
    return ServerLimits(host=host, routes=_routes(spec, counter, problems), connections=connections)


def _routes(
    spec: UpstreamTrafficSettingSpec, counter: Counter | None, problems: Problems
) -> tuple[tuple[str, RequestLimits], ...]:
    found: dict[str, RequestLimits] = {}
    for index, route in enumerate(spec.http_routes):
        place = problems.at(f"spec.httpRoutes[{index}]")
        limits = RequestLimits(
            local=_local(
                route.rate_limit.local if route.rate_limit else None, place.at("rateLimit.local")
            ),
            shared=_route_shared(route.rate_limit, counter, place.at("rateLimit.global")),
            fault=_fault(route.fault, place.at("fault")),
        )
        if limits != NO_LIMITS:
            found.setdefault(route.path, limits)
    return tuple(sorted(found.items(), key=lambda one: one[0]))


def _route_shared(
    limit: RouteRateLimit | None, counter: Counter | None, problems: Problems
) -> SharedLimit | None:
    if limit is None or limit.global_ is None:
        return None
    if counter is None:
        reason = "asks nobody: say in spec.rateLimit.global.http which service counts"
        problems.note("", reason)
    return _shared(counter, descriptors_of(limit.global_.descriptors, problems))


def _shared(counter: Counter | None, descriptors: tuple[Descriptor, ...]) -> SharedLimit | None:
    if counter is None or not descriptors:
        return None
    return SharedLimit(counter=counter, descriptors=descriptors)


def _local(limit: HttpLocalLimit | None, problems: Problems) -> LocalLimit | None:
    if limit is None:
        return None
    status = _status(limit.response_status_code, problems)
    return LocalLimit(
        bucket=_bucket(limit.requests, limit.unit, limit.burst),
        status=None if status == _TOO_MANY else status,
        headers=tuple(_headers(limit.response_headers_to_add, problems)),
    )


def _bucket(amount: int, unit: Unit, burst: int) -> Bucket:
    saved = min(burst, _MOST_TOKENS - amount)
    return Bucket(amount=amount, burst=saved, seconds=_SECONDS[unit])


def _headers(headers: Iterable[HeaderValue], problems: Problems) -> Iterable[tuple[str, str]]:
    for index, header in enumerate(headers):
        name, place = header.name.lower(), problems.at(f"responseHeadersToAdd[{index}]")
        if name == "host" or name.startswith(":") or not is_header_name(name):
            place.add("name", f"is not the name of a header to answer with: {shown(header.name)}")
        elif _CONTROL & set(header.value):
            place.add("value", "has a line break or a zero byte: take it out")
        else:
            yield name, header.value


def _counter(limit: HttpGlobalLimit, service: str, problems: Problems) -> Counter | None:
    server = _server(limit.rate_limit_service, limit.domain, problems)
    status = _status(limit.response_status_code, problems)
    timeout = _seconds(limit.timeout, "timeout", problems)
    if server is None:
        return None
    return Counter(
        name=service,
        server=server,
        domain=limit.domain,
        timeout_seconds=timeout,
        fail_open=limit.fail_open,
        headers=limit.enable_x_rate_limit_headers,
        status=status,
    )


def _connections(limit: TcpGlobalLimit | None, problems: Problems) -> SharedConnectionLimit | None:
    server = _server(limit.rate_limit_service, limit.domain, problems) if limit else None
    if limit is None or server is None:
        return None
    return SharedConnectionLimit(
        server=server,
        domain=limit.domain,
        descriptors=tuple(
            tuple((entry.key, entry.value) for entry in one.entries) for one in limit.descriptors
        ),
        timeout_seconds=_seconds(limit.timeout, "timeout", problems),
        fail_open=limit.fail_open,
    )


def _server(service: RateLimitService, domain: str, problems: Problems) -> RateLimitServer | None:
    """Where to ask; None where Envoy could not."""
    usable = is_host(service.host)
    if not usable:
        reason = f"is not the name or address of a host: {shown(service.host)}"
        problems.add("rateLimitService.host", reason)
    if not domain:
        problems.add("domain", "is empty: write the domain that the service has limits for")
    return RateLimitServer(host=service.host, port=service.port) if usable and domain else None


def _status(status: int, problems: Problems) -> int:
    if status in STATUS_CODES or not status:
        return status or _TOO_MANY
    reason = f"{status} is not a status code that Envoy can answer: write one such as 429"
    problems.add("responseStatusCode", reason)
    return _TOO_MANY


def _fault(setting: FaultSetting | None, problems: Problems) -> Fault | None:
    delay, abort = (setting.delay, setting.abort) if setting else (None, None)
    seconds = _seconds(delay.duration, "delay.duration", problems) if delay else None
    if seconds is None and abort is None:
        return None
    return Fault(
        delay_seconds=seconds,
        delay_percent=delay.percentage if delay and seconds else 0,
        abort_status=abort.status if abort else None,
        abort_percent=abort.percentage if abort else 0,
    )


def _seconds(time: timedelta | None, field: str, problems: Problems) -> float | None:
    """The time; None where there is none, or one that makes no sense."""
    if time is None or _SHORTEST <= time <= _LONGEST:
        return None if time is None else time.total_seconds()
    problems.add(field, "must lie between 1ms and 24h: write such a time, or leave it out")
    return None
