"""What a server's sidecar answers to a gateway, decided from the compiled policy as Envoy does it.

Comes in: ``Inbound`` of the server, and what the gateway sends. Goes out: a ``Verdict``. A law test
holds it against a real Envoy. Specification: data-plane 4.7, 5.5, 6.2 and 9.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from app.mesh.authorize import Verdict, fits_request, header_values, host_of, resolved_path
from xds.policy.http import RequestSeen
from xds.policy.identity import SubjectName
from xds.policy.ingress import IngressPort, IngressRule
from xds.policy.traffic import Inbound


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A request of a gateway: where it comes from and how it is sent."""

    target: int
    address: str
    request: RequestSeen
    tls: bool = False
    server_name: str = ""
    """TLS: the name that the gateway asks for; empty: none."""
    certificate: Collection[SubjectName] | None = None
    """TLS: the names in the gateway's certificate; None: it shows none."""


def authorize_ingress(inbound: Inbound, seen: Arrival) -> Verdict:
    """What the gateway is answered."""
    for port in inbound.ingress:
        if (port.target, port.tls) == (seen.target, seen.tls):
            return _answer(port, seen) if _has_chain(port, seen) else Verdict.CLOSED
    return Verdict.CLOSED


def _has_chain(port: IngressPort, seen: Arrival) -> bool:
    if not port.tls:
        return True
    if port.client_certificate and seen.certificate is None:
        return False
    asked = seen.server_name.lower()
    return any(
        not chain.server_names or any(_names(name, asked) for name in chain.server_names)
        for chain in port.chains
    )


def _names(pattern: str, asked: str) -> bool:
    return asked.endswith(pattern[1:]) if pattern.startswith("*.") else asked == pattern


def _answer(port: IngressPort, seen: Arrival) -> Verdict:
    path = resolved_path(seen.request.path, normalize=port.normalize_paths)
    if path is None:
        return Verdict.MALFORMED
    host = host_of(seen.request, "")
    headers = header_values(seen.request.headers, host)
    fitting = [
        rule for rule in port.rules if fits_request(rule.match, seen.request.method, path, headers)
    ]
    if not fitting:
        return Verdict.NOT_FOUND
    allowed = any(_admits(rule, seen) for rule in fitting)
    return Verdict.ALLOWED if allowed else Verdict.FORBIDDEN


def _admits(rule: IngressRule, seen: Arrival) -> bool:
    address = ip_address(seen.address)
    from_source = rule.addresses is None or any(
        address in ip_network(written) for written in rule.addresses
    )
    by_name = rule.principals is None or any(
        name in (seen.certificate or ()) for name in rule.principals
    )
    return from_source and by_name
