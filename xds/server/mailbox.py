"""The one place where a stream's thread waits: for requests, for news, and for its end.

The pump thread and gRPC put, the hub wakes, the writer takes. Ten wake-ups while the writer is busy
are one. Requests are few and bounded in number and size: a client that floods makes its own pump
wait.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from threading import Condition

_MAX_REQUESTS = 256
_MAX_BYTES = 16 * 1024 * 1024
"""Of all requests that wait; one alone may be larger."""


class Status(StrEnum):
    """How a stream ends; each has the name of its gRPC status code."""

    OK = "OK"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    UNAVAILABLE = "UNAVAILABLE"
    ABORTED = "ABORTED"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """Why a stream is over; the reason is told to the client."""

    status: Status
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """What arrived since the last look."""

    requests: tuple[bytes, ...]
    woken: bool
    ending: Ending | None


class Mailbox:
    """What one stream has to see to."""

    __slots__ = ("_changed", "_ending", "_requests", "_waiting_bytes", "_woken")

    def __init__(self) -> None:
        self._changed = Condition()
        self._requests: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._woken = False
        self._ending: Ending | None = None

    def put(self, request: bytes) -> bool:
        """The request waits to be taken; blocks while too many do. False: the stream is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_room(request) or self._is_over)
            if not self._is_over:
                self._requests.append(request)
                self._waiting_bytes += len(request)
                self._changed.notify_all()
            return not self._is_over

    def wake(self) -> None:
        """The writer looks for news; cheap when it was woken already."""
        with self._changed:
            if not self._woken:
                self._woken = True
                self._changed.notify_all()

    def close(self, ending: Ending) -> None:
        """The stream is over. Of several endings the first counts."""
        with self._changed:
            if self._ending is None:
                self._ending = ending
                self._changed.notify_all()

    def take(self, timeout_seconds: float | None = None) -> Mail:
        """All that has arrived; waits for something, at most so long."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._woken or self._requests or self._is_over, timeout_seconds
            )
            mail = Mail(requests=tuple(self._requests), woken=self._woken, ending=self._ending)
            self._requests.clear()
            self._waiting_bytes = 0
            self._woken = False
            self._changed.notify_all()
            return mail

    def wait_for_wake(self, timeout_seconds: float) -> Ending | None:
        """Waits for a wake-up, at most so long, and leaves requests where they are."""
        with self._changed:
            self._changed.wait_for(lambda: self._woken or self._is_over, timeout_seconds)
            self._woken = False
            return self._ending

    def _has_room(self, request: bytes) -> bool:
        waiting = len(self._requests)
        fits = self._waiting_bytes + len(request) <= _MAX_BYTES
        return not waiting or (waiting < _MAX_REQUESTS and fits)

    @property
    def _is_over(self) -> bool:
        return self._ending is not None
