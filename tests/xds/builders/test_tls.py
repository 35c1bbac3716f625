"""Both sides of mesh TLS, and whom they believe."""

from __future__ import annotations

import pytest
import xds_cases
import xds_certificates
from google.protobuf import json_format

from xds.builders import tls
from xds.policy.identity import NameType, SubjectName
from xds.policy.proxy import TlsParameters
from xds.protos import TransportSocket, to_json

WEB = xds_cases.service("shop/web", 80, target=8080)
NAME = SubjectName(type=NameType.URI, value="spiffe://mesh/web/shop")
ADS = {"ads": {}, "resourceApiVersion": "V3"}
TRUST = {"name": "root-cert-for-mtls-inbound", "sdsConfig": ADS}


def config(socket: TransportSocket) -> dict[str, object]:
    assert socket.name == "envoy.transport_sockets.tls"
    found = json_format.MessageToDict(socket.typed_config)
    del found["@type"]
    return dict(found)


def common(**more: object) -> dict[str, object]:
    return {
        "tlsParams": {
            "tlsMinimumProtocolVersion": "TLSv1_2",
            "tlsMaximumProtocolVersion": "TLSv1_3",
        },
        "tlsCertificateSdsSecretConfigs": [{"name": "service-cert", "sdsConfig": ADS}],
        **more,
    }


def test_client_names_the_service_and_nobody_else() -> None:
    trust = {"name": "root-cert-for-mtls-outbound:shop/web", "sdsConfig": ADS}
    assert config(tls.upstream_tls(WEB, TlsParameters(), "example.org")) == {
        "sni": "web.shop.svc.example.org",
        "commonTlsContext": common(alpnProtocols=["osm"], validationContextSdsSecretConfig=trust),
    }


def test_server_for_any_mesh_identity() -> None:
    assert config(tls.downstream_tls(TlsParameters(), None)) == {
        "requireClientCertificate": True,
        "disableStatelessSessionResumption": True,
        "disableStatefulSessionResumption": True,
        "commonTlsContext": common(validationContextSdsSecretConfig=TRUST),
    }


@pytest.mark.parametrize(
    ("peers", "kind", "text"),
    [
        pytest.param((NAME, NAME), "URI", NAME.value, id="named-once"),
        pytest.param((), "DNS", "none.invalid", id="nobody"),
    ],
)
def test_server_for_named_peers(peers: tuple[SubjectName, ...], kind: str, text: str) -> None:
    matcher = {"sanType": kind, "matcher": {"exact": text}}
    assert config(tls.downstream_tls(TlsParameters(), peers)) == {
        "requireClientCertificate": True,
        "disableStatelessSessionResumption": True,
        "disableStatefulSessionResumption": True,
        "commonTlsContext": common(
            combinedValidationContext={
                "defaultValidationContext": {"matchTypedSubjectAltNames": [matcher]},
                "validationContextSdsSecretConfig": TRUST,
            }
        ),
    }


def test_parameters_are_handed_on_and_unknown_versions_left_to_envoy() -> None:
    parameters = TlsParameters(
        min_version="TLSv1_3",
        max_version="TLSv9",
        cipher_suites=("ECDHE-ECDSA-AES128-GCM-SHA256",),
        ecdh_curves=("X25519",),
    )
    socket = tls.upstream_tls(WEB, parameters, "cluster.local")
    found = config(socket)["commonTlsContext"]
    assert isinstance(found, dict)
    assert found["tlsParams"] == {
        "tlsMinimumProtocolVersion": "TLSv1_3",
        "cipherSuites": ["ECDHE-ECDSA-AES128-GCM-SHA256"],
        "ecdhCurves": ["X25519"],
    }


@pytest.mark.parametrize(
    ("servers", "kind", "text"),
    [
        pytest.param((NAME,), "URI", NAME.value, id="named"),
        pytest.param((), "DNS", "none.invalid", id="nobody-serves"),
    ],
)
def test_client_trusts_servers_by_name(
    servers: tuple[SubjectName, ...], kind: str, text: str
) -> None:
    secret = tls.build_outbound_trust(servers, "shop/web", xds_certificates.TRUST)
    assert to_json(secret) == {
        "name": "root-cert-for-mtls-outbound:shop/web",
        "validation_context": {
            "trusted_ca": {"inline_string": xds_certificates.ROOT.decode()},
            "match_typed_subject_alt_names": [{"san_type": kind, "matcher": {"exact": text}}],
        },
    }
