"""What servers enforce on requests and connections beside access: limits, faults, permission asked.

Neutral values in the words of the mesh. A limit belongs to one virtual host, to routes of it or to
one chain, so it never counts what another service is sent. Specification: data-plane 4.9, 4.10 and
4.12.
"""

from __future__ import annotations

from dataclasses import dataclass

STATUS_CODES = frozenset(
    {*range(400, 418), 421, 422, 423, 424, 426, 428, 429, 431, *range(500, 509), 510, 511}
)
"""Answers to what is over a limit that Envoy has a name for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """``amount`` per interval, and ``burst`` more that were saved up; both together < 2³²."""

    amount: int
    """Never 0."""
    burst: int
    seconds: int
    """Length of the interval, at least 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalLimit:
    """Requests that each proxy counts by itself."""

    bucket: Bucket
    status: int | None = None
    """One of ``STATUS_CODES``; None: 429."""
    headers: tuple[tuple[str, str], ...] = ()
    """Added to the answer, in the order written; values are literal."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class RateLimitServer:
    """Where a shared rate-limit service listens."""

    host: str
    """A DNS name or an IP address."""
    port: int


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Counter:
    """How requests to one Service are counted by a shared service: one HTTP filter."""

    name: str
    """``<namespace>/<name>`` of the Service: what tells filters of one chain apart."""
    server: RateLimitServer
    domain: str
    timeout_seconds: float | None
    """None: Envoy's 20 ms. Never 0."""
    fail_open: bool
    headers: bool
    """Answer with ``x-ratelimit-*`` headers."""
    status: int
    """One of ``STATUS_CODES``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenericKey:
    """A constant."""

    key: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteAddress:
    """The client's address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderEntry:
    """The value of a header; a request without it is not counted by the descriptor."""

    header: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderCondition:
    """A header that fits: ``how`` is exact, prefix, suffix, regex, contains or present."""

    name: str
    how: str
    value: str = ""
    """For present: ``true`` or ``false``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderValueMatch:
    """A constant, where the headers fit, or, with ``expect`` false, where they do not."""

    key: str
    value: str
    expect: bool
    headers: tuple[HeaderCondition, ...]
    """Never empty."""


Entry = GenericKey | RemoteAddress | HeaderEntry | HeaderValueMatch
Descriptor = tuple[Entry, ...]
"""What the shared service counts by; never empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedLimit:
    """Requests that all proxies count together."""

    counter: Counter
    descriptors: tuple[Descriptor, ...]
    """Never empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Failures made on purpose, to see what callers make of them."""

    delay_seconds: float | None = None
    """None: no delays; never 0."""
    delay_percent: float = 100.0
    abort_status: int | None = None
    """None: no aborts; 200 to 599."""
    abort_percent: float = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """What is enforced on requests of a virtual host, or of a route instead of its host's."""

    local: LocalLimit | None = None
    shared: SharedLimit | None = None
    fault: Fault | None = None


NO_LIMITS = RequestLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedConnectionLimit:
    """Connections that all proxies count together."""

    server: RateLimitServer
    domain: str
    descriptors: tuple[tuple[tuple[str, str], ...], ...]
    """Keys and values; never empty, nor is one of them."""
    timeout_seconds: float | None
    fail_open: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """What is enforced on connections of a chain."""

    local: Bucket | None = None
    shared: SharedConnectionLimit | None = None


NO_CONNECTION_LIMITS = ConnectionLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalAuthorization:
    """A gRPC server that is asked about every request from outside the Pod."""

    host: str
    """Empty: there is none, and it is as if it were down."""
    port: int
    stat_prefix: str
    timeout_seconds: float
    """Never 0."""
    allow_on_failure: bool
