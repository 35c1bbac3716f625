"""A certificate provider that signs nothing: certificates are counted, and can be made to fail."""

from __future__ import annotations

from datetime import timedelta

from app.errors import CertificateError
from app.ports import CertificateRequest, Clock, IssuedCertificate
from xds.policy.proxy import KeyPair, TrustBundle


class FakeProvider:
    """Implements ``CertificateProvider``; ``requests`` are those that were answered."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.requests: list[CertificateRequest] = []
        self.failing: set[str] = set()
        """DNS names for which ``issue`` raises."""
        self.attempts = 0
        self.roots = b"roots-1\n"

    def issue(self, request: CertificateRequest) -> IssuedCertificate:
        self.attempts += 1
        if self.failing.intersection(request.dns_names):
            raise CertificateError("the provider is down")
        self.requests.append(request)
        serial = str(len(self.requests))
        name = request.dns_names[0]
        now = self._clock.now()
        return IssuedCertificate(
            key_pair=KeyPair(
                certificate_chain=f"chain {name} {serial}\n".encode(),
                private_key=f"key {name} {serial}\n".encode(),
            ),
            serial=serial,
            not_before=now - timedelta(minutes=5),
            not_after=now + request.lifetime,
        )

    def trust_bundle(self) -> TrustBundle:
        return TrustBundle(roots=self.roots)
