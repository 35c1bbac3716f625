"""Sidecars get new xDS client certificates before theirs end: their Secrets are patched.

Which Secret is due is told by its annotations; keys are written and never read. One without
annotations, as the original wrote them, is due at once. The kubelet rewrites the files, and Envoy
reloads them. Specification: kubernetes-surface 3.4; data-plane 1.5 and 2.8.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from app import logs
from app.certs.manager import ISSUER_ID, Certificates, sidecar_renewal_time
from app.controller.injector import issue_credentials
from app.controller.secrets import BootstrapSecret, BootstrapSecrets, Stamp
from app.errors import CertificateError
from app.inject.secret import renewal
from app.mesh.snapshot import MeshPod, MeshSnapshot
from app.objects.meta import ObjectKey, RawObject
from app.ports import Clock
from xds.policy.identity import ProxyId

_LOOK_AGAIN = timedelta(minutes=1)
"""After a Secret could not be renewed."""

_MOST_AT_ONCE = 50
"""Renewals between which other jobs have their turn: all may be due in a mesh that moved here."""


class Renewal:
    """Renews the bootstrap Secrets of running Pods; a job of upkeep."""

    def __init__(
        self,
        secrets: BootstrapSecrets,
        certificates: Certificates,
        clock: Clock,
        *,
        patch: Callable[[ObjectKey, RawObject], None],
        snapshot: Callable[[], MeshSnapshot | None],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """``patch`` applies a JSON merge patch to a Secret."""
        self._secrets = secrets
        self._certificates = certificates
        self._clock = clock
        self._patch = patch
        self._snapshot = snapshot
        self._jitter = jitter
        self._log = logs.logger("upkeep")
        self._due: dict[str, tuple[BootstrapSecret, datetime]] = {}
        """By UUID: the Secret as it was looked at, and when it is due."""

    def step(self, go_on: Callable[[], bool]) -> bool:
        """What was due is renewed, or looked at again in a minute; True when there is more."""
        snapshot = self._snapshot()
        pods = {} if snapshot is None else snapshot.workloads.pods
        found = {one.uuid: one for one in self._secrets.all() if _is_of(one, pods.get(one.uuid))}
        self._due = {uuid: due for uuid, due in self._due.items() if uuid in found}
        now = self._clock.now()
        due = sorted(uuid for uuid, one in found.items() if self._due_time(one) <= now)
        for uuid in due[:_MOST_AT_ONCE]:
            if not go_on():
                return False
            self._due[uuid] = (found[uuid], self._renew(found[uuid], pods[uuid]))
        return len(due) > _MOST_AT_ONCE

    def _due_time(self, secret: BootstrapSecret) -> datetime:
        """When the Secret is due; what was settled for its present annotations stays so."""
        known = self._due.get(secret.uuid)
        if known is not None and known[0].stamp == secret.stamp and known[0].uid == secret.uid:
            return known[1]
        due = due_time(secret.stamp, jitter=self._jitter())
        self._due[secret.uuid] = (secret, due)
        return due

    def _renew(self, secret: BootstrapSecret, pod: MeshPod) -> datetime:
        """When the Secret is due next; it has a new certificate unless that failed."""
        try:
            credentials = issue_credentials(
                self._certificates, ProxyId(uuid=pod.uuid, identity=pod.identity)
            )
            self._patch(secret.key, renewal(credentials))
        except Exception as error:  # one Pod's Secret must not hold up the others
            code = getattr(error, "code", CertificateError.code)
            self._log.exception("bootstrap Secret not renewed", uuid=pod.uuid, error_code=code)
            return self._clock.now() + _LOOK_AGAIN
        self._log.info("sidecar certificate renewed", secret=str(secret.key))
        return sidecar_renewal_time(credentials.expires, jitter=self._jitter())


def due_time(stamp: Stamp, *, jitter: float) -> datetime:
    """When a Secret with these annotations must be renewed; long ago where they do not say so."""
    issuers = {stamp.signing_issuer, stamp.validating_issuer}
    try:
        expires = datetime.fromisoformat(stamp.expiry)
        if expires.tzinfo is not None and issuers == {ISSUER_ID}:
            return sidecar_renewal_time(expires, jitter=jitter)
    except (ValueError, OverflowError):
        pass  # Anybody may write it who may write Secrets there, such as the year 1.
    return datetime.min.replace(tzinfo=UTC)


def _is_of(secret: BootstrapSecret, pod: MeshPod | None) -> bool:
    return pod is not None and pod.namespace == secret.key.namespace
