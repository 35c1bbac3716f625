"""Filter chains of traffic in, chosen by target port, SNI and the mesh's ALPN.

Served services come in, filter chains go out. HTTP chains let every mesh identity in and leave
authorisation to RDS; TCP chains name their peers inside the TLS handshake and connect to the
application only after it, because a server that talks first would greet strangers otherwise.
Specification: data-plane 5.5.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from xds.builders import hcm, ingress, names, rbac, telemetry, tls
from xds.builders.filters import RequestFilters, connection_filters
from xds.policy.identity import SubjectName
from xds.policy.ingress import IngressPort
from xds.policy.limits import ExternalAuthorization
from xds.policy.proxy import TlsParameters
from xds.policy.traffic import Inbound, InboundHttp, InboundHttpPort, InboundTcp, TcpPermission
from xds.protos import (
    ON_DOWNSTREAM_DATA,
    ON_DOWNSTREAM_TLS_HANDSHAKE,
    Filter,
    FilterChain,
    FilterChainMatch,
    TcpProxy,
    UInt32Value,
    pack,
)

_EARLY_BYTES = 8192
"""Mandatory with this connect mode: what a client may send before the handshake has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundSpec:
    """What the inbound listener depends on; who may request what is not in it."""

    http: tuple[tuple[hcm.InboundHttpSpec, tuple[InboundHttp, ...]], ...]
    tcp: tuple[InboundTcp, ...]
    ingress: tuple[IngressPort, ...]
    """Without rules and sources: those come by RDS."""
    authorization: ExternalAuthorization | None
    tls: TlsParameters

    @classmethod
    def of(cls, served: Inbound, parameters: TlsParameters) -> InboundSpec:
        """The part of the policy that decides the listener."""
        asked = served.authorization
        ports = tuple(replace(port, rules=()) for port in served.ingress)
        http = tuple((_http_spec(port, asked), port.chains) for port in served.http)
        return cls(http=http, tcp=served.tcp, ingress=ports, authorization=asked, tls=parameters)


def chains(spec: InboundSpec) -> list[FilterChain]:
    """The listener's chains, sorted by name."""
    found = [c for http, names_of in spec.http for c in _http_chains(http, names_of, spec.tls)]
    found += [_tcp_chain(served, spec.tls) for served in spec.tcp]
    asked = RequestFilters(authorization=spec.authorization)
    found += [c for port in spec.ingress for c in ingress.chains(port, asked, spec.tls)]
    return sorted(found, key=lambda chain: chain.name)


def allowed_peers(permissions: Iterable[TcpPermission]) -> tuple[SubjectName, ...]:
    """Everybody whom one of the permissions admits, sorted."""
    return tuple(sorted({name for one in permissions for name in one.principals}))


def _http_spec(port: InboundHttpPort, asked: ExternalAuthorization | None) -> hcm.InboundHttpSpec:
    return hcm.InboundHttpSpec(
        target=port.target,
        normalize_paths=port.normalize_paths,
        filters=RequestFilters.of(port.hosts, asked),
        denies=port.denies,
    )


def _http_chains(
    spec: hcm.InboundHttpSpec, served: Iterable[InboundHttp], parameters: TlsParameters
) -> list[FilterChain]:
    manager = hcm.inbound_hcm(spec)
    socket = tls.downstream_tls(parameters, None)
    return [
        FilterChain(
            name=names.inbound_chain(chain.service),
            filter_chain_match=_match(spec.target, chain.server_name),
            transport_socket=socket,
            filters=[*_counted(chain), manager],
        )
        for chain in served
    ]


def _tcp_chain(served: InboundTcp, parameters: TlsParameters) -> FilterChain:
    filters = [rbac.network_denials(served.denied)] if served.denied else []
    if served.permissions is not None:
        filters.append(rbac.network_rbac(served.permissions))
    peers = None if served.permissions is None else allowed_peers(served.permissions)
    return FilterChain(
        name=names.inbound_chain(served.service),
        filter_chain_match=_match(served.service.target, served.server_name),
        transport_socket=tls.downstream_tls(parameters, peers),
        filters=[*filters, *_counted(served), _tcp_proxy(served)],
    )


def _counted(served: InboundHttp | InboundTcp) -> list[Filter]:
    return connection_filters(served.connections, names.inbound_chain(served.service))


def _match(port: int, server_name: str) -> FilterChainMatch:
    return FilterChainMatch(
        destination_port=UInt32Value(value=port),
        server_names=[server_name],
        transport_protocol="tls",
        application_protocols=[names.MESH_ALPN],
    )


def _tcp_proxy(served: InboundTcp) -> Filter:
    chain = names.inbound_chain(served.service)
    proxy = TcpProxy(
        stat_prefix=chain,
        cluster=names.local_cluster(served.service),
        access_log=[telemetry.stdout_log()],
    )
    # The handshake lets every mesh identity in, and who is denied is known by its first byte only:
    # until then the application must not be asked, or it would greet whom it must not know.
    if served.denied and served.permissions is None:
        proxy.upstream_connect_mode = ON_DOWNSTREAM_DATA
        proxy.max_early_data_bytes.value = _EARLY_BYTES
    # While a shared service is asked, the handshake may end before the proxy is begun, which would
    # then close the connection. Bytes pass after the handshake only, in either mode.
    elif served.connections.shared is None:
        proxy.upstream_connect_mode = ON_DOWNSTREAM_TLS_HANDSHAKE
        proxy.max_early_data_bytes.value = _EARLY_BYTES
    return Filter(name="envoy.filters.network.tcp_proxy", typed_config=pack(proxy))
