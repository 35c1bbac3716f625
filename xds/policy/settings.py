"""How a client calls one host: bounds of connections, ejection, balancing, and what a route adds.

``ClusterSettings`` belongs to the cluster of whoever answers, whichever client calls it;
``RoutePolicy`` to the host that was dialled. Both are neutral: mesh services and hosts outside use
the same values. Specification: data-plane 4.8, 4.9 and 5.10.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from xds.policy.service import MeshService


@dataclass(frozen=True, slots=True, kw_only=True)
class Connections:
    """Bounds of what one client opens to a host; None: no bound, or Envoy's default time."""

    connect_timeout_seconds: float | None = None
    """Never 0: Envoy refuses the cluster."""
    max_connections: int | None = None
    max_pending_requests: int | None = None
    max_requests: int | None = None
    max_retries: int | None = None
    max_requests_per_connection: int | None = None
    """Never 0: leave it out for no bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlierDetection:
    """When an endpoint that answers with errors gets no requests for a while."""

    consecutive_errors: int
    """5xx or failed connections in a row."""
    interval_seconds: float
    base_ejection_seconds: float
    """Grows with every further ejection of the same endpoint."""
    max_ejection_percent: int


class Balancing(StrEnum):
    """How the endpoint of a request is chosen, as Envoy names it."""

    ROUND_ROBIN = "ROUND_ROBIN"
    LEAST_REQUEST = "LEAST_REQUEST"
    RANDOM = "RANDOM"
    RING_HASH = "RING_HASH"
    MAGLEV = "MAGLEV"

    @property
    def hashes(self) -> bool:
        """True where requests with equal hash go to one endpoint."""
        return self in (Balancing.RING_HASH, Balancing.MAGLEV)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """All that a cluster depends on beside its service and the mesh's TLS."""

    connections: Connections = Connections()
    outliers: OutlierDetection | None = None
    balancing: Balancing = Balancing.ROUND_ROBIN
    health_check: bool = False
    """Ask each endpoint's sidecar from time to time whether it is there."""


PLAIN_CLUSTER = ClusterSettings()


@dataclass(frozen=True, slots=True, kw_only=True)
class HashKey:
    """What requests are told apart by: exactly one of header, cookie and the client's address."""

    header: str = ""
    cookie: str = ""
    cookie_ttl_seconds: float | None = None
    """Given: a client without the cookie is sent one that lives so long; 0: for its session."""
    source_address: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long a request may take; None or 0: as long as it likes."""

    request_seconds: float | None = None
    """From the end of the request to the end of the answer."""
    idle_seconds: float | None = None
    """Without a byte in either direction."""


NO_TIMEOUTS = Timeouts()


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When a failed request is tried again."""

    retry_on: str
    """Envoy's words, separated by commas."""
    num_retries: int = 1
    per_try_seconds: float | None = None
    """None: the route's own timeout."""
    base_interval_seconds: float | None = None
    """Before the first further try, doubled up to ten times itself; None: 25 ms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """A service that is sent copies of requests; its answers are thrown away."""

    service: MeshService
    percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutePolicy:
    """What every route of a called host says beside where it leads."""

    timeouts: Timeouts = NO_TIMEOUTS
    retry: RetryPolicy | None = None
    hash_keys: tuple[HashKey, ...] = ()
    """In the order written: the hash is that of all of them together."""
    mirror: Mirror | None = None


PLAIN_ROUTE = RoutePolicy()
