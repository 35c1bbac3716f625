"""The certificates of the mesh: issued before they are needed, cached, renewed before they expire.

Identities that have Pods come in (``want``), a complete ``SecretTable`` goes out as one event per
batch. Signing happens on the thread ``certs``, or in the caller for sidecars and servers. Called by
``controller``. Specification: data-plane 1.4, 1.5 and 2.2.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from app import logs
from app.certs.x509 import MAX_COMMON_NAME_LENGTH
from app.errors import CertificateError
from app.events import CertificatesIssued
from app.metrics import Metrics
from app.ports import (
    CertificateProvider,
    CertificateRequest,
    Clock,
    IssuedCertificate,
    Post,
)
from xds.policy.identity import Issuer, ProxyId, ServiceIdentity
from xds.policy.proxy import KeyPair, SecretTable, TrustBundle

INTERNAL_LIFETIME = timedelta(hours=87600)
SIDECAR_LIFETIME = timedelta(hours=720)
ISSUER_ID = "legacy-compat"
"""The one issuer while no MeshRootCertificates are read; signs and validates (data-plane 2.6)."""
SCAN_SECONDS = 5.0
_MIN_MARGIN = timedelta(minutes=5)
_FIRST_BACK_OFF = timedelta(seconds=5)
_LONGEST_BACK_OFF = timedelta(minutes=5)
_SLICE = timedelta(milliseconds=500)
"""While many identities are new, those that are done are told this often."""

Changed = Callable[[KeyPair, TrustBundle], None]
Failed = Callable[[str, Exception], None]
"""Told a certificate's name and why it was not issued; must be quick."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuePolicy:
    """How certificates are issued from now on; a change takes effect at each next issue."""

    issuer: Issuer = field(default_factory=Issuer)
    service_lifetime: timedelta = timedelta(hours=24)
    rsa_bits: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRecord:
    """One certificate in use, for the API; no key."""

    name: str
    serial: str
    not_before: datetime
    not_after: datetime
    renew_at: datetime
    certificate_chain: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """A certificate in use and when it must be looked at again."""

    issued: IssuedCertificate | None
    look_at: datetime
    failures: int = 0


