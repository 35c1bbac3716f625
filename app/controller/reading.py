"""Reads that end: an object is there in time, or the caller hears that it is not.

Admission reviews must be answered before the API server stops waiting, so what they read has a
deadline of its own, whatever that of the connection is. Specification: kubernetes-surface 3.2.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from app.errors import UnreachableError
from app.objects.meta import ObjectKey, RawObject

READ_SECONDS = 3.0
_AT_ONCE = 8
"""Reads beyond these wait for their turn, within their deadline."""


class TimedReader:
    """Reads objects, each within the deadline. Any thread may call it."""

    def __init__(
        self, read: Callable[[ObjectKey], RawObject | None], *, seconds: float = READ_SECONDS
    ) -> None:
        self._read = read
        self._seconds = seconds
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="timed read")

    def read(self, key: ObjectKey) -> RawObject | None:
        """The object, or None where there is none; ``UnreachableError`` when it takes too long."""
        try:
            waiting = self._pool.submit(self._read, key)
        except RuntimeError as error:  # the pool's word for its end
            raise UnreachableError("the control plane is stopping") from error
        try:
            return waiting.result(timeout=self._seconds)
        except TimeoutError as error:
            waiting.cancel()
            text = f"{key} was not read from the API server within {self._seconds:g} s"
            raise UnreachableError(text) from error

    def stop(self) -> None:
        """No read is begun any more; those that run are left alone."""
        self._pool.shutdown(wait=False, cancel_futures=True)
