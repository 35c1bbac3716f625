"""Bootstrap Secrets whose Pod never came to be are deleted: a quota refuses Pods after injection.

A Secret is an orphan when it is of this mesh, has no owner, is not young, and no Pod carries its
UUID: neither one that the source has told of, nor one that the API server has. It must have been so
for a while by a clock that does not jump: the Pod of a Secret that was made just now may not be
stored yet, and would wait for its volume for ever. Specification: kubernetes-surface 3.3.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from app import logs
from app.controller.ownership import secret_ref
from app.controller.secrets import BootstrapSecret, BootstrapSecrets
from app.errors import KubernetesError
from app.objects.meta import PROXY_UUID_LABEL, ObjectKey
from app.ports import Clock, Cluster, ObjectWriter

SWEEP_SECONDS = 3600.0
YOUNG = timedelta(minutes=10)
"""A Secret is made before its Pod; so long a Pod may take to be seen."""
LOOK_SECONDS = 120.0
"""Between the look that finds an orphan and its end: longer than the API server takes to store a
Pod, whatever the clocks of both machines say."""

Remove = Callable[[BootstrapSecret], bool]


class OrphanSweep:
    """Looks for orphans once an hour, and again until those it found are gone; a job."""

    def __init__(
        self,
        secrets: BootstrapSecrets,
        clock: Clock,
        *,
        mesh_name: str,
        remove: Remove,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``remove`` deletes an orphan, or says False where it is none after all."""
        self._secrets = secrets
        self._clock = clock
        self._mesh_name = mesh_name
        self._remove = remove
        self._monotonic = monotonic
        self._log = logs.logger("upkeep")
        self._suspects: dict[tuple[ObjectKey, str], float] = {}
        """By key and uid: when it was first found to be an orphan."""
        self._due: float | None = None
        """None: at once, as soon as all Secrets and Pods are known."""

    def step(self, go_on: Callable[[], bool]) -> bool:
        """Where a sweep is due, no orphan is left that could be deleted."""
        moment = self._monotonic()
        if not self._secrets.synced or (self._due is not None and moment < self._due):
            return False
        now = self._clock.now()
        found = {(one.key, one.uid): one for one in self._secrets.all() if self._may_go(one, now)}
        self._suspects = {name: self._suspects.get(name, moment) for name in found}
        ripe = [name for name in sorted(found) if moment - self._suspects[name] >= LOOK_SECONDS]
        for name in ripe:
            if not go_on():
                return False
            self._sweep(found[name])
        self._due = moment + (SWEEP_SECONDS if len(ripe) == len(found) else LOOK_SECONDS)
        return False

    def _may_go(self, secret: BootstrapSecret, now: datetime) -> bool:
        return (
            secret.mesh_name == self._mesh_name
            and not secret.owners
            and secret.created is not None
            and now - secret.created >= YOUNG
            and not self._secrets.has_pod(secret)
        )

    def _sweep(self, secret: BootstrapSecret) -> None:
        try:
            if self._remove(secret):
                self._log.info("bootstrap Secret without a Pod deleted", secret=str(secret.key))
        except Exception as error:  # one Secret must not hold up the others
            code = getattr(error, "code", KubernetesError.code)
            self._log.exception(
                "orphaned bootstrap Secret not deleted", secret=str(secret.key), error_code=code
            )


def removal_in(cluster: Cluster) -> Remove:
    """Deletes that very Secret, once the API server has confirmed that no Pod carries its UUID."""

    def remove(secret: BootstrapSecret) -> bool:
        labels = f"{PROXY_UUID_LABEL}={secret.uuid}"
        if cluster.list("v1", "Pod", namespace=secret.key.namespace, labels=labels):
            return False
        return cluster.delete(secret_ref(secret.key), uid=secret.uid)

    return remove


def removal_on_one_machine(writer: ObjectWriter) -> Remove:
    """Deletes the Secret; every Pod of the machine was told of as it was written."""

    def remove(secret: BootstrapSecret) -> bool:
        writer.delete(secret.key)
        return True

    return remove
