"""UpstreamTrafficSetting: how clients call one host, and how much of it its servers take.

Raw objects come in through ``scheme.decode``; views go to the snapshot and to ``app/validate``,
which checks what needs a message of its own. Source: kubernetes-surface 1.8.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from app.objects.config import Duration
from app.objects.core import PortNumber
from app.objects.meta import KubeModel, KubeObject, RequiredName, shown, soft_error
from app.objects.policy import MAX_ENTRIES, Bounded, Count, Text
from app.objects.smi import Pattern

Amount = Annotated[int, Field(ge=1, le=2**32 - 1)]
Unit = Literal["second", "minute", "hour"]


class TcpConnections(KubeModel):
    """Bounds of connections; None means no bound of its own."""

    max_connections: Count | None = None
    connect_timeout: Duration | None = None


class HttpConnections(KubeModel):
    """Bounds of requests; None means no bound of its own."""

    max_requests: Count | None = None
    max_requests_per_connection: Count | None = None
    max_pending_requests: Count | None = None
    max_retries: Count | None = None


class ConnectionSettings(KubeModel):
    """How clients connect to the host."""

    tcp: TcpConnections | None = None
    http: HttpConnections | None = None


class RouteTimeouts(KubeModel):
    """How long a request may take; None or no time at all: as long as it likes."""

    request: Duration | None = None
    """From the end of the request to the end of the answer."""
    idle: Duration | None = None
    """Without a byte in either direction."""


class OutlierDetection(KubeModel):
    """When an endpoint that fails gets no requests for a while; each client judges by itself."""

    consecutive_errors: Annotated[int, Field(ge=1, le=2**32 - 1)] = 5
    interval: Duration = timedelta(seconds=10)
    base_ejection_time: Duration = timedelta(seconds=30)
    max_ejection_percent: Annotated[int, Field(ge=0, le=100)] = 100


class HashCookie(KubeModel):
    """A cookie that tells clients apart."""

    name: Text
    ttl: Duration | None = None
    """Given: who has none is sent one that lives so long; 0s: for the session."""


class HashSource(KubeModel):
    """What requests are told apart by: one of three kinds."""

    header: Annotated[str, Field(min_length=1)] | None = None
    cookie: HashCookie | None = None
    source_ip: Annotated[bool | None, Field(alias="sourceIP")] = None

    @model_validator(mode="before")
    @classmethod
    def _one_kind(cls, raw: Any) -> Any:
        _only_one_of(("header", "cookie", "sourceIP"), raw)
        return raw


class LoadBalancer(KubeModel):
    """How a client chooses the endpoint of a request."""

    policy: Literal["RoundRobin", "LeastRequest", "Random", "RingHash", "Maglev"] = "RoundRobin"
    hash_on: Annotated[tuple[HashSource, ...], Bounded] = ()
    """Counts with RingHash and Maglev only."""


class MirrorTo(KubeModel):
    """A Service of the namespace that gets copies of requests; its answers are thrown away."""

    service: RequiredName
    percentage: Annotated[float, Field(ge=0, le=100)] = 100


class TcpLocalLimit(KubeModel):
    """Connections per unit that each proxy of the host accepts."""

    connections: Amount
    unit: Unit
    burst: Count = 0


class HeaderValue(KubeModel):
    """A header to add."""

    name: Text
    value: Text


class HttpLocalLimit(KubeModel):
    """Requests per unit that each proxy of the host accepts."""

    requests: Amount
    unit: Unit
    burst: Count = 0
    response_status_code: int = 0
    """0: 429."""
    response_headers_to_add: Annotated[tuple[HeaderValue, ...], Bounded] = ()


class LocalLimit(KubeModel):
    """What each proxy counts by itself."""

    tcp: TcpLocalLimit | None = None
    http: HttpLocalLimit | None = None


class RateLimitService(KubeModel):
    """Where the shared rate-limit service listens."""

    host: Text
    port: PortNumber


class TcpEntry(KubeModel):
    """A constant part of a descriptor."""

    key: Text
    value: Text


class TcpDescriptor(KubeModel):
    """What the service counts connections by."""

    entries: Annotated[tuple[TcpEntry, ...], Field(min_length=1, max_length=MAX_ENTRIES)]


class TcpGlobalLimit(KubeModel):
    """Connections that the shared service counts."""

    rate_limit_service: RateLimitService
    domain: str
    descriptors: Annotated[tuple[TcpDescriptor, ...], Field(min_length=1, max_length=MAX_ENTRIES)]
    timeout: Duration | None = None
    fail_open: bool = True


def _only_one_of(fields: Sequence[str], raw: Any) -> None:
    """Raise unless exactly one of the fields is given."""
    given = [field for field in fields if isinstance(raw, dict) and raw.get(field) is not None]
    if len(given) != 1:
        found = " and ".join(given) or shown(None)
        raise soft_error("choice", f"must have exactly one of {', '.join(fields)}, not {found}")


class GenericKey(KubeModel):
    """A constant part of a descriptor."""

    value: Text
    key: Text = "generic_key"


class RemoteAddress(KubeModel):
    """The client's address as a part of a descriptor."""


