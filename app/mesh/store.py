"""The objects that exist, by kind, namespace, name and label; owned by the loop thread.

Events come in; ``refresh`` reads. An object that is refused keeps its last good content, because a
refusal is no change of the object: it only adds to what is shown as rejected.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from app.events import ObjectChanged, ObjectDeleted, ObjectEvent, SourceChecked
from app.mesh.table import T
from app.objects.core import EndpointSlice, Pod
from app.objects.meta import KubeObject, ObjectKey, ObjectKind, Rejected, selects
from app.objects.scheme import KINDS

Label = tuple[ObjectKind, str, str, str]
"""Kind, namespace, label and value."""

_KINDS: Mapping[type[KubeObject], ObjectKind] = {one.model: one.kind for one in KINDS.values()}
_BY_LABEL = frozenset({_KINDS[Pod], _KINDS[EndpointSlice]})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    object: KubeObject
    where: str


class ObjectStore:
    """Every object the mesh has heard of, of whatever namespace."""

    def __init__(self) -> None:
        self._objects: dict[tuple[ObjectKind, str], dict[str, _Stored]] = {}
        self._labels: dict[Label, dict[str, None]] = {}
        self._rejected: dict[str, tuple[Rejected, ...]] = {}

    def apply(self, event: ObjectEvent) -> frozenset[ObjectKey]:
        """The store holds what the event says; the objects it changed, which may be none."""
        match event:
            case ObjectChanged():
                return self._put(event.key, _Stored(object=event.object, where=event.where))
            case ObjectDeleted():
                return self._remove(event.key)
            case SourceChecked():
                self._rejected.pop(event.source, None)
                if event.rejected:
                    self._rejected[event.source] = event.rejected
        return frozenset()

    def get(self, model: type[T], namespace: str, name: str) -> T | None:
        """The object of that name, or None; any thread may ask."""
        stored = self._objects.get((_KINDS[model], namespace), {}).get(name)
        return cast("T", stored.object) if stored else None

    def all(self, model: type[T], namespace: str) -> Iterator[T]:
        """Objects of a kind in a namespace, in no order; any thread may ask."""
        for stored in tuple(self._objects.get((_KINDS[model], namespace), {}).values()):
            yield cast("T", stored.object)

    def namespaces(self, model: type[T]) -> frozenset[str]:
        """The namespaces that have objects of a kind."""
        kind = _KINDS[model]
        return frozenset(
            place[1] for place, found in self._objects.items() if place[0] is kind and found
        )

    def labelled(self, model: type[T], namespace: str, labels: Mapping[str, str]) -> list[T]:
        """Pods or slices that have all the labels, sorted by name; none for no labels."""
        kind = _KINDS[model]
        groups = [self._labels.get((kind, namespace, *label), {}) for label in labels.items()]
        names = sorted(min(groups, key=len) if groups else ())
        found = (self.get(model, namespace, name) for name in names)
        return [one for one in found if one and selects(labels, one.metadata.labels)]

    def where(self, key: ObjectKey) -> str:
        """Where the object was read: ``file:line``, else its own name; any thread may ask."""
        stored = self._objects.get((key.kind, key.namespace), {}).get(key.name)
        return stored.where if stored else str(key)

    def rejected(self) -> Iterable[Rejected]:
        """What sources have refused, in no order."""
        return (one for found in self._rejected.values() for one in found)

    def _put(self, key: ObjectKey, new: _Stored) -> frozenset[ObjectKey]:
        place = self._objects.setdefault((key.kind, key.namespace), {})
        old = place.get(key.name)
        place[key.name] = new
        if old is not None and old.object == new.object:
            return frozenset()
        self._index(key, old.object if old else None, new.object)
        return frozenset({key})

    def _remove(self, key: ObjectKey) -> frozenset[ObjectKey]:
        old = self._objects.get((key.kind, key.namespace), {}).pop(key.name, None)
        if old is None:
            return frozenset()
        self._index(key, old.object, None)
        return frozenset({key})

    def _index(self, key: ObjectKey, old: KubeObject | None, new: KubeObject | None) -> None:
        if key.kind not in _BY_LABEL:
            return
        for name, value in old.metadata.labels.items() if old else ():
            label = (key.kind, key.namespace, name, value)
            named = self._labels[label]
            del named[key.name]
            if not named:
                del self._labels[label]
        for name, value in new.metadata.labels.items() if new else ():
            self._labels.setdefault((key.kind, key.namespace, name, value), {})[key.name] = None
