"""Single key presses from the terminal, without waiting for Enter."""

from __future__ import annotations

import select
import sys
import termios
import tty
from types import TracebackType
from typing import Self


class Keyboard:
    """Inside ``with``, the terminal hands over each key at once; afterwards it is as it was."""

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(sys.stdin) if sys.stdin.isatty() else None
        if self._before is not None:
            tty.setcbreak(sys.stdin)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._before is not None:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._before)

    def wait(self, timeout_seconds: float) -> str | None:
        """The key that was pressed within the time, or None."""
        if self._before is None:
            select.select([], [], [], timeout_seconds)
            return None
        ready, _, _ = select.select([sys.stdin], [], [], timeout_seconds)
        return sys.stdin.read(1).lower() if ready else None
