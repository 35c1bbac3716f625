"""What is known of bootstrap Secrets and of the Pods that start from them: metadata, no content.

Events of the source pass through here before the loop gets them: those of Secrets end here, those
of Pods go on. Upkeep reads what to renew, to give an owner, or to sweep, and where a gateway has
its certificate. Specification: kubernetes-surface 3.3 and 3.4.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from app.events import Event, ObjectChanged, ObjectDeleted, Synced
from app.inject.secret import (
    EXPIRY_ANNOTATION,
    SIGNING_ISSUER_ANNOTATION,
    VALIDATING_ISSUER_ANNOTATION,
    sidecar_uuid,
)
from app.metrics import Metrics
from app.objects.meta import (
    GATEWAY_LABEL,
    INSTANCE_LABEL,
    PROXY_UUID_LABEL,
    KubeObject,
    ObjectKey,
    ObjectKind,
    ObjectMeta,
)
from xds.policy.identity import is_uuid

_KINDS = frozenset({ObjectKind.SECRET, ObjectKind.POD})
_Place = tuple[str, str]
"""Namespace and UUID of a sidecar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What a bootstrap Secret's annotations say; empty where they say nothing."""

    expiry: str
    signing_issuer: str
    validating_issuer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapSecret:
    """The metadata of a Secret that a sidecar starts from."""

    key: ObjectKey
    uid: str
    uuid: str
    mesh_name: str
    created: datetime | None
    stamp: Stamp
    owners: frozenset[str]
    """UIDs of the objects whose end is its own."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Owner:
    """A Pod that carries a sidecar's UUID."""

    name: str
    uid: str


class BootstrapSecrets:
    """All of them, as the source tells. Any thread may tell and read."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._lock = threading.Lock()
        self._secrets: dict[_Place, BootstrapSecret] = {}
        self._gateways: dict[ObjectKey, ObjectMeta] = {}
        self._pods: dict[_Place, dict[str, str]] = {}
        """UIDs of Pods by their names."""
        self._places: dict[tuple[str, str], _Place] = {}
        """Where a Pod is in ``_pods``, by its namespace and name."""
        self._unowned: dict[_Place, None] = {}
        self._unsynced = set(_KINDS)
        self._tell: Callable[[], None] = lambda: None

    def take(self, event: Event) -> bool:
        """The event is noted; True when it concerns nobody else."""
        match event:
            case ObjectChanged() if event.key.kind is ObjectKind.SECRET:
                self._put_secret(event.key, event.object)
            case ObjectDeleted() if event.key.kind is ObjectKind.SECRET:
                self._drop_secret(event.key)
            case ObjectChanged() if event.key.kind is ObjectKind.POD:
                self._put_pod(event.key, event.object)
                return False
            case ObjectDeleted() if event.key.kind is ObjectKind.POD:
                with self._lock:
                    self._drop_pod((event.key.namespace, event.key.name))
                return False
            case Synced():
                with self._lock:
                    self._unsynced -= event.kinds
                return False
            case _:
                return False
        change = "changed" if isinstance(event, ObjectChanged) else "deleted"
        self._metrics.object_events.inc(f"{event.key.kind} {change}", event.key.namespace)
        return True

    def on_unowned(self, tell: Callable[[], None]) -> None:
        """``tell`` is called for each Secret that is found to lack an owner; it must be quick."""
        self._tell = tell

    @property
    def synced(self) -> bool:
        """True once all Secrets and Pods that existed at the start are known."""
        return not self._unsynced

    def all(self) -> tuple[BootstrapSecret, ...]:
        """All bootstrap Secrets, in no order."""
        with self._lock:
            return tuple(self._secrets.values())

    def gateways(self) -> dict[ObjectKey, ObjectMeta]:
        """Secrets with the certificate of a gateway, whatever their mesh."""
        with self._lock:
            return dict(self._gateways)

    def unowned(self) -> tuple[tuple[BootstrapSecret, tuple[Owner, ...]], ...]:
        """Secrets with the Pods that should own them and do not; owners are sorted."""
        with self._lock:
            return tuple((self._secrets[one], self._missing(one)) for one in self._unowned)

    def has_pod(self, secret: BootstrapSecret) -> bool:
        """True while a Pod carries the UUID of the Secret's sidecar."""
        with self._lock:
            return bool(self._pods.get((secret.key.namespace, secret.uuid)))

    def _put_secret(self, key: ObjectKey, secret: KubeObject) -> None:
        with self._lock:
            self._gateways.pop(key, None)
            if GATEWAY_LABEL in secret.metadata.labels:
                self._gateways[key] = secret.metadata
        uuid = sidecar_uuid(key.name)
        if uuid is None or not is_uuid(uuid):
            return
        metadata = secret.metadata
        place = (key.namespace, uuid)
        with self._lock:
            self._secrets[place] = BootstrapSecret(
                key=key,
                uid=metadata.uid,
                uuid=uuid,
                mesh_name=metadata.labels.get(INSTANCE_LABEL, ""),
                created=metadata.creation_timestamp,
                stamp=_stamp(metadata.annotations),
                owners=frozenset(owner.uid for owner in metadata.owner_references),
            )
            self._check(place)

    def _drop_secret(self, key: ObjectKey) -> None:
        place = (key.namespace, sidecar_uuid(key.name) or "")
        with self._lock:
            self._secrets.pop(place, None)
            self._gateways.pop(key, None)
            self._check(place)

    def _put_pod(self, key: ObjectKey, pod: KubeObject) -> None:
        uuid = pod.metadata.labels.get(PROXY_UUID_LABEL)
        where = (key.namespace, key.name)
        with self._lock:
            self._drop_pod(where)
            if uuid is not None:
                place = self._places[where] = (key.namespace, uuid)
                self._pods.setdefault(place, {})[key.name] = pod.metadata.uid
                self._check(place)

    def _drop_pod(self, where: tuple[str, str]) -> None:
        place = self._places.pop(where, None)
        if place is None:
            return
        pods = self._pods[place]
        del pods[where[1]]
        if not pods:
            del self._pods[place]
        self._check(place)

    def _check(self, place: _Place) -> None:
        if place in self._secrets and self._missing(place):
            self._unowned[place] = None
            self._tell()
        else:
            self._unowned.pop(place, None)

    def _missing(self, place: _Place) -> tuple[Owner, ...]:
        owners = self._secrets[place].owners
        pods = self._pods.get(place, {}).items()
        return tuple(sorted(Owner(name=n, uid=uid) for n, uid in pods if uid not in owners))


def _stamp(annotations: Mapping[str, str]) -> Stamp:
    return Stamp(
        expiry=annotations.get(EXPIRY_ANNOTATION, ""),
        signing_issuer=annotations.get(SIGNING_ISSUER_ANNOTATION, ""),
        validating_issuer=annotations.get(VALIDATING_ISSUER_ANNOTATION, ""),
    )
