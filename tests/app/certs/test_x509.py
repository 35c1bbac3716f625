from __future__ import annotations

import ssl
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID
from fakes.clock import START

from app.certs.x509 import SigningRoot, describe, new_root
from app.errors import CaError, CertificateError
from app.ports import CertificateRequest, IssuedCertificate
from xds.policy.proxy import KeyPair

NAME = "sidecar.curl.shop.cluster.local"
HOUR = timedelta(hours=1)


def root(rsa_bits: int | None = None) -> SigningRoot:
    return SigningRoot.parse(new_root(now=START, rsa_bits=rsa_bits), now=START, where="here")


def request(**changes: object) -> CertificateRequest:
    values: dict[str, object] = {"common_name": "cn", "dns_names": (NAME,), "lifetime": HOUR}
    return CertificateRequest(**(values | changes))  # type: ignore[arg-type]


def loaded(issued: IssuedCertificate) -> x509.Certificate:
    return x509.load_pem_x509_certificate(issued.key_pair.certificate_chain)


def test_leaf_says_who_it_is_and_for_how_long() -> None:
    issued = root().issue(request(uris=("spiffe://td/a/b",)), now=START)
    facts = describe(issued.key_pair.certificate_chain)
    assert (facts.subject, facts.issuer) == (
        "O=Open Service Mesh,CN=cn",
        "O=Open Service Mesh,L=CA,C=US,CN=osm-ca.openservicemesh.io",
    )
    assert (facts.dns_names, facts.uris, facts.is_ca) == ((NAME,), ("spiffe://td/a/b",), False)
    assert (facts.not_before, facts.not_after) == (START - timedelta(minutes=5), START + HOUR)
    assert (issued.not_before, issued.not_after) == (facts.not_before, facts.not_after)
    assert issued.serial == facts.serial
    assert len(facts.serial) <= 32


def test_leaf_without_common_name_has_a_critical_alternative_name() -> None:
    leaf = loaded(root().issue(request(common_name=None), now=START))
    assert leaf.subject.rfc4514_string() == "O=Open Service Mesh"
    assert leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical


def test_key_identifiers_join_leaf_and_root() -> None:
    signer = root()
    certificate = x509.load_pem_x509_certificate(signer.certificate_pem)
    leaf = loaded(signer.issue(request(), now=START))
    own = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    issuer = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert issuer.key_identifier == own.digest
    leaf.verify_directly_issued_by(certificate)


@pytest.mark.parametrize(
    ("bits", "key_type", "size", "encipherment"),
    [
        pytest.param(None, ec.EllipticCurvePrivateKey, 256, False, id="p256-by-default"),
        pytest.param(3072, rsa.RSAPrivateKey, 3072, True, id="rsa-when-asked"),
        pytest.param(512, rsa.RSAPrivateKey, 2048, True, id="too-small-is-2048"),
        pytest.param(9000, rsa.RSAPrivateKey, 2048, True, id="too-large-is-2048"),
    ],
)
def test_key_is_as_asked(bits: int | None, key_type: type, size: int, encipherment: bool) -> None:
    issued = root().issue(request(rsa_bits=bits), now=START)
    key = load_pem_private_key(issued.key_pair.private_key, None)
    assert issued.key_pair.private_key.startswith(b"-----BEGIN PRIVATE KEY-----")
    assert isinstance(key, key_type)
    assert key.key_size == size  # type: ignore[attr-defined]
    usage = loaded(issued).extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_encipherment) == (True, encipherment)


def test_leaf_never_outlives_its_root() -> None:
    issued = root().issue(request(lifetime=timedelta(days=9999)), now=START)
    assert issued.not_after == START + timedelta(hours=87600)


def test_rsa_root_signs_p256_leaf() -> None:
    signer = root(rsa_bits=2048)
    leaf = loaded(signer.issue(request(), now=START))
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(signer.certificate_pem))


def test_openssl_accepts_the_chain() -> None:
    signer = root()
    context = ssl.create_default_context(cadata=signer.certificate_pem.decode())
    assert context.cert_store_stats()["x509_ca"] == 1


