"""Objects in a dictionary: a writer without a cluster."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import NotFoundError, WriteConflict
from app.objects.meta import ObjectKey, ObjectKind, RawObject
from app.objects.patch import merge_patch


def key_of(raw: RawObject) -> ObjectKey:
    metadata = raw["metadata"]
    return ObjectKey(
        kind=ObjectKind(raw["kind"]),
        namespace=metadata.get("namespace", ""),
        name=metadata["name"],
    )


class FakeWriter:
    """Implements ``ObjectWriter``; ``calls`` lists (verb, key) of writes in order."""

    def __init__(self, *objects: RawObject) -> None:
        self._lock = threading.Lock()
        self.objects = {key_of(raw): raw for raw in objects}
        self.calls: list[tuple[str, str]] = []
        self.rival: RawObject | None = None
        """Another replica's object: it appears just before the first ``create``."""
        self.failing: dict[str, Exception] = {}
        """What a verb raises, until it is taken out."""

    def read(self, key: ObjectKey) -> RawObject | None:
        with self._begin("read"):
            return copy.deepcopy(self.objects.get(key))

    def create(self, raw: RawObject) -> None:
        with self._begin("create"):
            if self.rival is not None:
                self.objects[key_of(self.rival)], self.rival = self.rival, None
            self.calls.append(("create", str(key_of(raw))))
            if key_of(raw) in self.objects:
                raise WriteConflict(f"{key_of(raw)} exists")
            self.objects[key_of(raw)] = copy.deepcopy(raw)

    def replace(self, raw: RawObject) -> None:
        with self._begin("replace"):
            self.calls.append(("replace", str(key_of(raw))))
            self.objects[key_of(raw)] = copy.deepcopy(raw)

    def patch(self, key: ObjectKey, patch: RawObject) -> None:
        with self._begin("patch"):
            self.calls.append(("patch", str(key)))
            if key not in self.objects:
                raise NotFoundError(f"{key} does not exist")
            self.objects[key] = merge_patch(self.objects[key], copy.deepcopy(patch))

    def patch_status(self, key: ObjectKey, status: RawObject) -> None:
        self.patch(key, {"status": status})

    def delete(self, key: ObjectKey) -> None:
        with self._begin("delete"):
            self.calls.append(("delete", str(key)))
            self.objects.pop(key, None)

    @contextmanager
    def _begin(self, verb: str) -> Iterator[None]:
        with self._lock:
            if verb in self.failing:
                raise self.failing[verb]
            yield
