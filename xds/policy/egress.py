"""Traffic that may leave the mesh: requests by host, connections by server name and address.

An Egress that a client is a source of becomes grants here, each with the name of its object, so
that what was let out, or not, can be told. Order matters where it says so: the first that fits
wins, the oldest object's before younger ones. Specification: data-plane 4.6 and 5.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from xds.policy.http import HttpMatch
from xds.policy.settings import PLAIN_CLUSTER, Connections


class EgressProtocol(StrEnum):
    """How traffic to a port outside is told from other traffic."""

    HTTP = "http"
    HTTPS = "https"
    TCP = "tcp"
    TCP_SERVER_FIRST = "tcp-server-first"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class EgressCluster:
    """Where traffic goes: a host by DNS, or with an empty host wherever the client dialled."""

    name: str
    host: str = ""
    port: int
    connections: Connections = PLAIN_CLUSTER.connections


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressRoute:
    """Requests of a host that are let out, to which cluster, and by which Egresses."""

    match: HttpMatch
    cluster: str
    granted_by: tuple[str, ...]
    """``<namespace>/<name>``; sorted, never empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressHost:
    """A host that requests name; ``*`` is any. No routes: all of them are answered 404."""

    name: str
    domains: tuple[str, ...]
    routes: tuple[EgressRoute, ...]
    """In canonical order (5.13); matches are distinct."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressHttp:
    """Requests to a port: one chain and one route configuration."""

    port: int
    granted_by: str = ""
    """Egresses whose ``ranges`` it is for, joined by commas; empty: for all other addresses."""
    ranges: tuple[str, ...] = ()
    """Networks the destination must be in; empty: anywhere."""
    hosts: tuple[EgressHost, ...]
    normalize_paths: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressStream:
    """Connections to a port that are passed on untouched."""

    port: int
    protocol: EgressProtocol
    """Never HTTP. HTTPS: only TLS."""
    server_names: tuple[str, ...] = ()
    """HTTPS: names the client must ask for, ``*.x`` for any below x; empty: any."""
    ranges: tuple[str, ...] = ()
    cluster: str
    granted_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Egress:
    """All that one identity may send outside."""

    clusters: tuple[EgressCluster, ...] = ()
    """Every cluster that a route or stream names; sorted, names are unique."""
    http: tuple[EgressHttp, ...] = ()
    """Of one port, those with ranges come first; the first that fits wins."""
    streams: tuple[EgressStream, ...] = ()
    """The first that fits wins; HTTPS before TCP."""

    @property
    def ports(self) -> frozenset[int]:
        """The ports that anything leaves by."""
        return frozenset([*(http.port for http in self.http), *(s.port for s in self.streams)])

    @property
    def named_clusters(self) -> frozenset[str]:
        """The clusters that a route or a stream names."""
        routes = (route for http in self.http for host in http.hosts for route in host.routes)
        return frozenset([*(r.cluster for r in routes), *(s.cluster for s in self.streams)])


NO_EGRESS = Egress()