def test_key_shows_in_no_repr() -> None:
    issued = root().issue(request(), now=START)
    assert "PRIVATE" not in repr(issued)


def test_name_that_is_no_dns_name_is_refused() -> None:
    with pytest.raises(CertificateError, match="cannot certify"):
        root().issue(request(dns_names=("bücher.example",)), now=START)


def mixed_pair() -> KeyPair:
    first, second = new_root(now=START), new_root(now=START)
    return KeyPair(certificate_chain=first.certificate_chain, private_key=second.private_key)


def leaf_pair() -> KeyPair:
    return root().issue(request(), now=START).key_pair


def with_key(key: ed25519.Ed25519PrivateKey) -> KeyPair:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return KeyPair(certificate_chain=GOOD.certificate_chain, private_key=pem)


def foreign_root(*, extensions: bool = False) -> KeyPair:
    """A root as other programs make them: without key identifiers, or without any extension."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "foreign")])
    builder = (
        x509.CertificateBuilder(name, name, key.public_key(), 7)
        .not_valid_before(START - HOUR)
        .not_valid_after(START + HOUR)
    )
    if extensions:
        builder = builder.add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
    pem = serialization.Encoding.PEM
    return KeyPair(
        certificate_chain=builder.sign(key, hashes.SHA256()).public_bytes(pem),
        private_key=key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )


def test_root_without_key_identifier_signs_too() -> None:
    signer = SigningRoot.parse(foreign_root(extensions=True), now=START, where="here")
    leaf = loaded(signer.issue(request(), now=START))
    certificate = x509.load_pem_x509_certificate(signer.certificate_pem)
    leaf.verify_directly_issued_by(certificate)
    issuer = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    digest = x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest  # type: ignore[arg-type]
    assert issuer.key_identifier == digest


GOOD = new_root(now=START)


@pytest.mark.parametrize(
    ("pair", "after", "message"),
    [
        pytest.param(
            KeyPair(certificate_chain=b"x", private_key=GOOD.private_key),
            timedelta(0),
            "here: ca.crt is not a PEM certificate",
            id="certificate-damaged",
        ),
        pytest.param(
            KeyPair(certificate_chain=GOOD.certificate_chain, private_key=b"x"),
            timedelta(0),
            "here: private.key is not a PEM key",
            id="key-damaged",
        ),
        pytest.param(mixed_pair(), timedelta(0), "does not belong to ca.crt", id="key-mismatch"),
        pytest.param(
            with_key(ed25519.Ed25519PrivateKey.generate()),
            timedelta(0),
            "must be an EC or RSA key",
            id="key-of-another-kind",
        ),
        pytest.param(leaf_pair(), timedelta(0), "is not a CA certificate", id="leaf-as-root"),
        pytest.param(foreign_root(), timedelta(0), "is not a CA cert", id="no-extensions"),
        pytest.param(GOOD, timedelta(hours=87600), "is valid from .* only", id="expired"),
        pytest.param(GOOD, timedelta(days=-1), "is valid from .* only", id="not-yet-valid"),
    ],
)
def test_bad_root_is_refused(pair: KeyPair, after: timedelta, message: str) -> None:
    with pytest.raises(CaError, match=message) as caught:
        SigningRoot.parse(pair, now=START + after, where="here")
    assert "PRIVATE" not in str(caught.value)


def test_root_without_final_newline_gets_one() -> None:
    stripped = KeyPair(
        certificate_chain=GOOD.certificate_chain.rstrip(), private_key=GOOD.private_key
    )
    parsed = SigningRoot.parse(stripped, now=START, where="here")
    assert parsed.certificate_pem == GOOD.certificate_chain


def test_describe_refuses_what_is_no_certificate() -> None:
    with pytest.raises(CertificateError, match="not a PEM certificate"):
        describe(b"nothing")


def test_root_has_no_alternative_names() -> None:
    facts = describe(GOOD.certificate_chain)
    assert (facts.is_ca, facts.dns_names, facts.uris) == (True, (), ())
    assert facts.not_after - START == timedelta(hours=87600)
