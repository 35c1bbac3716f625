"""The API server as writer of the mesh's own objects: Secrets, Pods' owners, MeshConfig, statuses.

Keys of the mesh become references in the version that the server has; ``Injector``, ``Upkeep`` and
the certificates write through it. Implements ``ObjectWriter`` on a cluster.
"""

from __future__ import annotations

from typing import Protocol

from app.errors import NotFoundError, WriteConflict
from app.objects import scheme
from app.objects.meta import ObjectKey, ObjectKind, ObjectRef, RawObject
from app.ports import Cluster

READ_SECONDS = 3.0
"""Reads end within this, since an admission request waits for them (kubernetes-surface 3.2)."""
_ATTEMPTS = 5


class StatusCluster(Cluster, Protocol):
    """A cluster whose statuses can be written."""

    def patch_status(self, ref: ObjectRef, status: RawObject) -> RawObject:
        """The object whose status has these fields; raise ``NotFoundError``."""
        ...


class KubeWriter:
    """Writes objects of the kinds in ``scheme``. Thread-safe."""

    def __init__(self, cluster: StatusCluster, *, reads: Cluster | None = None) -> None:
        """``reads`` is asked for reads: the same cluster, within ``READ_SECONDS``."""
        self._cluster = cluster
        self._reads = reads or cluster

    def read(self, key: ObjectKey) -> RawObject | None:
        """The object, or None where there is none."""
        ref = _ref(self._reads, key)
        return None if ref is None else self._reads.read(ref)

    def create(self, raw: RawObject) -> None:
        """Raise ``WriteConflict`` when it exists."""
        self._cluster.create(raw)

    def replace(self, raw: RawObject) -> None:
        """The object has this content now, whether or not it existed.

        Raise ``WriteConflict`` when others write it all the time.
        """
        ref = ObjectRef.of(raw)
        for left in reversed(range(_ATTEMPTS)):
            try:
                self._replace_once(ref, raw)
            except (WriteConflict, NotFoundError):
                # Created, changed or deleted between our two questions.
                if not left:
                    raise
            else:
                return

    def patch(self, key: ObjectKey, patch: RawObject) -> None:
        """The object has the JSON merge patch applied; raise ``NotFoundError``."""
        self._cluster.patch(self._present(key), patch)

    def patch_status(self, key: ObjectKey, status: RawObject) -> None:
        """The object's status has these fields; raise ``NotFoundError``."""
        self._cluster.patch_status(self._present(key), status)

    def delete(self, key: ObjectKey) -> None:
        """The object is gone, whether or not it existed."""
        ref = _ref(self._cluster, key)
        if ref is not None:
            self._cluster.delete(ref)

    def _replace_once(self, ref: ObjectRef, raw: RawObject) -> None:
        old = self._cluster.read(ref)
        metadata = {name: raw["metadata"][name] for name in raw["metadata"].keys() - _OF_SERVER}
        if old is None:
            self._cluster.create({**raw, "metadata": metadata})
            return
        metadata["resourceVersion"] = old["metadata"]["resourceVersion"]
        self._cluster.replace({**raw, "metadata": metadata})

    def _present(self, key: ObjectKey) -> ObjectRef:
        ref = _ref(self._cluster, key)
        if ref is None:
            raise NotFoundError(f"{key} does not exist: the API server has no such kind")
        return ref


_OF_SERVER = {"resourceVersion", "uid", "managedFields", "generation"}
"""What an object read earlier carries, and what would tie the write to that very version."""


def served_version(cluster: Cluster, kind: ObjectKind) -> str | None:
    """The version of a kind to ask for: the first that is read and that the server has."""
    versions = scheme.KINDS[kind].api_versions
    if versions == ("v1",):
        return "v1"
    return next((version for version in versions if cluster.serves(version, str(kind))), None)


def _ref(cluster: Cluster, key: ObjectKey) -> ObjectRef | None:
    version = served_version(cluster, key.kind)
    if version is None:
        return None
    return ObjectRef(
        api_version=version, kind=str(key.kind), namespace=key.namespace, name=key.name
    )
