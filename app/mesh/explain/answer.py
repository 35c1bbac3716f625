"""What is asked about a call, and the answer: steps, an outcome and the smallest change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from app.objects.meta import ObjectKey
from xds.policy.http import RequestSeen

CLOSED = "connection closed"
ANSWERED = "the application's answer"
"""What clients see, beside the status of a sidecar's own answer."""


class Outcome(StrEnum):
    """What becomes of the call."""

    ALLOWED = "allowed"
    """It reaches the application."""
    DENIED = "denied"
    """A rule refuses it, or none lets it through."""
    AUDITED = "would be denied"
    """It reaches the application, because rules only count here what they would refuse."""
    PARTLY = "partly allowed"
    """Traffic is spread, and not all shares are treated alike."""
    UNREACHABLE = "unreachable"
    """Nobody refuses it, but there is nothing to reach."""


class Check(StrEnum):
    """How one step went."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing on the way of the request."""

    what: str
    """``identity``, ``listener``, ``rules``, …: one word."""
    check: Check
    sentence: str
    objects: tuple[ObjectKey, ...] = ()
    """What decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One call; ``to`` is ``<namespace>/<service>``, or ``<host>:<port>`` outside the mesh."""

    namespace: str
    workload: str
    """Name of a Pod, of its controller, or of a ServiceAccount."""
    to: str
    port: int | None = None
    method: str = "GET"
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()
    """With lower-case names; ``host`` where it is not that of the service."""

    def request(self, host: str) -> RequestSeen:
        """The request as it is sent, with a Host header."""
        own = any(name == "host" for name, _ in self.headers)
        headers = self.headers if own else (("host", host), *self.headers)
        return RequestSeen(method=self.method, path=self.path.partition("?")[0], headers=headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How the walk ended for all of the traffic, or for a share of it."""

    outcome: Outcome
    seen: str
    """What the client sees: ``403``, ``connection closed``, ``the application's answer``."""
    remedy: str = ""
    objects: tuple[ObjectKey, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The answer."""

    outcome: Outcome
    seen: str
    steps: tuple[Step, ...]
    remedy: str
    """The smallest change that would alter the outcome; a sentence."""
    decided_by: tuple[ObjectKey, ...]


@dataclass
class Walk:
    """The steps as they come about."""

    steps: list[Step] = field(default_factory=list)

    def ok(self, what: str, sentence: str, *objects: ObjectKey) -> None:
        """The request gets on."""
        self._add(what, Check.OK, sentence, objects)

    def failed(self, what: str, sentence: str, *objects: ObjectKey) -> None:
        """It ends here."""
        self._add(what, Check.FAILED, sentence, objects)

    def unknown(self, what: str, sentence: str, *objects: ObjectKey) -> None:
        """It cannot be told; the walk goes on."""
        self._add(what, Check.UNKNOWN, sentence, objects)

    def _add(self, what: str, check: Check, sentence: str, objects: Iterable[ObjectKey]) -> None:
        found = Step(what=what, check=check, sentence=sentence, objects=tuple(objects))
        if found not in self.steps:
            self.steps.append(found)

    def ended(self, end: End) -> Explanation:
        """The explanation of what has been walked."""
        return Explanation(
            outcome=end.outcome,
            seen=end.seen,
            steps=tuple(self.steps),
            remedy=end.remedy,
            decided_by=end.objects,
        )


def joined(ends: Iterable[End]) -> End:
    """One end of all shares: ``PARTLY`` where only some of them get through."""
    found = list(dict.fromkeys(ends))
    outcomes = {end.outcome for end in found}
    if len(outcomes) == 1:
        return found[0]
    worst = next(
        end
        for outcome in (Outcome.DENIED, Outcome.UNREACHABLE, Outcome.AUDITED)
        for end in found
        if end.outcome is outcome
    )
    passing = outcomes & {Outcome.ALLOWED, Outcome.AUDITED}
    return End(
        outcome=Outcome.PARTLY if passing else worst.outcome,
        seen=" or ".join(dict.fromkeys(end.seen for end in found)),
        remedy=worst.remedy,
        objects=tuple(dict.fromkeys(key for end in found for key in end.objects)),
    )
