"""Traffic from gateways: which chains take it on a target port, and who may send what.

Sources and principals are part of the rules, never of a chain: a gateway that scales changes routes
alone and drains nothing. Specification: data-plane 4.7, 5.5 and 6.2.
"""

from __future__ import annotations

from dataclasses import dataclass

from xds.policy.http import HttpMatch
from xds.policy.identity import SubjectName
from xds.policy.service import MeshService


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressRule:
    """Requests that fit the match, and who may send them: both conditions must hold."""

    match: HttpMatch
    addresses: tuple[str, ...] | None
    """Networks of gateways, sorted; None: any; empty: nobody."""
    principals: tuple[SubjectName, ...] | None
    """Names in the gateway's certificate, sorted; None: any, or no certificate; empty: nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressChain:
    """Connections to one served service."""

    service: MeshService
    own_names: tuple[str, ...] = ()
    """TLS without server names: what mesh clients ask for on this port, and gateways may, too."""
    server_names: tuple[str, ...] = ()
    """TLS: names the gateway may ask for; empty: any, and the service's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressPort:
    """All that gateways send to one target port, in plain HTTP or over TLS."""

    target: int
    tls: bool
    client_certificate: bool
    """TLS: a certificate of the mesh is asked of the gateway."""
    service: MeshService
    """It gives the local cluster."""
    chains: tuple[IngressChain, ...]
    """Server names are unique; at most one chain is without."""
    rules: tuple[IngressRule, ...]
    """In canonical order (5.13); no rules: every request is answered 404."""
    normalize_paths: bool
