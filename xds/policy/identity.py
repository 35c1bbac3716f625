"""Who a workload is: service identities, proxies, and the names certificates give them.

Specification: data-plane 1.1 to 1.3 and 7.2. A namespace never contains a dot, a service account
may; so identities are cut at the last dot, and URIs are built from parts, never by replacing dots.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from xds.resource import MeshError

_SIDECAR = "sidecar"


class IdentityError(MeshError):
    """A certificate's name is not that of a sidecar of this mesh; the stream is refused."""

    code = "E5001"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ServiceIdentity:
    """Who a workload is: a service account of a namespace; the trust domain is not part of it."""

    namespace: str
    service_account: str

    def __str__(self) -> str:
        return f"{self.service_account}.{self.namespace}"

    @classmethod
    def parse(cls, text: str) -> ServiceIdentity:
        """The identity written ``<account>.<namespace>``, cut at the last dot."""
        account, dot, namespace = text.rpartition(".")
        if not dot or not account or not namespace:
            raise IdentityError(f"{text!r} is not of the form <service account>.<namespace>")
        return cls(namespace=namespace, service_account=account)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyId:
    """One running Envoy, as its xDS client certificate names it."""

    uuid: str
    identity: ServiceIdentity

    def __str__(self) -> str:
        return f"{self.uuid}.{_SIDECAR}.{self.identity}"


class NameType(StrEnum):
    """Which subject alternative name carries an identity."""

    DNS = "DNS"
    URI = "URI"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class SubjectName:
    """One subject alternative name to compare a peer's certificate with, exactly."""

    type: NameType
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """What decides how names are written: a trust domain, with or without SPIFFE."""

    trust_domain: str = "cluster.local"
    spiffe: bool = False

    def subject_name(self, identity: ServiceIdentity) -> SubjectName:
        """The name a workload certificate of this issuer is recognised by."""
        if self.spiffe:
            return SubjectName(type=NameType.URI, value=self.uri(identity))
        return SubjectName(type=NameType.DNS, value=self.dns_name(identity))

    def dns_name(self, identity: ServiceIdentity) -> str:
        """``<account>.<namespace>.<trust domain>``."""
        return f"{identity}.{self.trust_domain}"

    def uri(self, identity: ServiceIdentity) -> str:
        """``spiffe://<trust domain>/<account>/<namespace>``: account first, as old peers expect."""
        return f"spiffe://{self.trust_domain}/{identity.service_account}/{identity.namespace}"

    def proxy_dns_name(self, proxy: ProxyId) -> str:
        """``<uuid>.sidecar.<account>.<namespace>.<trust domain>``."""
        return f"{proxy}.{self.trust_domain}"

    def proxy_uri(self, proxy: ProxyId) -> str:
        """``spiffe://<trust domain>/<uuid>/sidecar/<account>/<namespace>``."""
        identity = proxy.identity
        path = f"{proxy.uuid}/{_SIDECAR}/{identity.service_account}/{identity.namespace}"
        return f"spiffe://{self.trust_domain}/{path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuers:
    """The two issuers in force, signing and validating; often the same (data-plane 1.2)."""

    signing: Issuer = Issuer()
    validating: Issuer = Issuer()

    def subject_names(self, identities: Iterable[ServiceIdentity]) -> tuple[SubjectName, ...]:
        """Names of the identities: signing form sorted, then validating form where it differs."""
        ordered = sorted(set(identities))
        issuers = dict.fromkeys((self.signing, self.validating))
        return tuple(
            name for issuer in issuers for name in sorted(issuer.subject_name(i) for i in ordered)
        )

    def parse_proxy(self, dns_names: Iterable[str], uris: Iterable[str]) -> ProxyId:
        """The proxy a verified xDS client certificate names.

        The DNS name decides; where both issuers use SPIFFE, the one URI must name the same proxy
        (7.2, row 3).
        Raises :class:`IdentityError`.
        """
        names = list(dns_names)
        found = [p for p in (self._parse_dns(name) for name in names) if p is not None]
        if len(set(found)) != 1:
            raise IdentityError(f"client certificate of {names!r} does not name one sidecar")
        if self.signing.spiffe and self.validating.spiffe:
            self._check_uris(found[0], list(uris))
        return found[0]

    def _check_uris(self, proxy: ProxyId, uris: list[str]) -> None:
        accepted = {self.signing.proxy_uri(proxy), self.validating.proxy_uri(proxy)}
        if len(uris) != 1 or uris[0] not in accepted:
            raise IdentityError(
                f"client certificate of {proxy} has URIs {uris!r}, expected one of {accepted!r}"
            )

    def _parse_dns(self, name: str) -> ProxyId | None:
        domains = {self.signing.trust_domain, self.validating.trust_domain}
        for domain in sorted(domains, key=len, reverse=True):
            if name.endswith(f".{domain}"):
                return _parse_proxy_name(name.removesuffix(f".{domain}"))
        return None


def _parse_proxy_name(name: str) -> ProxyId | None:
    labels = name.split(".")
    if len(labels) < 4 or "" in labels or labels[1] != _SIDECAR or not is_uuid(labels[0]):  # noqa: PLR2004
        return None
    identity = ServiceIdentity(namespace=labels[-1], service_account=".".join(labels[2:-1]))
    return ProxyId(uuid=labels[0], identity=identity)


def is_uuid(text: str) -> bool:
    """True for a UUID in its usual form, as a proxy's name begins with."""
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False
