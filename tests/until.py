"""Waits for another process: asks again and again until something is found, or the time is over."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")
_PAUSE_SECONDS = 0.05


def until(find: Callable[[], Found], what: str, *, seconds: float = 30) -> Found:
    """What is found, once it is true; whoever cannot be reached has not been asked."""
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if found := find():
                return found
        pause.wait(_PAUSE_SECONDS)
    raise TimeoutError(f"{what} did not come in {seconds:g} s")
