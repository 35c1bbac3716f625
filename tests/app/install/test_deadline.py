"""How long a command waits."""

from __future__ import annotations

import threading
from datetime import timedelta

from app.install.deadline import Deadline


def waits(deadline: Deadline) -> bool:
    changed = threading.Condition()
    with changed:
        return deadline(changed)


def test_a_deadline_ends() -> None:
    deadline = Deadline(timedelta(milliseconds=1))
    assert any(not waits(deadline) for _ in range(3))


def test_no_timeout_is_no_end() -> None:
    assert waits(Deadline(timedelta(0)))
