"""An UpstreamTrafficSetting as clients keep it: typed object in, neutral values of ``xds`` out.

What Envoy could not take is left out here, so its default holds; ``wrong_calls`` says what that
was, for admission and for the list of what is not in force. Services of the mesh and Egresses that
name a setting use the same values. Specification: data-plane 4.9 and 5.10.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from app.mesh.routes import is_header_name
from app.objects.meta import shown
from app.objects.upstream import (
    HashSource,
    LoadBalancer,
    RouteTimeouts,
    UpstreamTrafficSettingSpec,
)
from app.objects.upstream import OutlierDetection as OutlierSettings
from xds.policy.settings import (
    NO_TIMEOUTS,
    Balancing,
    ClusterSettings,
    Connections,
    HashKey,
    OutlierDetection,
    Timeouts,
)

_SHORTEST = timedelta(milliseconds=1)
"""Envoy counts in milliseconds: with 0 of them some timers would never rest."""
_BALANCING = {
    "RoundRobin": Balancing.ROUND_ROBIN,
    "LeastRequest": Balancing.LEAST_REQUEST,
    "Random": Balancing.RANDOM,
    "RingHash": Balancing.RING_HASH,
    "Maglev": Balancing.MAGLEV,
}


def cluster_settings(
    spec: UpstreamTrafficSettingSpec | None, *, health_check: bool = False
) -> ClusterSettings:
    """The settings of a host's cluster; None: it has no UpstreamTrafficSetting."""
    if spec is None:
        return ClusterSettings(health_check=health_check)
    return ClusterSettings(
        connections=connections(spec),
        outliers=_outliers(spec.outlier_detection),
        balancing=_BALANCING[(spec.load_balancer or LoadBalancer()).policy],
        health_check=health_check,
    )


def connections(spec: UpstreamTrafficSettingSpec) -> Connections:
    """The bounds of ``connectionSettings``."""
    settings = spec.connection_settings
    tcp = settings.tcp if settings else None
    http = settings.http if settings else None
    return Connections(
        connect_timeout_seconds=_positive(tcp.connect_timeout if tcp else None),
        max_connections=tcp.max_connections if tcp else None,
        max_pending_requests=http.max_pending_requests if http else None,
        max_requests=http.max_requests if http else None,
        max_retries=http.max_retries if http else None,
        max_requests_per_connection=(http.max_requests_per_connection or None) if http else None,
    )


def hash_keys(spec: UpstreamTrafficSettingSpec | None) -> tuple[HashKey, ...]:
    """What requests to the host are told apart by; empty where its policy does not hash."""
    balancer = spec.load_balancer if spec else None
    if balancer is None or not _BALANCING[balancer.policy].hashes:
        return ()
    return tuple(_hash_key(one) for one in balancer.hash_on if not _wrong_hash(one))


def client_timeouts(spec: UpstreamTrafficSettingSpec | None) -> Timeouts:
    """How long requests to the host may take."""
    return _timeouts(spec.timeouts) if spec else NO_TIMEOUTS


def server_timeouts(spec: UpstreamTrafficSettingSpec | None) -> tuple[tuple[str, Timeouts], ...]:
    """How long requests of single routes may take, by path pattern; sorted, the first counts."""
    found: dict[str, Timeouts] = {}
    for route in spec.http_routes if spec else ():
        if route.timeouts is not None:
            found.setdefault(route.path, _timeouts(route.timeouts))
    return tuple(sorted(found.items()))


def wrong_calls(spec: UpstreamTrafficSettingSpec) -> Iterator[tuple[str, str]]:
    """Fields that are left out, and why: the end of a sentence about each."""
    too_short = "is no time at all: leave it out for {}, or write a longer one"
    tcp = spec.connection_settings.tcp if spec.connection_settings else None
    if _is_short(tcp.connect_timeout if tcp else None):
        yield "spec.connectionSettings.tcp.connectTimeout", too_short.format("5s")
    outliers = spec.outlier_detection
    if outliers is not None and _is_short(outliers.interval):
        yield "spec.outlierDetection.interval", too_short.format("10s")
    if outliers is not None and _is_short(outliers.base_ejection_time):
        yield "spec.outlierDetection.baseEjectionTime", too_short.format("30s")
    balancer = spec.load_balancer
    if balancer is None or not balancer.hash_on:
        return
    if not _BALANCING[balancer.policy].hashes:
        reason = f"means nothing to {balancer.policy}: choose RingHash or Maglev, or leave it out"
        yield "spec.loadBalancer.hashOn", reason
    for index, one in enumerate(balancer.hash_on):
        wrong = _wrong_hash(one)
        if wrong:
            yield f"spec.loadBalancer.hashOn[{index}]", wrong


def _outliers(settings: OutlierSettings | None) -> OutlierDetection | None:
    if settings is None:
        return None
    usual = OutlierSettings()
    return OutlierDetection(
        consecutive_errors=settings.consecutive_errors,
        interval_seconds=_longer(settings.interval, usual.interval),
        base_ejection_seconds=_longer(settings.base_ejection_time, usual.base_ejection_time),
        max_ejection_percent=settings.max_ejection_percent,
    )


def _timeouts(settings: RouteTimeouts | None) -> Timeouts:
    if settings is None:
        return NO_TIMEOUTS
    return Timeouts(
        request_seconds=_positive(settings.request), idle_seconds=_positive(settings.idle)
    )


def _hash_key(source: HashSource) -> HashKey:
    if source.header is not None:
        return HashKey(header=source.header.lower())
    if source.cookie is not None:
        ttl = source.cookie.ttl
        lives = None if ttl is None else ttl.total_seconds()
        return HashKey(cookie=source.cookie.name, cookie_ttl_seconds=lives)
    return HashKey(source_address=True)


def _wrong_hash(source: HashSource) -> str:
    """Why requests cannot be told apart by it; empty when they can."""
    if source.header is not None and not is_header_name(source.header.lower()):
        return f"is not the name of a header: {shown(source.header)}"
    if source.cookie is not None and not is_header_name(source.cookie.name.lower()):
        return f"is not the name of a cookie: {shown(source.cookie.name)}"
    if source.source_ip is False:
        return "says sourceIP: false, which tells nothing apart: leave it out"
    return ""


def _is_short(time: timedelta | None) -> bool:
    return time is not None and time < _SHORTEST


def _positive(time: timedelta | None) -> float | None:
    """The time in seconds, None for none at all."""
    return None if time is None or time < _SHORTEST else time.total_seconds()


def _longer(time: timedelta, usual: timedelta) -> float:
    return (usual if _is_short(time) else time).total_seconds()
