"""TLS both ways and the secrets it refers to.

Policy comes in: peers' names, parameters, certificates. Transport sockets and SDS secrets go out.
Clusters and chains name no identity: every workload's certificate is the secret ``service-cert``,
and the stream's identity decides whose it is. Specification: data-plane 5.5, 5.10 and 5.12.
"""

from __future__ import annotations

from collections.abc import Iterable

from xds.builders import names
from xds.policy.identity import NameType, SubjectName
from xds.policy.proxy import KeyPair, TlsParameters, TrustBundle
from xds.policy.service import MeshService
from xds.protos import (
    AggregatedConfigSource,
    ApiVersion,
    BoolValue,
    CertificateValidationContext,
    CommonTlsContext,
    ConfigSource,
    DataSource,
    DownstreamTlsContext,
    SdsSecretConfig,
    Secret,
    StringMatcher,
    SubjectAltNameMatcher,
    TlsCertificate,
    TlsParametersMessage,
    TransportSocket,
    UpstreamTlsContext,
    pack,
    resource_of,
)
from xds.resource import Resource, ResourceKind

_NOBODY = SubjectName(type=NameType.DNS, value="none.invalid")
"""A name no certificate has: a list without matchers would accept every mesh certificate."""

_SOCKET = "envoy.transport_sockets.tls"

# What the BoringSSL of Envoy 1.40 takes, tried one by one. Suites of TLS 1.3 cannot be chosen.
CIPHER_SUITES = frozenset(
    {
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-RSA-CHACHA20-POLY1305",
        "ECDHE-ECDSA-AES128-SHA",
        "ECDHE-ECDSA-AES256-SHA",
        "ECDHE-RSA-AES128-SHA",
        "ECDHE-RSA-AES256-SHA",
        "ECDHE-ECDSA-AES128-SHA256",
        "ECDHE-RSA-AES128-SHA256",
        "ECDHE-PSK-CHACHA20-POLY1305",
        "ECDHE-PSK-AES128-CBC-SHA",
        "ECDHE-PSK-AES256-CBC-SHA",
        "PSK-AES128-CBC-SHA",
        "PSK-AES256-CBC-SHA",
        "AES128-GCM-SHA256",
        "AES256-GCM-SHA384",
        "AES128-SHA",
        "AES256-SHA",
        "DES-CBC3-SHA",
        "HIGH",
        "ALL",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    }
)
CURVES = frozenset(
    {
        "X25519",
        "P-256",
        "P-384",
        "P-521",
        "X25519MLKEM768",
        "MLKEM1024",
    }
)


def ads() -> ConfigSource:
    """The source of everything dynamic: the stream the resource itself came by."""
    return ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)


def upstream_tls(service: MeshService, tls: TlsParameters, dns_suffix: str) -> TransportSocket:
    """The client side of mesh mTLS: only the service's own identities may answer."""
    common = _common(tls)
    common.validation_context_sds_secret_config.CopyFrom(_sds(names.outbound_trust(service.parent)))
    common.alpn_protocols.append(names.MESH_ALPN)
    context = UpstreamTlsContext(common_tls_context=common, sni=service.fqdn(dns_suffix))
    return TransportSocket(name=_SOCKET, typed_config=pack(context))


def downstream_tls(tls: TlsParameters, peers: Iterable[SubjectName] | None) -> TransportSocket:
    """The server side of mesh mTLS: a client certificate of the mesh is required.

    ``peers`` narrows whom the handshake accepts; None means any mesh identity, because requests are
    authorised later. No peers at all means nobody.
    """
    common = _common(tls)
    trust = _sds(names.INBOUND_TRUST)
    if peers is None:
        common.validation_context_sds_secret_config.CopyFrom(trust)
    else:
        combined = common.combined_validation_context
        combined.validation_context_sds_secret_config.CopyFrom(trust)
        combined.default_validation_context.match_typed_subject_alt_names.extend(
            san_matchers(peers)
        )
    return _downstream(common, client_certificate=True)


def gateway_tls(tls: TlsParameters, *, client_certificate: bool) -> TransportSocket:
    """The server side of TLS from a gateway: who it may be is decided by request.

    ``client_certificate``: one of the mesh is required; else none is asked for.
    """
    common = _common(tls)
    if client_certificate:
        common.validation_context_sds_secret_config.CopyFrom(_sds(names.INBOUND_TRUST))
    return _downstream(common, client_certificate=client_certificate)


def san_matchers(peers: Iterable[SubjectName]) -> list[SubjectAltNameMatcher]:
    """Exact matchers in the order given; never empty: without peers, one that fits nobody."""
    return [san_matcher(name) for name in dict.fromkeys(peers) or (_NOBODY,)]


def san_matcher(name: SubjectName) -> SubjectAltNameMatcher:
    """The matcher of exactly this subject alternative name."""
    return SubjectAltNameMatcher(
        san_type=SubjectAltNameMatcher.SanType.Value(name.type.value),
        matcher=StringMatcher(exact=name.value),
    )


def build_service_certificate(pair: KeyPair) -> Resource:
    """The secret ``service-cert`` of one identity; it holds the private key."""
    secret = Secret(
        name=names.SERVICE_CERTIFICATE,
        tls_certificate=TlsCertificate(
            certificate_chain=DataSource(inline_bytes=pair.certificate_chain),
            private_key=DataSource(inline_bytes=pair.private_key),
        ),
    )
    return resource_of(ResourceKind.SDS, secret.name, secret)


def build_inbound_trust(trust: TrustBundle) -> Resource:
    """The roots a server accepts clients by; whom it serves is decided elsewhere."""
    return _trust(names.INBOUND_TRUST, trust, [])


def build_outbound_trust(
    servers: tuple[SubjectName, ...], parent: str, trust: TrustBundle
) -> Resource:
    """The roots and names a client accepts the Service ``parent`` by."""
    return _trust(names.outbound_trust(parent), trust, san_matchers(servers))


def _trust(name: str, trust: TrustBundle, matchers: list[SubjectAltNameMatcher]) -> Resource:
    context = CertificateValidationContext(
        trusted_ca=DataSource(inline_bytes=trust.roots), match_typed_subject_alt_names=matchers
    )
    secret = Secret(name=name, validation_context=context)
    return resource_of(ResourceKind.SDS, name, secret)


def _downstream(common: CommonTlsContext, *, client_certificate: bool) -> TransportSocket:
    # A resumed session proves no certificate: `mtls_authenticated` then refuses who is allowed.
    context = DownstreamTlsContext(
        common_tls_context=common,
        require_client_certificate=BoolValue(value=client_certificate),
        disable_stateless_session_resumption=True,
        disable_stateful_session_resumption=True,
    )
    return TransportSocket(name=_SOCKET, typed_config=pack(context))


def _common(tls: TlsParameters) -> CommonTlsContext:
    return CommonTlsContext(
        tls_params=TlsParametersMessage(
            tls_minimum_protocol_version=_version(tls.min_version),
            tls_maximum_protocol_version=_version(tls.max_version),
            cipher_suites=tls.cipher_suites,
            ecdh_curves=tls.ecdh_curves,
        ),
        tls_certificate_sds_secret_configs=[_sds(names.SERVICE_CERTIFICATE)],
    )


def _version(name: str) -> TlsParametersMessage.TlsProtocol:
    known = dict(TlsParametersMessage.TlsProtocol.items())
    return known.get(name, TlsParametersMessage.TLS_AUTO)


def _sds(name: str) -> SdsSecretConfig:
    return SdsSecretConfig(name=name, sds_config=ads())
