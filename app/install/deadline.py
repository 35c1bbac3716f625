"""How long a command waits; the one place of the package that knows the time."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

_LOOK_SECONDS = 1.0
"""A waiting command wakes this often, so that Ctrl-C and the progress line are not late."""


class Deadline:
    """Implements ``Waiting``: a moment from now on; a timeout of zero is none."""

    def __init__(self, timeout: timedelta) -> None:
        self._end = time.monotonic() + timeout.total_seconds() if timeout else None

    def __call__(self, changed: threading.Condition) -> bool:
        """Waits for the condition, not longer than is left; False when nothing is left."""
        left = _LOOK_SECONDS if self._end is None else self._end - time.monotonic()
        if left <= 0:
            return False
        changed.wait(min(left, _LOOK_SECONDS))
        return True
