"""What a policy object says that cannot be kept, gathered while it is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

MAX_PATTERNS = 200
"""Different patterns of an object that are compiled; the API server waits for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A field that is left out, and why, as the end of a sentence about it."""

    field: str
    reason: str
    is_wrong: bool = True
    """False: it may become right by other fields or objects, so admission only warns."""


class Problems:
    """Problems found so far; ``at`` is the same list at a place further in."""

    def __init__(self) -> None:
        self._place = ""
        self._found: list[Problem] = []
        self._patterns: set[str] = set()

    def __iter__(self) -> Iterator[Problem]:
        """In the order found."""
        return iter(self._found)

    def at(self, field: str) -> Problems:
        """The same list; fields are named from this one on."""
        inner = Problems()
        inner._place = self._name(field)
        inner._found, inner._patterns = self._found, self._patterns
        return inner

    def has_room_for(self, pattern: str) -> bool:
        """True for the first ``MAX_PATTERNS`` patterns of the object."""
        if pattern not in self._patterns and len(self._patterns) >= MAX_PATTERNS:
            return False
        self._patterns.add(pattern)
        return True

    def add(self, field: str, reason: str) -> None:
        """The field is wrong whatever else is said."""
        self._found.append(Problem(field=self._name(field), reason=reason))

    def note(self, field: str, reason: str) -> None:
        """The field has no effect as things are."""
        self._found.append(Problem(field=self._name(field), reason=reason, is_wrong=False))

    def _name(self, field: str) -> str:
        return ".".join(part for part in (self._place, field) if part)
