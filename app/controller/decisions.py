"""What became of the Pods that were asked about lately: logged, counted, and kept for the API.

``Injector`` adds one decision per Pod; the newest are kept, so memory is bounded. Specification:
kubernetes-surface 3.2 and 10.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from app import logs
from app.metrics import Metrics
from app.objects.meta import RawObject
from app.ports import Clock

MOST_KEPT = 500
_LONGEST = 500
"""Characters of a text that is kept: names and annotations come from outside."""


class Outcome(StrEnum):
    """What became of a Pod."""

    INJECTED = "injected"
    SKIPPED = "skipped"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A Pod that is to be decided about; nothing of it is validated."""

    pod: RawObject
    namespace: str
    dry_run: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What became of one Pod, and why."""

    at: datetime
    namespace: str
    pod: str
    """Its name, or the prefix of the name it will get followed by ``*``."""
    outcome: Outcome
    reason: str
    """One sentence; for an injected Pod, the identity it runs as."""
    uuid: str = ""
    """Of the new sidecar; empty where there is none."""
    dry_run: bool = False


class DecisionLog:
    """The newest decisions. Any thread may add and read."""

    def __init__(self, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._log = logs.logger("injector")
        self._kept: deque[Decision] = deque(maxlen=MOST_KEPT)

    def add(self, asked: Asked, outcome: Outcome, reason: str, *, uuid: str = "") -> None:
        """The decision is logged, counted and kept."""
        decision = Decision(
            at=self._clock.now(),
            namespace=_cut(asked.namespace),
            pod=_cut(_name(asked.pod)),
            outcome=outcome,
            reason=_cut(reason),
            uuid=uuid,
            dry_run=asked.dry_run,
        )
        self._kept.append(decision)
        # Not by namespace: whoever reaches the webhook could make up as many as he likes.
        self._metrics.injections.inc(str(outcome))
        log = self._log.warning if outcome is Outcome.REFUSED else self._log.info
        log(
            f"Pod {outcome}",
            pod=decision.pod,
            namespace=decision.namespace,
            reason=decision.reason,
            uuid=uuid,
            dry_run=asked.dry_run,
        )

    def recent(self) -> tuple[Decision, ...]:
        """The newest decisions, the newest last; at most 500."""
        # A deque may not change while it is iterated; copy() holds the interpreter's lock.
        return tuple(self._kept.copy())


def _name(pod: RawObject) -> str:
    metadata = pod.get("metadata")
    if not isinstance(metadata, dict):
        return ""
    name, prefix = metadata.get("name"), metadata.get("generateName")
    return str(name) if name else f"{prefix}*" if prefix else ""


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
