"""Certificates of a test mesh. They protect nothing: its root and its keys are public.

Root and ``PAIR`` are fixed, so that golden files do not change; ``issue`` signs more by that root.
"""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from xds.policy.identity import Issuer, ServiceIdentity
from xds.policy.proxy import KeyPair, TrustBundle

ROOT = b"""-----BEGIN CERTIFICATE-----
MIIBKzCB0qADAgECAgEBMAoGCCqGSM49BAMCMBQxEjAQBgNVBAMMCXRlc3Qgcm9v
dDAgFw0yNTAxMDEwMDAwMDBaGA8yMDc1MDEwMTAwMDAwMFowFDESMBAGA1UEAwwJ
dGVzdCByb290MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEFwN+MyqQwIGds1/+
5C3uWiJOsOz1I9prZLBBRquOiZiL2X1KRyPQ8KKnSSWhBXZhtJ3sRlHvRMe3xbsD
dyIhiKMTMBEwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiAQ6J8Y
ElQrutthYO1JYypaSftpZf39zs7Z4qYN2TDA1AIhAO1cCHco08KjgVB0Fc0YL3LZ
Ib/G1cIwCw5egqCett59
-----END CERTIFICATE-----
"""
ROOT_KEY = b"""-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg6kqTEZyfxO1rJpb3
EX/62NKTRJLKMIATWtjO5Lqjm3ehRANCAAQXA34zKpDAgZ2zX/7kLe5aIk6w7PUj
2mtksEFGq46JmIvZfUpHI9DwoqdJJaEFdmG0nexGUe9Ex7fFuwN3IiGI
-----END PRIVATE KEY-----
"""
CERTIFICATE = b"""-----BEGIN CERTIFICATE-----
MIIBOTCB4KADAgECAgECMAoGCCqGSM49BAMCMBQxEjAQBgNVBAMMCXRlc3Qgcm9v
dDAgFw0yNTAxMDEwMDAwMDBaGA8yMDc1MDEwMTAwMDAwMFowDzENMAsGA1UEAwwE
dGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABByxjxqJQuGvhBbBd+cTKq6r
3y6JRfm0a0f3m8kx1njDDMKXBnqEHKuNtjP2dbAnAA4jZdR+M0ySPjfkeav23eOj
JjAkMCIGA1UdEQQbMBmCF3Rlc3QudGVzdC5jbHVzdGVyLmxvY2FsMAoGCCqGSM49
BAMCA0gAMEUCIDyxJaVZLOWn9TtOAyF++bJRcg9Ls2Z/B/aqFkct54bfAiEA+QUW
X/BGMKYN2ndfmIjRVz8Ls6tkd5o9UMXxFMVN5GU=
-----END CERTIFICATE-----
"""
PRIVATE_KEY = b"""-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgtcN6QCK58nuPnowq
rPKJncHBN68EaDqLADbN4cOPKK+hRANCAAQcsY8aiULhr4QWwXfnEyquq98uiUX5
tGtH95vJMdZ4wwzClwZ6hByrjbYz9nWwJwAOI2XUfjNMkj435Hmr9t3j
-----END PRIVATE KEY-----
"""

TRUST = TrustBundle(roots=ROOT)
PAIR = KeyPair(certificate_chain=CERTIFICATE, private_key=PRIVATE_KEY)


def issue(identity: ServiceIdentity, issuer: Issuer | None = None) -> KeyPair:
    """A certificate of the identity with the names that the issuer gives it."""
    issuer = issuer or Issuer()
    uris = (issuer.uri(identity),) if issuer.spiffe else ()
    return issue_name(issuer.dns_name(identity), *uris)


def issue_name(dns_name: str, *uris: str) -> KeyPair:
    """A certificate with these names."""
    names: list[x509.GeneralName] = [x509.DNSName(dns_name)]
    names += [x509.UniformResourceIdentifier(uri) for uri in uris]
    key = ec.generate_private_key(ec.SECP256R1())
    root = x509.load_pem_x509_certificate(ROOT)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")]))
        .issuer_name(root.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2025, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2075, 1, 1, tzinfo=UTC))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(_root_key(), hashes.SHA256())
    )
    return KeyPair(
        certificate_chain=certificate.public_bytes(serialization.Encoding.PEM),
        private_key=key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def _root_key() -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(ROOT_KEY, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key
