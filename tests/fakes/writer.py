"""Objects in a dictionary: a writer without a cluster."""

from __future__ import annotations

import copy
import threading

from app.errors import WriteConflict
from app.objects.meta import ObjectKey, ObjectKind, RawObject


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

    def read(self, key: ObjectKey) -> RawObject | None:
        with self._lock:
            return copy.deepcopy(self.objects.get(key))

    def create(self, raw: RawObject) -> None:
        with self._lock:
            if self.rival is not None:
                self.objects[key_of(self.rival)], self.rival = self.rival, None
            self.calls.append(("create", str(key_of(raw))))
            if key_of(raw) in self.objects:
                raise WriteConflict(f"{key_of(raw)} exists")
            self.objects[key_of(raw)] = copy.deepcopy(raw)

    def replace(self, raw: RawObject) -> None:
        with self._lock:
            self.calls.append(("replace", str(key_of(raw))))
            self.objects[key_of(raw)] = copy.deepcopy(raw)

    def delete(self, key: ObjectKey) -> None:
        with self._lock:
            self.calls.append(("delete", str(key)))
            self.objects.pop(key, None)
