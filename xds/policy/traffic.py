"""What traffic a proxy may send and receive: outbound and inbound policy.

Specification: data-plane 3, 4 and 5.4 to 5.9. Every tuple is sorted (5.13) unless it says
otherwise, so that equal policy is equal bytes. Parts that many proxies share are the same objects:
builders cache by them.
"""

from __future__ import annotations

from dataclasses import dataclass

from xds.policy.egress import NO_EGRESS, Egress
from xds.policy.http import HttpMatch
from xds.policy.identity import ServiceIdentity, SubjectName
from xds.policy.ingress import IngressPort
from xds.policy.limits import (
    NO_CONNECTION_LIMITS,
    NO_LIMITS,
    ConnectionLimits,
    ExternalAuthorization,
    RequestLimits,
)
from xds.policy.service import MeshService
from xds.policy.settings import PLAIN_CLUSTER, PLAIN_ROUTE, ClusterSettings, RoutePolicy, Timeouts


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """A mesh service this proxy may call: a cluster, its endpoints, the names servers must prove.

    It says nothing of the caller's identity, so that all callers share the cluster.
    """

    service: MeshService
    server_names: tuple[SubjectName, ...]
    """Signing form first; empty when nobody serves: then no certificate is accepted."""
    endpoints_of: tuple[ServiceIdentity, ...] | None
    """Identities whose endpoints may be called; None means all of them (permissive mode)."""
    settings: ClusterSettings = PLAIN_CLUSTER
    """Equal for all upstreams that lead to one cluster."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class WeightedUpstream:
    """A share of a service's traffic; weights are relative and > 0."""

    service: MeshService
    weight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRule:
    """How traffic to a dialled service is spread: its own cluster, or a TrafficSplit's backends."""

    service: MeshService
    upstreams: tuple[WeightedUpstream, ...]
    """Not empty; the service itself with weight 100 where nothing splits it."""
    matches: tuple[HttpMatch, ...] = ()
    """HTTP: only requests that fit one of them are spread so; empty: all. In canonical order."""
    others: tuple[WeightedUpstream, ...] = ()
    """Where all other requests go; empty beside ``matches``: nowhere, they are answered 404."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundHost:
    """An HTTP or gRPC service a client may call: its virtual host on the port's shared chain."""

    rule: SplitRule
    domains: tuple[str, ...]
    """Host headers that mean the service to clients of this namespace."""
    policy: RoutePolicy = PLAIN_ROUTE


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundHttpPort:
    """All HTTP services a client reaches on one port: one chain, one route configuration."""

    port: int
    addresses: tuple[str, ...]
    hosts: tuple[OutboundHost, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundTcp:
    """A TCP service a client may call: one chain on its port and addresses."""

    rule: SplitRule
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeniedPort:
    """Mesh addresses of a port that the client may not call; never passed through (5.4)."""

    port: int
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class Outbound:
    """All traffic that may leave a proxy.

    Each (port, address) stands once in http, tcp and denied together.
    """

    upstreams: tuple[Upstream, ...]
    """Every service that a rule or mirror of http or tcp names, sorted by cluster name; unique."""
    http: tuple[OutboundHttpPort, ...]
    tcp: tuple[OutboundTcp, ...]
    passthrough: bool
    """Mesh-wide egress: what no chain claims goes to its original destination."""
    denied: tuple[DeniedPort, ...]
    """Empty unless ``passthrough``, or on ports of ``egress``."""
    egress: Egress = NO_EGRESS
    """Empty where ``passthrough``: that lets out all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundRule:
    """Requests that fit the match are allowed to the principals; None means any mesh identity."""

    match: HttpMatch
    principals: tuple[SubjectName, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundHost:
    """A virtual host of a served HTTP port: the service itself, or a split's root that it backs.

    ``service`` gives the local cluster; ``rules`` are in canonical order (5.13), with distinct
    matches; no rules: the host answers 404 to everybody. A rule always has principals or None,
    never an empty tuple.
    """

    service: MeshService
    domains: tuple[str, ...]
    rules: tuple[InboundRule, ...]
    timeouts: tuple[tuple[str, Timeouts], ...] = ()
    """Of the routes whose path pattern is this text; sorted, paths are unique."""
    limits: RequestLimits = NO_LIMITS
    route_limits: tuple[tuple[str, RequestLimits], ...] = ()
    """Instead of the host's, of the routes whose path pattern is this text; sorted, unique."""
    denials: tuple[InboundRule, ...] = ()
    """Requests that are refused whatever ``rules`` say; as them, in canonical order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundHttp:
    """The chain of a served HTTP or gRPC service, chosen by SNI and target port."""

    service: MeshService
    server_name: str
    connections: ConnectionLimits = NO_CONNECTION_LIMITS


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundHttpPort:
    """A target port that serves HTTP: its chains and the one route configuration they share."""

    target: int
    chains: tuple[InboundHttp, ...]
    hosts: tuple[InboundHost, ...]
    normalize_paths: bool
    """True when a rule names a path: ``//``, ``..``, escaped slashes are resolved first (4.3)."""
    denies: bool = False
    """True when a host of the port has denials."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpPermission:
    """One TrafficTarget that admits connections to a TCP port, named ``<namespace>/<name>``."""

    name: str
    principals: tuple[SubjectName, ...]
    """Never empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundTcp:
    """The chain of a served TCP service. A service that nobody may call has no chain at all."""

    service: MeshService
    server_name: str
    permissions: tuple[TcpPermission, ...] | None
    """None: any mesh identity (permissive mode). Never an empty tuple."""
    connections: ConnectionLimits = NO_CONNECTION_LIMITS
    denied: tuple[SubjectName, ...] = ()
    """Who is turned away whatever ``permissions`` say; sorted."""


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class Inbound:
    """All traffic that a proxy accepts for its workload."""

    http: tuple[InboundHttpPort, ...]
    tcp: tuple[InboundTcp, ...]
    ingress: tuple[IngressPort, ...] = ()
    """Sorted by target, plain HTTP first; at most one of each."""
    authorization: ExternalAuthorization | None = None
    """Who is asked about every HTTP request beside the rules; None: nobody."""
