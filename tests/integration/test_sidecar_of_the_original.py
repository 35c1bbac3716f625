"""A sidecar that the original OSM injected goes on with this control plane, until it is restarted.

Its client certificate has the identity as common name alone, signed by the RSA root in the Secret
that the original wrote; its bootstrap asks for the state of the world and checks no server name
(kubernetes-surface 2.5 and 4; docs/upgrade-from-osm.md).
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import factory
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID
from envoy_harness.netns import namespace
from envoy_harness.process import RealEnvoy, ads_over_tls
from fakes.source import FakeSource
from fakes.writer import FakeWriter

from app.controller.runtime import Runtime
from app.objects.meta import RawObject
from app.ports import Compute
from app.settings import Settings
from xds.policy.proxy import KeyPair
from xds.resource import ResourceKind

pytestmark = [pytest.mark.envoy, pytest.mark.root]

POD = factory.pod("s/w", account="w", labels={"app": "w"})
UUID = POD["metadata"]["labels"]["osm-proxy-uuid"]
NAME = f"{UUID}.sidecar.w.s.cluster.local"
"""Short enough to be a common name: at most 64 bytes."""
NOW = datetime.now(UTC)


class OriginalCa:
    """The root as the original makes and keeps it: RSA, its key as PKCS #1."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = _name("osm-ca.openservicemesh.io")
        limits = x509.BasicConstraints(ca=True, path_length=None)
        self._name = name
        certificate = (
            _certificate(name, name, self._key.public_key())
            .add_extension(limits, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(Encoding.PEM)

    def secret(self) -> RawObject:
        contents = {"ca.crt": self.pem, "private.key": _pem(self._key)}
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "osm-ca-bundle", "namespace": "osm-system"},
            "data": {name: base64.b64encode(pem).decode() for name, pem in contents.items()},
        }

    def sidecar(self, common_name: str) -> KeyPair:
        """A client certificate without any subject alternative name."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        leaf = _certificate(_name(common_name), self._name, key.public_key())
        chain = leaf.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)
        return KeyPair(certificate_chain=chain, private_key=_pem(key))


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: rsa.RSAPublicKey
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=3650))
    )


def _pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[tuple[Runtime, RealEnvoy]]:
    """The control plane on the original's root, and the running Pod's Envoy."""
    ca = OriginalCa()
    source = FakeSource(
        factory.namespace("s"),
        factory.account("s/w"),
        factory.service("s/w"),
        factory.permissive(),
        POD,
    )
    with ExitStack() as stack:
        inner = stack.enter_context(namespace())
        runtime = Runtime(
            Settings(ads_host="127.0.0.1", ads_port=0),
            Compute(source=source, writer=FakeWriter(ca.secret()), envoy_admin=None),
        )
        stack.callback(runtime.stop)
        inner.call(runtime.start)
        ads = ads_over_tls(runtime.ads_port, ca.sidecar(NAME), ca.pem)
        envoy = RealEnvoy(tmp_path, prefix=inner.prefix, ads=ads, node_id=UUID, protocol="GRPC")
        yield runtime, stack.enter_context(envoy)


def test_it_is_configured_and_refuses_nothing(sidecar: tuple[Runtime, RealEnvoy]) -> None:
    runtime, envoy = sidecar
    envoy.await_stats(
        "listener_manager",
        {
            "listener_manager.total_listeners_active": 2,
            "listener_manager.total_listeners_warming": 0,
        },
    )
    assert runtime.wait_until_settled(10)
    status = runtime.ledger.get(UUID)
    assert status is not None
    assert [kind for kind, one in status.kinds.items() if one.is_rejected] == []
    assert {ResourceKind.CDS, ResourceKind.LDS, ResourceKind.SDS} <= set(status.kinds)
