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
from weakref import WeakValueDictionary

Built = TypeVar("Built")


@dataclass(slots=True)
class _Recent:
    """An answer found by the very object it was asked for; holding that keeps its id unique."""

    subject: object
    answer: Any
    used: bool = True


class BuildCache:
    """Equal arguments → the same built object.

    ``built`` counts real builds by builder name, for metrics, benchmarks and tests.
    """

    def __init__(self) -> None:
        self.built: Counter[str] = Counter()
        self._by_content: WeakValueDictionary[tuple[Hashable, ...], Any] = WeakValueDictionary()
        self._recent: dict[tuple[object, ...], _Recent] = {}

    def __len__(self) -> int:
        """How many built objects are alive."""
        return len(self._by_content)

    def get(self, build: Callable[..., Built], subject: Hashable, *context: Hashable) -> Built:
        """What ``build(subject, *context)`` gives, built now or before from equal arguments.

        The subject is looked up by identity first: the catalog hands the same large value to many
        profiles, and hashing it for each would cost more than building. ``context`` is small.
        """

        def find() -> Built:
            return self._by_equality(build, subject, context)

        return self._remember((build, id(subject), context), subject, find)

    def recall(self, gather: Callable[..., Built], subject: object, *context: object) -> Built:
        """What ``gather(cache, subject, *context)`` gives, asked for lately about the same subject.

        For what is put together from cached parts: the subject counts by identity only, so an
        equal but new one gathers again, which is cheap, and no old subject is kept alive.
        """

        def find() -> Built:
            return gather(self, subject, *context)

        return self._remember((gather, id(subject), context), subject, find)

    def sweep(self) -> None:
        """Forget look-ups by identity that nobody used since the last sweep.

        Called after each publication. What published sets hold is found by equality all the same.
        """
        self._recent = {key: recent for key, recent in self._recent.items() if recent.used}
        for recent in self._recent.values():
            recent.used = False

    def _remember(
        self, key: tuple[object, ...], subject: object, find: Callable[[], Built]
    ) -> Built:
        recent = self._recent.get(key)
        if recent is None:
            recent = self._recent[key] = _Recent(subject, find())
        recent.used = True
        return cast("Built", recent.answer)

    def _by_equality(
        self, build: Callable[..., Built], subject: Hashable, context: tuple[Hashable, ...]
    ) -> Built:
        key = (build, subject, *context)
        found = self._by_content.get(key)
        if found is None:
            found = build(subject, *context)
            self.built[build.__name__] += 1
            self._by_content[key] = found
        return cast("Built", found)
