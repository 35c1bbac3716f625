"""Objects a test posts by hand: a source without files or API server."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import factory

from app.events import ObjectDeleted, ObjectEvent, Synced
from app.objects.meta import ObjectKey, ObjectKind, RawObject


class FakeSource:
    """Implements ``ObjectSource``: posts ``objects`` at the start, later what ``put`` is given."""

    def __init__(self, *objects: RawObject, silent: Iterable[ObjectKind] = ()) -> None:
        """``silent`` kinds are never synced."""
        self._objects = objects
        self._silent = frozenset(silent)
        self._post: Callable[[ObjectEvent], None] = lambda _: None
        self.stopped = False

    def start(self, post: Callable[[ObjectEvent], None], kinds: Iterable[ObjectKind]) -> None:
        self._post = post
        self.put(*self._objects)
        post(Synced(kinds=frozenset(kinds) - self._silent))

    def stop(self) -> None:
        self.stopped = True

    def put(self, *objects: RawObject) -> None:
        """The objects have this content now."""
        for raw in objects:
            self._post(factory.changed(raw))

    def delete(self, kind: ObjectKind, namespace: str, name: str) -> None:
        """The object is gone."""
        self._post(ObjectDeleted(key=ObjectKey(kind=kind, namespace=namespace, name=name)))
