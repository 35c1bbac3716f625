"""Whether a client's traffic may leave the mesh, decided from the compiled policy as Envoy does it.

Comes in: ``Outbound`` of the client and where it dials. Goes out: the Egresses that let it out, or
why it stays. A law test holds it against a real Envoy. Addresses of mesh services never get here:
their chains come first. Specification: data-plane 4.6 and 5.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address, ip_network

from app.mesh.authorize import fits_request, header_values, host_of, resolved_path
from xds.policy.egress import Egress, EgressHost, EgressHttp, EgressProtocol, EgressStream
from xds.policy.http import RequestSeen


class Departure(StrEnum):
    """What becomes of traffic to outside the mesh."""

    ALLOWED = "allowed"
    NOT_FOUND = "not found"
    """404: the host is not named, or none of its routes fits."""
    MALFORMED = "malformed"
    """400: the path is not one of HTTP."""
    CLOSED = "closed"
    """No connection: nothing lets it out of this port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """Traffic as the client's sidecar sees it: at most one of a request and a server name."""

    address: str
    port: int
    request: RequestSeen | None = None
    """A request in plain HTTP; it has a Host header."""
    server_name: str | None = None
    """TLS, and the name that the client asks for; empty: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What becomes of it, and by which Egresses (``<namespace>/<name>``)."""

    departure: Departure
    granted_by: tuple[str, ...] = ()


_CLOSED = Decision(departure=Departure.CLOSED)


def decide_egress(egress: Egress, seen: Leaving) -> Decision:
    """Whether an identity with this egress may send it; the first thing that fits decides."""
    if seen.request is not None:
        for http in egress.http:
            if http.port == seen.port and _within(http.ranges, seen.address):
                return _decide_request(http, seen.request)
    for stream in egress.streams:
        if stream.port == seen.port and _takes(stream, seen):
            return Decision(departure=Departure.ALLOWED, granted_by=(stream.granted_by,))
    return _CLOSED


def _decide_request(http: EgressHttp, request: RequestSeen) -> Decision:
    path = resolved_path(request.path, normalize=http.normalize_paths)
    if path is None:
        return Decision(departure=Departure.MALFORMED)
    host = host_of(request, "")
    found = _host(http.hosts, host)
    headers = header_values(request.headers, host)
    for route in found.routes if found else ():
        if fits_request(route.match, request.method, path, headers):
            return Decision(departure=Departure.ALLOWED, granted_by=route.granted_by)
    return Decision(departure=Departure.NOT_FOUND)


def _host(hosts: tuple[EgressHost, ...], asked: str) -> EgressHost | None:
    """The host whose domain fits best: exact, then the longest wildcard, then any."""
    wanted = asked.lower()
    best: tuple[int, EgressHost] | None = None
    for host in hosts:
        for domain in host.domains:
            rank = _rank(domain.lower(), wanted)
            if rank and (best is None or rank > best[0]):
                best = rank, host
    return best[1] if best else None


def _rank(domain: str, wanted: str) -> int:
    if domain == wanted:
        return 1000
    if domain == "*":
        return 1
    suffix = domain[1:]
    fits = domain.startswith("*") and wanted.endswith(suffix) and len(wanted) > len(suffix)
    return len(domain) if fits else 0


def _takes(stream: EgressStream, seen: Leaving) -> bool:
    if stream.protocol is EgressProtocol.HTTPS:
        asked = seen.server_name
        if asked is None or not _names(stream.server_names, asked.lower()):
            return False
    return _within(stream.ranges, seen.address)


def _names(accepted: tuple[str, ...], asked: str) -> bool:
    return not accepted or any(
        asked.endswith(name[1:]) if name.startswith("*.") else asked == name for name in accepted
    )


def _within(ranges: tuple[str, ...], address: str) -> bool:
    found = ip_address(address)
    return not ranges or any(found in ip_network(written) for written in ranges)
