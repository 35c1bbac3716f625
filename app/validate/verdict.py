"""What a rule says of an object, and what the API server is told in the end.

Rules yield remarks; ``check`` gathers them into a :class:`Verdict`. A remark that refuses is a
reason not to store the object, any other is a warning and never blocks. Both are bounded: whoever
made a thousand mistakes is told of the first ten.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

MAX_REMARKS = 10
"""Reasons, or warnings, of one verdict."""
MAX_READ = 1000
"""Remarks that are looked at before the rest is left unread."""
MAX_CHARACTERS = 250
"""Of one remark: API servers cut warnings after 256."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """One thing about an object that its author should know."""

    field: str
    """Path such as ``spec.ports[0].number``; empty when the whole object is meant."""
    reason: str
    """What is wrong, with the value, and what to do; follows the field's name."""
    refuses: bool = False

    def __str__(self) -> str:
        text = f"{self.field}: {self.reason}" if self.field else self.reason
        return text if len(text) <= MAX_CHARACTERS else f"{text[: MAX_CHARACTERS - 1]}…"


def refuse(field: str, reason: str) -> Remark:
    """A reason not to store the object."""
    return Remark(field=field, reason=reason, refuses=True)


def warn(field: str, reason: str) -> Remark:
    """Something to know about an object that is stored all the same."""
    return Remark(field=field, reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The answer to one question of the API server."""

    reasons: tuple[Remark, ...] = ()
    """Why the object is not stored; at most ten, in the order of the rules."""
    warnings: tuple[Remark, ...] = ()
    """At most ten."""

    @property
    def allowed(self) -> bool:
        """True when nothing speaks against the object."""
        return not self.reasons

    @property
    def message(self) -> str:
        """All reasons as one line; empty when there are none."""
        return "; ".join(str(reason) for reason in self.reasons)


def verdict(remarks: Iterable[Remark]) -> Verdict:
    """The remarks, each once, those that refuse apart from those that warn."""
    found = tuple(dict.fromkeys(islice(remarks, MAX_READ)))
    reasons = tuple(remark for remark in found if remark.refuses)
    # What is refused anyway needs no second remark of the same field.
    refused = {remark.field for remark in reasons}
    warnings = [one for one in found if not one.refuses and one.field not in refused]
    return Verdict(reasons=_first(reasons), warnings=_first(warnings))


def _first(remarks: Sequence[Remark]) -> tuple[Remark, ...]:
    if len(remarks) <= MAX_REMARKS:
        return tuple(remarks)
    *kept, last = remarks[:MAX_REMARKS]
    more = f"{last.reason} (and {len(remarks) - MAX_REMARKS} more)"
    return (*kept, replace(last, reason=more))
