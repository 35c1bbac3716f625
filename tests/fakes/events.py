"""What a source posted, for tests that wait for it with a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from app.events import ObjectChanged, ObjectDeleted, ObjectEvent, SourceChecked, Synced
from app.objects.meta import KubeObject, ObjectKey, ObjectKind

_DEADLINE_SECONDS = 40


class PostedEvents:
    """A ``post``; what it was told, and the objects that are in force after it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.events: list[ObjectEvent] = []
        self.objects: dict[ObjectKey, KubeObject] = {}
        self.synced: set[ObjectKind] = set()
        self.rejected: dict[str, str] = {}

    def __call__(self, event: ObjectEvent) -> None:
        with self._changed:
            self.events.append(event)
            match event:
                case ObjectChanged():
                    self.objects[event.key] = event.object
                case ObjectDeleted():
                    del self.objects[event.key]
                case Synced():
                    self.synced |= event.kinds
                case SourceChecked():
                    self.rejected[event.source] = "; ".join(map(str, event.rejected))
            self._changed.notify_all()

    def wait_until(self, holds: Callable[[], bool]) -> None:
        """Returns once it holds; a failure of the test after the deadline."""
        deadline = time.monotonic() + _DEADLINE_SECONDS
        with self._changed:
            while not holds():
                assert time.monotonic() < deadline, self.events[-20:]
                # Not only for events: what holds may be told by something else.
                self._changed.wait(0.1)

    def names(self, kind: ObjectKind, namespace: str = "") -> list[str]:
        """The names of the kind's objects in force, sorted."""
        with self._changed:
            return sorted(
                key.name
                for key in self.objects
                if key.kind is kind and namespace in ("", key.namespace)
            )

    def take(self) -> list[ObjectEvent]:
        """The events since the last time."""
        with self._changed:
            events, self.events = self.events, []
        return events
