"""The objects of a cluster as a source: each kind listed and watched on a thread of its own.

Raw objects of ``kube_reflect`` come in, each is decoded at once and dropped, and what changed in
the fields the mesh reads is posted to the loop. Built by ``osm controller run``. Of Secrets only
the metadata is ever asked for; of the MeshConfig and the roots only those of this mesh; of
endpoints the slices where the server has them, else Endpoints.
Source: kubernetes-surface 9.2; data-plane 3.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from app.compute.kube_objects import served_version
from app.compute.kube_reflect import JOIN_SECONDS, PAGE, Feed, Reflector, Selection
from app.errors import NotFoundError
from app.events import ObjectChanged, ObjectDeleted, ObjectEvent, SourceChecked, Synced
from app.metrics import Metrics
from app.objects import scheme
from app.objects.meta import (
    NAME_LABEL,
    PRODUCT,
    KubeObject,
    ObjectKey,
    ObjectKind,
    RawObject,
    Rejected,
)
from app.ports import Cluster

SECRET_LABELS = f"{NAME_LABEL}={PRODUCT}"
SLICE_VERSION = "discovery.k8s.io/v1"
"""Before it (Kubernetes 1.21) slices say no more than Endpoints; not every cluster made them."""
_MESH_CONFIG, _MESH_ROOT = "MeshConfig", "MeshRootCertificate"
_ENDPOINTS, _SLICE = ObjectKind.ENDPOINTS, ObjectKind.ENDPOINT_SLICE
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class FollowedCluster(Cluster, Feed, Protocol):
    """What a source needs of the API server."""


class KubeSource:
    """Implements ``ObjectSource`` on an API server."""

    def __init__(
        self,
        cluster: FollowedCluster,
        metrics: Metrics,
        *,
        osm_namespace: str,
        config_name: str,
        page: int = PAGE,
    ) -> None:
        self._cluster = cluster
        self._metrics = metrics
        self._osm_namespace = osm_namespace
        self._config_name = config_name
        self._page = page
        self._reflectors: tuple[Reflector, ...] = ()
        self._deciding = threading.Lock()
        self._by_slices: bool | None = None
        """Whether endpoints are followed by slices; None until the server has been asked."""

    def start(self, post: Callable[[ObjectEvent], None], kinds: Iterable[ObjectKind]) -> None:
        """Post what exists, then ``Synced`` per kind, then every change."""
        wanted = frozenset(kinds)
        self._reflectors = tuple(
            Reflector(
                self._cluster,
                self._chooser(kind, wanted),
                KindSink(kind, post),
                name=str(kind),
                limit=self._page,
            )
            for kind in sorted(wanted)
        )
        for reflector in self._reflectors:
            self._metrics.source_staleness.labels(reflector.name).set_function(
                reflector.staleness_seconds
            )
            reflector.start()

    def stop(self) -> None:
        """No event is posted after this returns."""
        for reflector in self._reflectors:
            reflector.end()
        deadline = time.monotonic() + JOIN_SECONDS
        for reflector in self._reflectors:
            reflector.join(max(0.0, deadline - time.monotonic()))

    def staleness_seconds(self) -> dict[str, float]:
        """Since when nothing was heard of each kind, by its name."""
        return {entry.name: entry.staleness_seconds() for entry in self._reflectors}

    def _chooser(
        self, kind: ObjectKind, wanted: frozenset[ObjectKind]
    ) -> Callable[[], Selection | None]:
        """Which objects of the kind to follow, as the server is now; None: not this kind."""

        def choose() -> Selection | None:
            is_choice = {_ENDPOINTS, _SLICE} <= wanted and kind in (_ENDPOINTS, _SLICE)
            if is_choice and self._follows_slices() != (kind is _SLICE):
                return None
            version = served_version(self._cluster, kind)
            if version is None:
                raise NotFoundError(f"the API server has no kind {kind} yet")
            return selection(
                kind, version, osm_namespace=self._osm_namespace, config_name=self._config_name
            )

        return choose

    def _follows_slices(self) -> bool:
        """Asked once: a server upgraded under us must not end the one kind that is followed."""
        with self._deciding:
            if self._by_slices is None:
                self._by_slices = self._cluster.serves(SLICE_VERSION, str(_SLICE))
            return self._by_slices


def selection(
    kind: ObjectKind, api_version: str, *, osm_namespace: str, config_name: str
) -> Selection:
    """Which objects of a kind the mesh follows."""
    of_mesh = str(kind) in (_MESH_CONFIG, _MESH_ROOT)
    is_secret = kind is ObjectKind.SECRET
    return Selection(
        api_version=api_version,
        kind=str(kind),
        namespace=osm_namespace if of_mesh else "",
        name=config_name if str(kind) == _MESH_CONFIG else "",
        labels=SECRET_LABELS if is_secret else "",
        metadata_only=is_secret,
    )


class KindSink:
    """Decodes the objects of one kind and posts what changed; a ``Sink``, for one thread."""

    def __init__(self, kind: ObjectKind, post: Callable[[ObjectEvent], None]) -> None:
        self._kind = kind
        self._post = post
        self._objects: dict[ObjectKey, KubeObject] = {}
        """As posted; the same objects that the mesh holds."""
        self._rejected: dict[ObjectKey, Rejected] = {}
        self._synced = False

    def put(self, raw: RawObject) -> None:
        """The object is posted where anything changed that the mesh reads, or why it cannot be."""
        decoded = scheme.decode(lean(raw))
        if isinstance(decoded, Rejected):
            key = self._key(raw["metadata"].get("namespace") or "", raw["metadata"]["name"])
            self._reject(key, decoded)
            return
        key, found = decoded
        self._reject(key, None)
        if self._objects.get(key) != found:
            self._objects[key] = found
            self._post(ObjectChanged(key=key, object=found, where=str(key)))

    def gone(self, namespace: str, name: str) -> None:
        """The object is no more, nor what was wrong with it."""
        key = self._key(namespace, name)
        self._reject(key, None)
        if self._objects.pop(key, None) is not None:
            self._post(ObjectDeleted(key=key))

    def complete(self) -> None:
        """``Synced`` once, after the first list."""
        if not self._synced:
            self._synced = True
            self._post(Synced(kinds=frozenset({self._kind})))

    def _reject(self, key: ObjectKey, rejected: Rejected | None) -> None:
        if self._rejected.get(key) == rejected:
            return
        if rejected is None:
            del self._rejected[key]
        else:
            self._rejected[key] = rejected
        found = () if rejected is None else (rejected,)
        self._post(SourceChecked(source=str(key), rejected=found))

    def _key(self, namespace: str, name: str) -> ObjectKey:
        return ObjectKey(kind=self._kind, namespace=namespace, name=name)


def lean(raw: RawObject) -> RawObject:
    """The object without what no view keeps, or must not keep.

    kubectl copies a whole object into an annotation: a Secret's keys, too.
    """
    metadata = dict(raw["metadata"])
    metadata.pop("managedFields", None)
    annotations = metadata.get("annotations")
    if annotations and _LAST_APPLIED in annotations:
        metadata["annotations"] = {
            name: value for name, value in annotations.items() if name != _LAST_APPLIED
        }
    return {**raw, "metadata": metadata}
