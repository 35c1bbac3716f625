from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from app.controller.upkeep import Upkeep

SECONDS = 5.0


class FakeJob:
    """Counts its steps; says that there is more as often as it is told to."""

    def __init__(self, *, more: int = 0, failing: bool = False) -> None:
        self.steps = 0
        self.more = more
        self.failing = failing
        self.done = threading.Event()

    def step(self, go_on: Callable[[], bool]) -> bool:
        assert go_on()
        self.steps += 1
        if self.failing:
            raise OSError("a job broke")
        if self.steps > self.more:
            self.done.set()
        return self.steps <= self.more


def test_job_that_fails_holds_up_no_other() -> None:
    broken, sound = FakeJob(failing=True), FakeJob()
    upkeep = Upkeep([broken, sound])
    upkeep.step()
    assert (broken.steps, sound.steps) == (1, 1)


@pytest.mark.parametrize(("ours", "steps"), [(True, 1), (False, 0)])
def test_jobs_of_another_replica_are_not_done(ours: bool, steps: int) -> None:
    job = FakeJob()
    Upkeep([job], is_ours=lambda: ours).step()
    assert job.steps == steps


def test_job_is_told_to_stop_in_between() -> None:
    answers: list[bool] = []

    class Asking:
        def step(self, go_on: Callable[[], bool]) -> bool:
            answers.append(go_on())
            upkeep.stop()
            answers.append(go_on())
            return False

    upkeep = Upkeep([Asking()])
    upkeep.step()
    assert answers == [True, False]


def test_thread_works_when_woken_and_while_there_is_more() -> None:
    job = FakeJob(more=2)
    upkeep = Upkeep([job])
    upkeep.start()
    upkeep.wake()
    assert job.done.wait(SECONDS)
    upkeep.stop()
    assert job.steps >= 3
    assert not any(thread.name == "upkeep" for thread in threading.enumerate())


def test_thread_that_never_ran_stops() -> None:
    Upkeep([]).stop()
