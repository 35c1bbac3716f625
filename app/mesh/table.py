"""The objects that users wrote for the mesh, as the snapshot carries them beside what they mean.

``listing`` makes the table; ``app/validate`` compares new objects with it, API and CLI show it. No
policy is compiled from it, so a change of these objects alone reaches no proxy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar, cast

from app.objects.meta import KubeObject, ObjectKey, ObjectKind
from app.objects.scheme import KINDS

T = TypeVar("T", bound=KubeObject)
_KINDS: Mapping[type[KubeObject], ObjectKind] = {one.model: one.kind for one in KINDS.values()}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ObjectTable:
    """Objects that count, sorted by key, and who exists in the mesh's namespaces."""

    by_key: Mapping[ObjectKey, KubeObject]
    by_place: Mapping[tuple[ObjectKind, str], tuple[KubeObject, ...]]
    """By kind and namespace, sorted by name; places without objects are not in it."""
    accounts: Mapping[str, frozenset[str]]
    """Names of ServiceAccounts, by namespace of the mesh: every one of these is in it."""

    def get(self, model: type[T], namespace: str, name: str) -> T | None:
        """The object of that name, or None."""
        key = ObjectKey(kind=_KINDS[model], namespace=namespace, name=name)
        return cast("T | None", self.by_key.get(key))

    def all(self, model: type[T], namespace: str) -> tuple[T, ...]:
        """The objects of a kind in a namespace, sorted by name."""
        return cast("tuple[T, ...]", self.by_place.get((_KINDS[model], namespace), ()))


NO_OBJECTS = ObjectTable(by_key={}, by_place={}, accounts={})
