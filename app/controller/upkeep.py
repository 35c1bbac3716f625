"""What must be done again and again: sidecars get new xDS client certificates before theirs end.

Every few seconds it looks for Pods whose bootstrap Secret is due, by its annotations alone, and
replaces the Secret's certificate; whoever mounts the Secret rewrites the files, and Envoy reloads
them. Specification: data-plane 1.5 and 2.8; kubernetes-surface 3.4.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from app import logs
from app.certs.manager import ISSUER_ID, Certificates, sidecar_renewal_time
from app.controller.injector import issue_credentials
from app.errors import CertificateError
from app.inject.secret import (
    EXPIRY_ANNOTATION,
    SIGNING_ISSUER_ANNOTATION,
    VALIDATING_ISSUER_ANNOTATION,
    bootstrap_key,
    renewal,
)
from app.mesh.snapshot import MeshPod, MeshSnapshot
from app.objects.meta import ObjectKey, RawObject
from app.objects.patch import merge_patch
from app.ports import Clock, ObjectWriter
from xds.policy.identity import ProxyId

SCAN_SECONDS = 5.0
_LOOK_AGAIN = timedelta(minutes=1)
"""After a Secret was missing, or could not be renewed."""


class Upkeep:
    """Renews the bootstrap Secrets of running Pods."""

    def __init__(
        self,
        certificates: Certificates,
        writer: ObjectWriter,
        clock: Clock,
        *,
        snapshot: Callable[[], MeshSnapshot | None],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._certificates = certificates
        self._writer = writer
        self._clock = clock
        self._snapshot = snapshot
        self._jitter = jitter
        self._log = logs.logger("upkeep")
        self._due: dict[str, datetime] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def start(self) -> None:
        """Secrets are renewed by themselves from now on."""
        self._thread.start()

    def stop(self) -> None:
        """The thread has ended; safe to call when it was never started."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()

    def step(self) -> None:
        """One scan: what was due is renewed, or looked at again in a minute."""
        snapshot = self._snapshot()
        pods = {} if snapshot is None else snapshot.workloads.pods
        self._due = {uuid: due for uuid, due in self._due.items() if uuid in pods}
        for uuid, pod in sorted(pods.items()):
            if self._stopped.is_set():
                return
            try:
                self._see_to(pod)
            except Exception as error:  # one Pod's Secret must not hold up the others
                code = getattr(error, "code", CertificateError.code)
                self._log.exception("bootstrap Secret not renewed", uuid=uuid, error_code=code)
                self._due[uuid] = self._clock.now() + _LOOK_AGAIN

    def _run(self) -> None:
        while not self._stopped.wait(SCAN_SECONDS):
            self.step()

    def _see_to(self, pod: MeshPod) -> None:
        """The Pod's Secret is not due now; Secrets are read at first sight and when due only."""
        now = self._clock.now()
        if self._due.get(pod.uuid, now) > now:
            return
        key = bootstrap_key(pod.namespace, pod.uuid)
        raw = self._writer.read(key)
        if raw is None:
            self._due[pod.uuid] = now + _LOOK_AGAIN
            return
        due = self._due_time(raw)
        if due <= now:
            due = self._renew(pod, key, raw)
        self._due[pod.uuid] = due

    def _renew(self, pod: MeshPod, key: ObjectKey, raw: RawObject) -> datetime:
        """The Secret has a new certificate; its next due time."""
        credentials = issue_credentials(
            self._certificates, ProxyId(uuid=pod.uuid, identity=pod.identity)
        )
        self._writer.replace(merge_patch(raw, renewal(credentials)))
        self._log.info("sidecar certificate renewed", secret=str(key))
        return sidecar_renewal_time(credentials.expires, jitter=self._jitter())

    def _due_time(self, secret: RawObject) -> datetime:
        """When the Secret must be renewed; long ago where its annotations do not say so."""
        annotations: Mapping[str, str] = (secret.get("metadata") or {}).get("annotations") or {}
        ids = {
            annotations.get(SIGNING_ISSUER_ANNOTATION),
            annotations.get(VALIDATING_ISSUER_ANNOTATION),
        }
        expires = _parse_time(annotations.get(EXPIRY_ANNOTATION, ""))
        if expires is None or ids != {ISSUER_ID}:
            return datetime.min.replace(tzinfo=UTC)
        return sidecar_renewal_time(expires, jitter=self._jitter())


def _parse_time(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
