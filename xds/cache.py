"""The build cache: a builder's arguments come in, what equal arguments gave goes out, shared.

A builder is a pure function; its arguments are the cache key, so an input that is not in the key
cannot be used, and a cached resource cannot be wrong for another proxy (HOUSE 3). What was built
lives as long as a published set holds it: nothing is dropped by hand, nothing is built twice.
Owned by the loop thread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from weakref import WeakValueDictionary, ref

Built = TypeVar("Built")


@dataclass(frozen=True, slots=True)
class _Recent:
    """The latest answer about one subject; it must not hold the subject, or neither ever dies."""

    subject: ref[object]
    context: tuple[object, ...]
    answer: Any


class BuildCache:
    """Equal arguments → the same built object.

    ``built`` counts real builds by builder name, for metrics, benchmarks and tests.
    """

    def __init__(self) -> None:
        self.built: Counter[str] = Counter()
        self._by_content: WeakValueDictionary[tuple[Hashable, ...], Any] = WeakValueDictionary()
        self._recent: dict[tuple[object, int], _Recent] = {}

    def __len__(self) -> int:
        """How many built objects are alive."""
        return len(self._by_content)

    def get(self, build: Callable[..., Built], *arguments: Hashable) -> Built:
        """What ``build(*arguments)`` gives, built now or before from equal arguments."""
        key = (build, *arguments)
        found = self._by_content.get(key)
        if found is None:
            found = self._by_content[key] = build(*arguments)
            self.built[build.__name__] += 1
        return cast("Built", found)

    def recall(self, gather: Callable[..., Built], subject: object, *context: object) -> Built:
        """What ``gather(cache, subject, *context)`` gives, remembered while the subject lives.

        For what is put together from cached parts. The subject counts by identity, because the
        catalog hands one large value to many profiles and hashing it for each would cost more than
        building. Only the latest context is remembered. ``gather`` must not hand the subject itself
        to ``get``: what is built would keep it alive, and it what is built.
        """
        key = (gather, id(subject))
        recent = self._recent.get(key)
        if recent is None or recent.subject() is not subject or recent.context != context:
            answer = gather(self, subject, *context)
            recent = self._recent[key] = _Recent(ref(subject), context, answer)
        return cast("Built", recent.answer)

    def sweep(self) -> None:
        """Forget answers about subjects that are gone. Called after each publication."""
        live = {key: recent for key, recent in self._recent.items() if recent.subject() is not None}
        self._recent = live
