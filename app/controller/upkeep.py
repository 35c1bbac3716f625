"""What must be done again and again: one thread that does the jobs of a mesh when they are due.

Of several replicas only the holder of the Lease works, so that nothing is done twice. Built by
``Runtime``; the jobs are in ``renewal``, ``ownership`` and ``orphans``. Specification:
kubernetes-surface 6.5; data-plane 1.5 and 2.8.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from app import logs
from app.errors import CertificateError

SCAN_SECONDS = 5.0
_CALM_SECONDS = 0.2
"""Least time between two scans: what comes together is seen to together."""


class Job(Protocol):
    """One thing that must be done again and again."""

    def step(self, go_on: Callable[[], bool]) -> bool:
        """What is due is done, or a part of it: True when there is more.

        Stops soon once ``go_on`` says False.
        """
        ...


class Upkeep:
    """Does the jobs. ``wake`` may be called from any thread."""

    def __init__(
        self,
        jobs: Sequence[Job],
        *,
        is_ours: Callable[[], bool] = lambda: True,
    ) -> None:
        """``is_ours`` tells whether this replica has to work; it must be quick."""
        self._jobs = tuple(jobs)
        self._is_ours = is_ours
        self._log = logs.logger("upkeep")
        self._stopped = threading.Event()
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def start(self) -> None:
        """The jobs are done by themselves from now on."""
        self._thread.start()

    def stop(self) -> None:
        """The thread has ended; safe to call when it was never started."""
        self._stopped.set()
        self._woken.set()
        if self._thread.ident is not None:
            self._thread.join()

    def wake(self) -> None:
        """There is something to do; it is looked at soon."""
        self._woken.set()

    def step(self) -> None:
        """One scan: each job has done what is due; none holds up another."""
        for job in self._jobs:
            if not self._goes_on():
                return
            try:
                if job.step(self._goes_on):
                    self.wake()
            except Exception as error:  # one job must not stop the others
                code = getattr(error, "code", CertificateError.code)
                self._log.exception("a periodic job failed", error_code=code)

    def _goes_on(self) -> bool:
        return not self._stopped.is_set() and self._is_ours()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._woken.wait(SCAN_SECONDS)
            self._woken.clear()
            self.step()
            self._stopped.wait(_CALM_SECONDS)
