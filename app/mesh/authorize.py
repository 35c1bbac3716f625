"""What a server's sidecar answers to a request, decided from the compiled policy as Envoy does it.

Comes in: ``Inbound`` of the server, the service that is called, the names in the caller's
certificate, and the request. Goes out: a ``Verdict``. A law test holds it against a real Envoy. It
knows no more of a request than ``RequestSeen`` says: headers that sidecars write themselves
(``x-request-id``, ``x-forwarded-proto``) count only where they are given. Specification:
data-plane 4.3, 4.4, 5.5, 6 and 9.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum

from app.mesh.paths import normalized
from app.objects.patterns import matches
from xds.policy.http import HttpMatch, RequestSeen
from xds.policy.identity import SubjectName
from xds.policy.service import MeshService
from xds.policy.traffic import Inbound, InboundHost, InboundHttpPort, InboundRule, InboundTcp

_AUTHORITY = ":authority"
_JOINED = frozenset((
    "accept", "accept-encoding", "access-control-request-headers", "access-control-request-method",
    "authorization", "cache-control", "content-encoding", "content-type", "expect",
    "grpc-accept-encoding", "grpc-timeout", "if-match", "if-modified-since", "if-none-match",
    "origin", "pragma", "referer", "user-agent", "via", "x-client-trace-id",
    "x-envoy-attempt-count", "x-envoy-decorator-operation", "x-envoy-downstream-service-cluster",
    "x-envoy-external-address", "x-envoy-original-path", "x-forwarded-for", "x-forwarded-host",
    "x-forwarded-proto", "x-request-id",
))  # fmt: skip
"""Repetitions of these are one value with commas to Envoy; of all others, each value counts."""
_REMOVED = frozenset((
    "connection", "keep-alive", "proxy-connection", "te", "upgrade", "x-envoy-internal",
    "x-envoy-ip-tags", "x-envoy-max-retries", "x-envoy-retry-on", "x-forwarded-client-cert",
))  # fmt: skip
"""Envoy takes these out before it compares (an upgrade to a WebSocket keeps its own)."""
_PRINTABLE = frozenset(map(chr, range(0x21, 0x7F)))


class Verdict(StrEnum):
    """What becomes of a request or connection."""

    ALLOWED = "allowed"
    """It reaches the application."""
    FORBIDDEN = "forbidden"
    """403: some rule names the request, none of them for this caller; or it is denied."""
    NOT_FOUND = "not found"
    """404: no rule of the host names the request."""
    MALFORMED = "malformed"
    """400: the path is not one of HTTP."""
    CLOSED = "closed"
    """No connection: nothing is served there, or not to this caller."""


def authorize(
    inbound: Inbound,
    service: MeshService,
    caller: Collection[SubjectName],
    request: RequestSeen | None = None,
) -> Verdict:
    """What a caller with these names is answered by a server of the service.

    Without a request: whether a connection is accepted. A request without Host header asks for the
    service's own name.
    """
    for port in inbound.http:
        for chain in port.chains:
            if _same_chain(chain.service, service):
                host = chain.server_name if request is None else host_of(request, chain.server_name)
                return _answer(port, host, caller, request)
    for tcp in inbound.tcp:
        if _same_chain(tcp.service, service):
            return Verdict.ALLOWED if _admits(tcp, caller) else Verdict.CLOSED
    return Verdict.CLOSED


def host_named(request: RequestSeen) -> str:
    """The Host header as sidecars compare it: in lower case, without the dot of a full name."""
    return host_of(request, "").lower()


def fits(match: HttpMatch, request: RequestSeen, *, normalize: bool = False) -> bool:
    """True where the request meets all conditions, as a client's sidecar decides it.

    ``normalize``: as a server's sidecar does that has rules about paths.
    """
    path = resolved_path(request.path, normalize=normalize)
    values = header_values(request.headers, host_of(request, ""))
    return path is not None and fits_request(match, request.method, path, values)


def _same_chain(served: MeshService, called: MeshService) -> bool:
    """True where both have one chain: it is chosen by host name and target port, not by port."""
    return (served.full_name, served.target) == (called.full_name, called.target)


def _admits(tcp: InboundTcp, caller: Collection[SubjectName]) -> bool:
    if any(name in caller for name in tcp.denied):
        return False
    if tcp.permissions is None:
        return True
    return any(name in caller for one in tcp.permissions for name in one.principals)


def _answer(
    port: InboundHttpPort, host: str, caller: Collection[SubjectName], request: RequestSeen | None
) -> Verdict:
    if request is None:
        return Verdict.ALLOWED
    path = resolved_path(request.path, normalize=port.normalize_paths)
    if path is None:
        return Verdict.MALFORMED
    virtual_host = _virtual_host(port.hosts, host)
    rules = () if virtual_host is None else virtual_host.rules
    headers = header_values(request.headers, host)
    fitting = [rule for rule in rules if fits_request(rule.match, request.method, path, headers)]
    if not fitting:
        return Verdict.NOT_FOUND
    denials = () if virtual_host is None else virtual_host.denials
    if any(
        _names_one(rule, caller) and fits_request(rule.match, request.method, path, headers)
        for rule in denials
    ):
        return Verdict.FORBIDDEN
    for rule in fitting:
        if _names_one(rule, caller):
            return Verdict.ALLOWED
    return Verdict.FORBIDDEN


def _names_one(rule: InboundRule, caller: Collection[SubjectName]) -> bool:
    return rule.principals is None or any(name in caller for name in rule.principals)


def resolved_path(path: str, *, normalize: bool) -> str | None:
    """The path that is compared with rules; None where Envoy refuses the request."""
    if not path.startswith("/") or "#" in path or not _PRINTABLE.issuperset(path):
        return None
    return normalized(path) if normalize else path


def host_of(request: RequestSeen, default: str) -> str:
    """The Host header without the trailing dot of its name (``strip_trailing_host_dot``)."""
    given = next((v for name, v in request.headers if name in (_AUTHORITY, "host")), default)
    name, dot, rest = given.rpartition(".")
    return name + rest if dot and rest[:1] in ("", ":") else given


def _virtual_host(hosts: Iterable[InboundHost], host: str) -> InboundHost | None:
    """The virtual host that the header names; domains are compared without case."""
    wanted = host.lower()
    return next((h for h in hosts if any(wanted == d.lower() for d in h.domains)), None)


def header_values(headers: Iterable[tuple[str, str]], host: str) -> dict[str, list[str]]:
    """The values of each header that rules are compared with, one by one."""
    found = {_AUTHORITY: [host]}
    for name, value in headers:
        if name in _REMOVED or name == _AUTHORITY:
            continue
        if name in _JOINED and name in found:
            found[name] = [f"{found[name][0]},{value}"]
        else:
            found.setdefault(name, []).append(value)
    return found


def fits_request(
    match: HttpMatch, method: str, path: str, headers: Mapping[str, list[str]]
) -> bool:
    """True where the match speaks of the request; path and header values are as Envoy has them."""
    return (
        (not match.methods or method in match.methods)
        and matches(match.path, path)
        and all(
            any(matches(header.pattern, value) for value in headers.get(header.name, ()))
            for header in match.headers
        )
    )
