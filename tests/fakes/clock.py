"""A clock that only moves when it is told to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

START = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)


class FakeClock:
    """Implements ``app.ports.Clock``; ``monotonic`` counts the same seconds from zero."""

    def __init__(self, start: datetime = START) -> None:
        self._start = start
        self._now = start
        self._jumped = timedelta(0)

    def now(self) -> datetime:
        return self._now + self._jumped

    def monotonic(self) -> float:
        return (self._now - self._start).total_seconds()

    def advance(self, step: timedelta) -> None:
        self._now += step

    def jump(self, step: timedelta) -> None:
        """Somebody sets the clock; ``monotonic`` does not hear of it."""
        self._jumped += step
