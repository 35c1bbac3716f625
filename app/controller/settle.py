"""An object of the API server is as we want it, whoever writes to it at the same time.

Registration and reconciler say by a pure function what becomes of the object that is there; this
writes it, and writes nothing where it is so already.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from app.errors import NotFoundError, WriteConflict
from app.objects.meta import ObjectRef, RawObject
from app.ports import Cluster

Merge = Callable[[RawObject | None], RawObject | None]
"""What is there (None: nothing) to what should be; the same where nothing is to do.

It must not change its argument, and keep the metadata it does not own.
"""
ATTEMPTS = 10
"""Replicas that start together need one more each; more is somebody who fights us."""


def settle(cluster: Cluster, ref: ObjectRef, merge: Merge) -> bool:
    """The object is as merged; True when that took a write.

    Raises what the cluster raises, ``WriteConflict`` only when others kept writing.
    """
    for _ in range(ATTEMPTS - 1):
        with contextlib.suppress(WriteConflict, NotFoundError):
            return _settle_once(cluster, ref, merge)
    return _settle_once(cluster, ref, merge)


def _settle_once(cluster: Cluster, ref: ObjectRef, merge: Merge) -> bool:
    current = cluster.read(ref)
    wanted = merge(current)
    if wanted is None or wanted == current:
        return False
    return _write(cluster, current, wanted)


def _write(cluster: Cluster, current: RawObject | None, wanted: RawObject) -> bool:
    if current is None:
        cluster.create(wanted)
        return True
    stored = cluster.replace(wanted)
    # A server that fills in more than it was given stores nothing new: that is no repair.
    return _version(stored) != _version(current)


def _version(raw: RawObject) -> object:
    return raw["metadata"].get("resourceVersion")
