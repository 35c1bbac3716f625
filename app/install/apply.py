"""Objects into the cluster, in the order they need each other; then the wait until they run.

Rendered objects come in; server-side apply makes the cluster have them, so a second run changes
nothing and foreign fields stay. Told of progress: the CLI shows it. Called by the CLI.
Specification: kubernetes-surface 7.2.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from app.errors import NotFoundError
from app.install.adopt import adopted_fields
from app.install.status import Rollout, rollout_of
from app.objects.meta import ObjectRef, RawObject
from app.ports import Cluster

_ORDER = (
    "Namespace",
    "CustomResourceDefinition",
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "ConfigMap",
    "Secret",
    "Service",
    "PodDisruptionBudget",
)
"""What others need comes first; kinds that are not named come last, in the order they have."""

Told = Callable[[str], None]


class Waiting(Protocol):
    """How long to wait: returns False when the time is over."""

    def __call__(self, changed: threading.Condition) -> bool:
        """Waits for the condition at most as long as is left."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What a run did."""

    created: tuple[ObjectRef, ...]
    """Objects that were not there before, in order."""


def in_order(objects: Iterable[RawObject]) -> tuple[RawObject, ...]:
    """The objects, what others need first."""
    rank = {kind: place for place, kind in enumerate(_ORDER)}
    return tuple(sorted(objects, key=lambda raw: rank.get(raw["kind"], len(rank))))


def apply_objects(cluster: Cluster, objects: Iterable[RawObject], told: Told) -> Applied:
    """The cluster has the objects; fields that another installer wrote and we do not are gone.

    Raises what ``Cluster.apply`` raises, at the first object that is refused.
    """
    created: list[ObjectRef] = []
    for raw in in_order(objects):
        ref = ObjectRef.of(raw)
        told(f"applying {ref}")
        present = cluster.read(ref)
        if present is None:
            created.append(ref)
        else:
            _adopt(cluster, ref, present)
        cluster.apply(raw)
    return Applied(created=tuple(created))


def wait_for_rollout(
    cluster: Cluster, ref: ObjectRef, told: Callable[[Rollout], None], wait: Waiting
) -> bool:
    """True when every replica of the Deployment is new and available; False when time is over."""
    changed = threading.Condition()
    latest = Rollout()

    def heard(raw: RawObject | None) -> None:
        nonlocal latest
        with changed:
            latest = Rollout() if raw is None else rollout_of(raw)
            changed.notify_all()

    watching = cluster.watch(
        ref.api_version, ref.kind, heard, namespace=ref.namespace, name=ref.name
    )
    try:
        with changed:
            while True:
                told(latest)
                if latest.is_done:
                    return True
                if not wait(changed):
                    return False
    finally:
        watching.stop()


def _adopt(cluster: Cluster, ref: ObjectRef, present: RawObject) -> None:
    """Fields that another installer wrote are ours, so that applying removes those we leave out."""
    fields = adopted_fields(present)
    # A namespace was there before the mesh: its labels are its owner's.
    if fields is None or ref.kind == "Namespace":
        return
    version = present["metadata"].get("resourceVersion")
    try:
        cluster.patch(ref, {"metadata": {"managedFields": fields, "resourceVersion": version}})
    except NotFoundError:
        return  # Deleted since it was read: applying makes it anew.
