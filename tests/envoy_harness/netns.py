"""A network namespace that a test made, and sockets opened inside it from this very process."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
CLONE_NEWNET = 0x40000000


class Namespace:
    """One network namespace, by name; loopback is up."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, *command: str) -> None:
        """Run a command inside; a failure is an error with its text."""
        done = subprocess.run([*self.prefix, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"

    @property
    def prefix(self) -> list[str]:
        return ["ip", "netns", "exec", self.name]

    def call(self, task: Callable[[], T]) -> T:
        """The task's result; sockets it opens belong to the namespace, wherever they are used."""
        outcome: list[T | BaseException] = []

        def inside() -> None:
            try:
                self._enter()
                outcome.append(task())
            except BaseException as error:
                outcome.append(error)

        thread = threading.Thread(target=inside)  # a namespace belongs to a thread: it ends with it
        thread.start()
        thread.join()
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return outcome[0]

    def _enter(self) -> None:
        fd = os.open(Path("/run/netns") / self.name, os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(fd, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"cannot enter namespace {self.name}")
        finally:
            os.close(fd)


@contextlib.contextmanager
def namespace() -> Iterator[Namespace]:
    """A fresh namespace; gone at the end whatever happens."""
    inner = Namespace(f"osmtest-{uuid.uuid4().hex[:8]}")
    subprocess.run(["ip", "netns", "add", inner.name], check=True, capture_output=True)
    try:
        inner.run("ip", "link", "set", "lo", "up")
        yield inner
    finally:
        subprocess.run(["ip", "netns", "del", inner.name], check=True, capture_output=True)
