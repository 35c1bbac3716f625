"""Warnings that people see where they look first: as events of the control plane's own Pod.

``Runtime`` and the command that starts it tell what went wrong; ``kubectl describe pod`` shows it.
The same reason is told once in ten minutes, from a thread of its own: nobody waits for the API
server. Specification: kubernetes-surface 9.1.
"""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import uuid4

from app import logs
from app.errors import CaError, CertificateError, KubernetesError, SettingError
from app.objects.meta import ObjectRef, RawObject
from app.ports import Clock, Cluster

QUIET = timedelta(minutes=10)
FATAL_SECONDS = 10.0
_SOURCE = "osm-controller"
_LONGEST = 1000
"""Characters; the API server takes 1024."""


class Reason(StrEnum):
    """What went wrong, in the word that users and alerts look for."""

    BAD_PARAMETERS = "FatalInvalidCLIParameters"
    NOT_STARTED = "FatalInitializationError"
    BAD_CERTIFICATE_MANAGER = "FatalInvalidCertificateManager"
    NO_CERTIFICATE = "FatalCertificateIssuanceFailure"
    ROTATION_FAILED = "CertificateRotationFailure"
    TOO_MANY_PROXIES = "MaxDataPlaneConnectionsReached"


class PodWarnings:
    """Writes Warning events on one Pod. Any thread may tell."""

    def __init__(self, cluster: Cluster, clock: Clock, *, pod: ObjectRef) -> None:
        """``pod`` is the control plane's own."""
        self._cluster = cluster
        self._clock = clock
        self._pod = pod
        self._log = logs.logger("warnings")
        self._lock = threading.Lock()
        self._told: dict[Reason, datetime] = {}

    def tell(self, reason: Reason, message: str) -> None:
        """The event is written soon, unless one of the same reason was a moment ago."""
        self._begin(reason, message)

    def tell_and_wait(
        self, reason: Reason, message: str, *, seconds: float = FATAL_SECONDS
    ) -> None:
        """The event is written, or that took too long; for what ends the process."""
        writing = self._begin(reason, message)
        if writing is not None:
            writing.join(seconds)

    def _begin(self, reason: Reason, message: str) -> threading.Thread | None:
        now = self._clock.now()
        with self._lock:
            told = self._told.get(reason)
            if told is not None and now - told < QUIET:
                return None
            self._told[reason] = now
        writing = threading.Thread(
            target=self._write, args=(reason, message, now), name="warning", daemon=True
        )
        writing.start()
        return writing

    def _write(self, reason: Reason, message: str, now: datetime) -> None:
        try:
            pod = self._cluster.read(self._pod)
            uid = "" if pod is None else str(pod["metadata"].get("uid") or "")
            self._cluster.create(warning_event(self._pod, uid, reason, message=message, now=now))
        except Exception as error:  # the log has the warning already
            code = getattr(error, "code", KubernetesError.code)
            self._log.warning("no event was written", error=str(error), error_code=code)


def warning_event(
    pod: ObjectRef, uid: str, reason: Reason, *, message: str, now: datetime
) -> RawObject:
    """The event as it is created; without the Pod's uid ``kubectl describe`` does not show it."""
    moment = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{pod.name}.{uuid4().hex[:16]}", "namespace": pod.namespace},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": pod.name,
            "namespace": pod.namespace,
            **({"uid": uid} if uid else {}),
        },
        "type": "Warning",
        "reason": str(reason),
        "message": message[:_LONGEST],
        "source": {"component": _SOURCE},
        "reportingComponent": _SOURCE,
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
    }


def fatal_reason(error: Exception) -> Reason:
    """The reason of what ended the process at its start."""
    match error:
        case SettingError():
            return Reason.BAD_PARAMETERS
        case CaError():
            return Reason.BAD_CERTIFICATE_MANAGER
        case CertificateError():
            return Reason.NO_CERTIFICATE
        case _:
            return Reason.NOT_STARTED


def own_pod(namespace: str, name: str) -> ObjectRef:
    """The Pod of that name."""
    return ObjectRef(api_version="v1", kind="Pod", namespace=namespace, name=name)