class Certificates:
    """Issues and renews. ``want``, ``follow`` and the readers may be called from any thread."""

    def __init__(
        self,
        provider: CertificateProvider,
        clock: Clock,
        *,
        post: Post,
        metrics: Metrics,
        policy: IssuePolicy | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._provider = provider
        self._clock = clock
        self._post = post
        self._metrics = metrics
        self._jitter = jitter
        self._log = logs.logger("certs")
        self._policy = policy or IssuePolicy()
        self._woken = threading.Condition()
        self._wanted: frozenset[ServiceIdentity] = frozenset()
        self._dirty = self._stopped = False
        self._workloads: dict[ServiceIdentity, _Held] = {}
        self._servers: dict[str, _Held] = {}
        self._names: dict[str, tuple[tuple[str, ...], Changed | None]] = {}
        self._trust = provider.trust_bundle()
        self._failed: Failed = lambda _name, _error: None
        self._thread = threading.Thread(target=self._run, name="certs", daemon=True)

    def start(self) -> None:
        """Certificates are issued and renewed by themselves from now on."""
        self._thread.start()

    def stop(self) -> None:
        """The thread has ended; safe to call when it was never started."""
        with self._woken:
            self._stopped = True
            self._woken.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    def on_failure(self, failed: Failed) -> None:
        """``failed`` hears of each certificate that could not be issued or renewed in time."""
        self._failed = failed

    def want(self, identities: frozenset[ServiceIdentity]) -> None:
        """Exactly these identities have certificates soon; does not block."""
        with self._woken:
            if identities != self._wanted:
                self._wanted, self._dirty = identities, True
                self._woken.notify_all()

    def follow(self, policy: IssuePolicy) -> None:
        """What is issued from now on is issued so; does not block."""
        self._policy = policy

    def issue_sidecar(self, proxy: ProxyId) -> IssuedCertificate:
        """A new xDS client certificate, never cached here; raise ``CertificateError``."""
        policy = self._policy
        issuer = policy.issuer
        return self._issue(
            CertificateRequest(
                common_name=proxy.uuid,
                dns_names=(issuer.proxy_dns_name(proxy),),
                uris=(issuer.proxy_uri(proxy),) if issuer.spiffe else (),
                lifetime=SIDECAR_LIFETIME,
                rsa_bits=policy.rsa_bits,
            )
        )

    def issue_gateway(self, names: Sequence[str], *, lifetime: timedelta) -> IssuedCertificate:
        """A new certificate for a gateway, never cached here; raise ``CertificateError``.

        Names are taken as they are; those that begin with ``spiffe://`` are URIs.
        """
        uris = tuple(name for name in names if name.startswith("spiffe://"))
        hosts = tuple(name for name in names if name not in uris)
        return self._issue(
            CertificateRequest(
                common_name=_common_name(hosts[0]) if hosts else None,
                dns_names=hosts,
                uris=uris,
                lifetime=lifetime,
                rsa_bits=self._policy.rsa_bits,
            )
        )

    def hold(
        self, name: str, *, dns_names: tuple[str, ...], changed: Changed | None = None
    ) -> None:
        """A server's certificate is issued now, read with ``held`` and renewed when due.

        ``changed`` hears of each certificate but the first. Raise ``CertificateError``.
        """
        issued = self._issue(self._server_request(dns_names))
        self._servers[name] = self._fresh(issued)
        self._names[name] = (dns_names, changed)

    def held(self, name: str) -> KeyPair:
        """The newest certificate of a server that ``hold`` was called for; lock-free."""
        issued = self._servers[name].issued
        if issued is None:  # hold() raises rather than storing nothing
            raise CertificateError(f"no certificate was issued for {name}")
        return issued.key_pair

    @property
    def trust(self) -> TrustBundle:
        """The roots to accept; lock-free."""
        return self._trust

    def records(self) -> tuple[CertificateRecord, ...]:
        """The certificates in use, sorted by name."""
        named = [(str(identity), held) for identity, held in dict(self._workloads).items()]
        named += dict(self._servers).items()
        return tuple(
            _record(name, held.issued, held.look_at)
            for name, held in sorted(named, key=lambda pair: pair[0])
            if held.issued is not None
        )

    def step(self) -> None:
        """One scan: what is missing or due has been issued, or is tried again later.

        Only the thread ``certs`` calls it, or a test that did not start it.
        """
        with self._woken:
            wanted, self._dirty = self._wanted, False
        self._renew_servers()
        trust = self._provider.trust_bundle()
        changed = trust != self._trust or self._drop_unwanted(wanted)
        self._trust = trust
        told = self._clock.now()
        for identity in self._due(wanted):
            if self._stopped:
                return
            changed |= self._renew_workload(identity)
            if changed and self._clock.now() - told >= _SLICE:
                self._tell()
                changed, told = False, self._clock.now()
        if changed:
            self._tell()
        self._metrics.certificates_overdue.set(self._count_overdue())

    def _run(self) -> None:
        while True:
            try:
                self.step()
            except Exception:  # the thread must live on: certificates expire
                self._log.exception("certificate scan failed", error_code=CertificateError.code)
            with self._woken:
                if not self._dirty and not self._stopped:
                    self._woken.wait(SCAN_SECONDS)
                if self._stopped:
                    return

    def _drop_unwanted(self, wanted: frozenset[ServiceIdentity]) -> bool:
        unwanted = self._workloads.keys() - wanted
        kept = {name: held for name, held in self._workloads.items() if name in wanted}
        self._workloads = kept
        return bool(unwanted)

    def _due(self, wanted: frozenset[ServiceIdentity]) -> Iterator[ServiceIdentity]:
        """Identities without a certificate first, so that no workload waits for a renewal."""
        now = self._clock.now()
        missing = sorted(identity for identity in wanted if identity not in self._workloads)
        yield from missing
        known = [name for name, held in self._workloads.items() if held.look_at <= now]
        yield from sorted(set(known) - set(missing))

    def _renew_workload(self, identity: ServiceIdentity) -> bool:
        held = self._workloads.get(identity)
        renewed = self._attempt(str(identity), held, self._workload_request(identity))
        self._workloads[identity] = renewed
        return renewed.failures == 0

    def _renew_servers(self) -> None:
        for name, (dns_names, changed) in list(self._names.items()):
            held = self._servers[name]
            if held.look_at > self._clock.now():
                continue
            renewed = self._attempt(name, held, self._server_request(dns_names))
            self._servers[name] = renewed
            if renewed.failures == 0 and renewed.issued is not None and changed is not None:
                changed(renewed.issued.key_pair, self._provider.trust_bundle())

    def _attempt(self, name: str, held: _Held | None, request: CertificateRequest) -> _Held:
        """What is held after one attempt: a failure keeps the old certificate and backs off."""
        before = held or _Held(issued=None, look_at=self._clock.now())
        try:
            issued = self._issue(request)
        except Exception as error:  # a provider's failure must not stop the others
            wait = min(_FIRST_BACK_OFF * 2**before.failures, _LONGEST_BACK_OFF)
            code = getattr(error, "code", CertificateError.code)
            self._log.exception(
                "certificate not issued", name=name, retry_seconds=wait.seconds, error_code=code
            )
            self._failed(name, error)
            failures = min(before.failures + 1, 10)
            return replace(before, look_at=self._clock.now() + wait, failures=failures)
        self._log.debug("certificate issued", name=name, expires=str(issued.not_after))
        return self._fresh(issued)

    def _issue(self, request: CertificateRequest) -> IssuedCertificate:
        with self._metrics.certificate_issue_time.time():
            issued = self._provider.issue(request)
        self._metrics.certificates_issued.inc()
        return issued

    def _fresh(self, issued: IssuedCertificate) -> _Held:
        return _Held(issued=issued, look_at=renewal_time(issued, jitter=self._jitter()))

    def _workload_request(self, identity: ServiceIdentity) -> CertificateRequest:
        policy = self._policy
        name = policy.issuer.dns_name(identity)
        return CertificateRequest(
            common_name=_common_name(name),
            dns_names=(name,),
            uris=(policy.issuer.uri(identity),) if policy.issuer.spiffe else (),
            lifetime=policy.service_lifetime,
            rsa_bits=policy.rsa_bits,
        )

    def _server_request(self, dns_names: tuple[str, ...]) -> CertificateRequest:
        return CertificateRequest(
            common_name=_common_name(dns_names[0]),
            dns_names=dns_names,
            lifetime=INTERNAL_LIFETIME,
            rsa_bits=self._policy.rsa_bits,
        )

    def _tell(self) -> None:
        pairs = {
            identity: held.issued.key_pair
            for identity, held in self._workloads.items()
            if held.issued is not None
        }
        self._post(CertificatesIssued(secrets=SecretTable(trust=self._trust, workloads=pairs)))

    def _count_overdue(self) -> int:
        now = self._clock.now()
        held = [*self._workloads.values(), *self._servers.values()]
        return sum(
            1
            for one in held
            if one.issued and one.issued.not_after - now <= _margin(one.issued) / 2
        )


def renewal_time(issued: IssuedCertificate, *, jitter: float) -> datetime:
    """When a certificate is due: a third of its own life before its end, less 0 to 4 whole seconds.

    ``jitter`` is at least 0 and below 1.
    """
    return issued.not_after - _margin(issued) - timedelta(seconds=int(jitter * 5))


def sidecar_renewal_time(expires: datetime, *, jitter: float) -> datetime:
    """When a sidecar's certificate is due, of which only the end is known; as ``renewal_time``."""
    return expires - SIDECAR_LIFETIME / 3 - timedelta(seconds=int(jitter * 5))


def _margin(issued: IssuedCertificate) -> timedelta:
    return max((issued.not_after - issued.not_before) / 3, _MIN_MARGIN)


def _common_name(name: str) -> str | None:
    return name if len(name) <= MAX_COMMON_NAME_LENGTH else None


def _record(name: str, issued: IssuedCertificate, renew_at: datetime) -> CertificateRecord:
    return CertificateRecord(
        name=name,
        serial=issued.serial,
        not_before=issued.not_before,
        not_after=issued.not_after,
        renew_at=renew_at,
        certificate_chain=issued.key_pair.certificate_chain,
    )
