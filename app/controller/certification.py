"""The mesh's certificates in one process: the root is opened once, then they follow the snapshot.

Snapshots come in from the loop, certificates for identities with Pods go out through
:class:`Certificates`; what the control plane shows itself is in ``serving``. Built by ``Runtime``.
Specification: data-plane 1.4, 2.2 and 2.3.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from app import logs
from app.certs.builtin import BuiltinCa, ca_secret_key, open_builtin_ca
from app.certs.manager import CertificateRecord, Certificates, IssuePolicy
from app.controller.serving import ServingCertificates
from app.errors import CaError
from app.mesh.snapshot import MeshSnapshot
from app.metrics import Metrics
from app.ports import Clock, ObjectWriter, Post
from app.settings import Settings

_OLD_ROOT = 0.1
"""A root with less of its life left should be replaced."""


class Certification:
    """Certificates that exist once ``open`` was called; readers may be called from any thread."""

    def __init__(
        self,
        settings: Settings,
        writer: ObjectWriter,
        clock: Clock,
        *,
        post: Post,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._writer = writer
        self._clock = clock
        self._post = post
        self._metrics = metrics
        self._log = logs.logger("certs")
        self._following = threading.Lock()
        self._newest: MeshSnapshot | None = None
        """The newest snapshot the loop made, perhaps not published yet; under the lock."""
        self.certificates: Certificates | None = None
        """None until they are open."""
        self.serving: ServingCertificates | None = None
        """None until they are open."""

    def open(
        self,
        snapshot: MeshSnapshot,
        *,
        product_version: str,
        announce: Callable[[], None] | None,
    ) -> Certificates:
        """The root is open, servers have certificates, and workloads get theirs.

        ``announce`` is as for :class:`ServingCertificates`; None where no webhooks are served.
        Raise ``CaError`` and ``CertificateError``.
        """
        settings = self._settings
        ca = open_builtin_ca(
            self._writer,
            self._clock,
            secret=ca_secret_key(settings.osm_namespace, settings.ca_bundle_secret_name),
            rsa_bits=snapshot.config.certificate.cert_key_bit_size,
            version=product_version,
        )
        self._watch_root(ca)
        certificates = Certificates(
            ca, self._clock, post=self._post, metrics=self._metrics, policy=_issue_policy(snapshot)
        )
        self.serving = ServingCertificates(certificates, settings, announce=announce)
        with self._following:
            self.certificates = certificates
            _instruct(certificates, self._newest or snapshot)
        certificates.start()
        return certificates

    def follow(self, snapshot: MeshSnapshot) -> None:
        """Certificates are issued as this snapshot wants them; quick."""
        with self._following:
            self._newest = snapshot
            if self.certificates is not None:
                _instruct(self.certificates, snapshot)

    def records(self) -> tuple[CertificateRecord, ...]:
        """The certificates in use, sorted by name; no keys."""
        return () if self.certificates is None else self.certificates.records()

    def stop(self) -> None:
        """Nothing is issued any more; safe to call when they were never opened."""
        if self.certificates is not None:
            self.certificates.stop()

    def _watch_root(self, ca: BuiltinCa) -> None:
        self._metrics.root_remaining.set_function(ca.remaining_life)
        if ca.remaining_life() < _OLD_ROOT:
            self._log.warning("the mesh's root expires soon; replace it", error_code=CaError.code)


def _instruct(certificates: Certificates, snapshot: MeshSnapshot) -> None:
    certificates.follow(_issue_policy(snapshot))
    certificates.want(frozenset(pod.identity for pod in snapshot.workloads.pods.values()))


def _issue_policy(snapshot: MeshSnapshot) -> IssuePolicy:
    config = snapshot.config.certificate
    return IssuePolicy(
        issuer=snapshot.issuers.signing,
        service_lifetime=config.service_cert_validity_duration,
        rsa_bits=config.cert_key_bit_size,
    )