class RequestHeader(KubeModel):
    """A header's value as a part of a descriptor."""

    name: Text
    key: Text


class HeaderCondition(KubeModel):
    """A condition on one header, in one of six ways."""

    name: Text
    exact: str | None = None
    prefix: str | None = None
    suffix: str | None = None
    regex: Pattern | None = None
    contains: str | None = None
    present: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_way(cls, raw: Any) -> Any:
        _only_one_of(("exact", "prefix", "suffix", "regex", "contains", "present"), raw)
        return raw


class HeaderValueMatch(KubeModel):
    """A constant part of a descriptor, where the headers are as said."""

    value: Text
    key: Text = "header_match"
    headers: Annotated[tuple[HeaderCondition, ...], Field(min_length=1, max_length=MAX_ENTRIES)]
    expect_match: bool = True


class HttpEntry(KubeModel):
    """A part of a descriptor: one of four kinds."""

    generic_key: GenericKey | None = None
    remote_address: RemoteAddress | None = None
    request_header: RequestHeader | None = None
    header_value_match: HeaderValueMatch | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_kind(cls, raw: Any) -> Any:
        kinds = ("genericKey", "remoteAddress", "requestHeader", "headerValueMatch")
        _only_one_of(kinds, raw)
        return raw


class HttpDescriptor(KubeModel):
    """What the service counts requests by."""

    entries: Annotated[tuple[HttpEntry, ...], Field(min_length=1, max_length=MAX_ENTRIES)]


class HttpGlobalLimit(KubeModel):
    """Requests that the shared service counts."""

    rate_limit_service: RateLimitService
    domain: str
    descriptors: Annotated[tuple[HttpDescriptor, ...], Bounded] = ()
    timeout: Duration | None = None
    fail_open: bool = True
    enable_x_rate_limit_headers: bool = False
    response_status_code: int = 0
    """0: 429."""


class GlobalLimit(KubeModel):
    """What all proxies count together."""

    tcp: TcpGlobalLimit | None = None
    http: HttpGlobalLimit | None = None


class RateLimit(KubeModel):
    """Limits of a host."""

    local: LocalLimit | None = None
    global_: GlobalLimit | None = Field(None, alias="global")


Percentage = Annotated[float, Field(ge=0, le=100)]


class FaultDelay(KubeModel):
    """Requests that wait before they are passed on."""

    duration: Duration
    percentage: Percentage = 100


class FaultAbort(KubeModel):
    """Requests that are answered at once, and not passed on."""

    status: Annotated[int, Field(ge=200, le=599)]
    percentage: Percentage = 100


class FaultSetting(KubeModel):
    """Failures made on purpose; both may hit one request, the delay first."""

    delay: FaultDelay | None = None
    abort: FaultAbort | None = None


class RouteGlobalLimit(KubeModel):
    """What the shared service counts requests of one route by."""

    descriptors: Annotated[tuple[HttpDescriptor, ...], Field(min_length=1, max_length=MAX_ENTRIES)]


class RouteRateLimit(KubeModel):
    """Limits of one route."""

    local: HttpLocalLimit | None = None
    global_: RouteGlobalLimit | None = Field(None, alias="global")


class HttpRouteSetting(KubeModel):
    """Settings of the routes whose path is this pattern, letter by letter."""

    path: Annotated[Pattern, Field(min_length=1)]
    rate_limit: RouteRateLimit | None = None
    timeouts: RouteTimeouts | None = None
    """Kept by the servers of the host."""
    fault: FaultSetting | None = None


class UpstreamTrafficSettingSpec(KubeModel):
    """How traffic to one host is treated."""

    host: str
    connection_settings: ConnectionSettings | None = None
    timeouts: RouteTimeouts | None = None
    """Kept by the clients of the host."""
    outlier_detection: OutlierDetection | None = None
    load_balancer: LoadBalancer | None = None
    mirror: MirrorTo | None = None
    rate_limit: RateLimit | None = None
    fault: FaultSetting | None = None
    http_routes: Annotated[tuple[HttpRouteSetting, ...], Bounded] = ()


class UpstreamTrafficSetting(KubeObject):
    """How a host is called, and how much it takes."""

    spec: UpstreamTrafficSettingSpec
