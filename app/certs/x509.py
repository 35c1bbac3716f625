"""X.509: keys, roots, signatures, and what a certificate says; the only door to ``cryptography``.

Roots and requests come in as PEM or as values of ``app.ports``; PEM and plain values go out, so
that nobody else knows the library. Called by the certificate providers and the API.
Specification: data-plane 1.3, 1.4 and 2.3; RFC 5280.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from app.errors import CaError, CertificateError
from app.ports import CertificateRequest, IssuedCertificate
from xds.policy.proxy import KeyPair

MAX_COMMON_NAME_LENGTH = 64
"""The library refuses longer common names (X.520 ub-common-name)."""
ROOT_COMMON_NAME = "osm-ca.openservicemesh.io"
ROOT_LIFETIME = timedelta(hours=87600)
_ORGANISATION = "Open Service Mesh"
_CLOCK_SKEW = timedelta(minutes=5)
_MIN_RSA_BITS, _MAX_RSA_BITS = 2048, 4096

_PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFacts:
    """What one certificate says of itself; nothing secret."""

    subject: str
    issuer: str
    serial: str
    not_before: datetime
    not_after: datetime
    is_ca: bool
    dns_names: tuple[str, ...]
    uris: tuple[str, ...]
    sha256: str
    signature_algorithm: str


class SigningRoot:
    """A root certificate with its key, able to sign; immutable, safe across threads."""

    def __init__(self, certificate: x509.Certificate, key: _PrivateKey, pem: bytes) -> None:
        self._certificate = certificate
        self._key = key
        self.certificate_pem = pem
        """The root as stored, ended by a newline."""

    @property
    def not_before(self) -> datetime:
        """When the root's life began."""
        return self._certificate.not_valid_before_utc

    @property
    def not_after(self) -> datetime:
        """When the root expires."""
        return self._certificate.not_valid_after_utc

    @classmethod
    def parse(cls, pair: KeyPair, *, now: datetime, where: str) -> SigningRoot:
        """A root that can sign now; raise :class:`CaError` that names ``where`` otherwise."""
        certificate = _parse_root(pair.certificate_chain, where)
        key = _parse_key(pair.private_key, where)
        if _public_bytes(key.public_key()) != _public_bytes(certificate.public_key()):
            raise CaError(f"{where}: private.key does not belong to ca.crt; restore the pair")
        if not _is_ca(certificate):
            raise CaError(f"{where}: ca.crt is not a CA certificate; restore the mesh's root")
        if not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc:
            first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
            raise CaError(f"{where}: ca.crt is valid from {first} to {last} only; replace the root")
        return cls(certificate, key, _ended_by_newline(pair.certificate_chain))

    def issue(self, request: CertificateRequest, *, now: datetime) -> IssuedCertificate:
        """A new key and a leaf for it, signed by this root; it never outlives the root."""
        key = _new_key(request.rsa_bits)
        not_after = min(now + request.lifetime, self.not_after)
        try:
            unsigned = self._leaf(request, key).not_valid_before(now - _CLOCK_SKEW)
            leaf = unsigned.not_valid_after(not_after).sign(self._key, hashes.SHA256())
        except ValueError as error:
            wanted = request.dns_names or request.uris
            raise CertificateError(f"cannot certify {wanted!r}: {error}") from error
        return IssuedCertificate(
            key_pair=KeyPair(certificate_chain=_pem(leaf), private_key=_key_pem(key)),
            serial=_serial(leaf),
            not_before=leaf.not_valid_before_utc,
            not_after=leaf.not_valid_after_utc,
        )

    def _leaf(self, request: CertificateRequest, key: _PrivateKey) -> x509.CertificateBuilder:
        usage = _key_usage(signature=True, encipherment=isinstance(key, rsa.RSAPrivateKey))
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        return (
            _builder(key, subject=_leaf_subject(request.common_name))
            .issuer_name(self._certificate.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(_alternative_names(request), critical=request.common_name is None)
            .add_extension(_issuer_key_id(self._certificate), critical=False)
        )


def new_root(*, now: datetime, rsa_bits: int | None = None) -> KeyPair:
    """A self-signed root of the mesh: P-256, or RSA of that size (data-plane 2.3)."""
    key = _new_key(rsa_bits)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, ROOT_COMMON_NAME),
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
            x509.NameAttribute(NameOID.LOCALITY_NAME, "CA"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANISATION),
        ]
    )
    root = (
        _builder(key, subject=subject)
        .issuer_name(subject)
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + ROOT_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return KeyPair(certificate_chain=_pem(root), private_key=_key_pem(key))


def describe(chain: bytes) -> CertificateFacts:
    """What the first certificate of a PEM chain says; :class:`CertificateError` without one."""
    try:
        certificate = x509.load_pem_x509_certificate(chain)
    except ValueError as error:
        raise CertificateError(f"not a PEM certificate: {error}") from error
    names = _names_of(certificate)
    return CertificateFacts(
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        serial=_serial(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        is_ca=_is_ca(certificate),
        dns_names=tuple(names.get_values_for_type(x509.DNSName)),
        uris=tuple(names.get_values_for_type(x509.UniformResourceIdentifier)),
        sha256=certificate.fingerprint(hashes.SHA256()).hex(),
        signature_algorithm=certificate.signature_algorithm_oid._name,  # noqa: SLF001 no public name
    )


def _parse_root(pem: bytes, where: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise CaError(f"{where}: ca.crt is not a PEM certificate ({error}); restore it") from error


def _parse_key(pem: bytes, where: str) -> _PrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        # The library's text is left out: nothing of a key may reach a log.
        reason = type(error).__name__
        raise CaError(f"{where}: private.key is not a PEM key ({reason}); restore it") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise CaError(f"{where}: private.key must be an EC or RSA key; restore it")
    return key


def _new_key(rsa_bits: int | None) -> _PrivateKey:
    if rsa_bits is None:
        return ec.generate_private_key(ec.SECP256R1())
    in_bounds = _MIN_RSA_BITS <= rsa_bits <= _MAX_RSA_BITS
    return rsa.generate_private_key(65537, rsa_bits if in_bounds else _MIN_RSA_BITS)


def _builder(key: _PrivateKey, *, subject: x509.Name) -> x509.CertificateBuilder:
    public_key = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number() >> 32)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _leaf_subject(common_name: str | None) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANISATION)]
    if common_name is not None:
        attributes.insert(0, x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    return x509.Name(attributes)


def _alternative_names(request: CertificateRequest) -> x509.SubjectAlternativeName:
    names: list[x509.GeneralName] = [_host_name(name) for name in request.dns_names]
    names += [x509.UniformResourceIdentifier(uri) for uri in request.uris]
    return x509.SubjectAlternativeName(names)


def _host_name(name: str) -> x509.GeneralName:
    """Clients look for an IP address among addresses only."""
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _issuer_key_id(root: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """The root's key id, by its SKI where it has one (roots of the original have none)."""
    try:
        own = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(_known(root.public_key()))
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _known(key: object) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    if isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        return key
    raise CaError("the root's key must be EC or RSA")


def _key_usage(
    *, signature: bool = False, encipherment: bool = False, certificates: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signature,
        key_encipherment=encipherment,
        key_cert_sign=certificates,
        crl_sign=certificates,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _names_of(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return x509.SubjectAlternativeName([])


def _serial(certificate: x509.Certificate) -> str:
    return f"{certificate.serial_number:x}"


def _public_bytes(key: object) -> bytes:
    return _known(key).public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: _PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _ended_by_newline(pem: bytes) -> bytes:
    return pem if pem.endswith(b"\n") else pem + b"\n"
