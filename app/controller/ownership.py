"""Bootstrap Secrets go with their Pods: each gets an ownerReference as soon as its Pod exists.

The garbage collector of the cluster does the rest. Owners that are there already stay.
Specification: kubernetes-surface 3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from app import logs
from app.controller.secrets import BootstrapSecret, BootstrapSecrets, Owner
from app.errors import KubernetesError, NotFoundError
from app.objects.meta import ObjectKey, ObjectRef, RawObject
from app.ports import Clock, Cluster

_LOOK_AGAIN = timedelta(minutes=1)


class Ownership:
    """Gives bootstrap Secrets their owners; a job of upkeep, in a cluster only."""

    def __init__(self, secrets: BootstrapSecrets, cluster: Cluster, clock: Clock) -> None:
        self._secrets = secrets
        self._cluster = cluster
        self._clock = clock
        self._log = logs.logger("upkeep")
        self._tried: dict[tuple[ObjectKey, tuple[Owner, ...]], datetime] = {}
        """When an owner was written that the watch has not shown yet, or that failed."""

    def step(self, go_on: Callable[[], bool]) -> bool:
        """Every Secret whose Pod is known has it as owner, or is tried again in a minute."""
        wanted = {(one.key, owners): (one, owners) for one, owners in self._secrets.unowned()}
        now = self._clock.now()
        self._tried = {key: at for key, at in self._tried.items() if key in wanted}
        for key, (secret, owners) in sorted(wanted.items()):
            if not go_on():
                break
            if self._tried.get(key, now - _LOOK_AGAIN) + _LOOK_AGAIN <= now:
                self._tried[key] = now
                self._own(secret, owners)
        return False

    def _own(self, secret: BootstrapSecret, owners: tuple[Owner, ...]) -> None:
        try:
            self._cluster.patch(secret_ref(secret.key), owners_patch(owners), strategic=True)
        except NotFoundError:
            return
        except Exception as error:  # one Secret must not hold up the others
            code = getattr(error, "code", KubernetesError.code)
            self._log.exception(
                "owner of a bootstrap Secret not written", secret=str(secret.key), error_code=code
            )
        else:
            self._log.debug("bootstrap Secret has its owner", secret=str(secret.key))


def secret_ref(key: ObjectKey) -> ObjectRef:
    """The Secret as the API server names it."""
    return ObjectRef(api_version="v1", kind="Secret", namespace=key.namespace, name=key.name)


def owners_patch(owners: Iterable[Owner]) -> RawObject:
    """The strategic merge patch that adds Pods to the owners: lists are merged by uid."""
    references = [
        {"apiVersion": "v1", "kind": "Pod", "name": owner.name, "uid": owner.uid}
        for owner in owners
    ]
    return {"metadata": {"ownerReferences": references}}
