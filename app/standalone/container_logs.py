"""Where container output is kept, how it stays bounded, and how it is read while it grows.

A container writes to its log itself, without a process in between, and goes on doing so while no
controller runs. Called by process.py and the CLI.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from app.objects.meta import ObjectKey

_POLL_SECONDS = 0.2
_CHUNK = 1 << 16


def pod_dir(state_dir: Path, pod: ObjectKey) -> Path:
    """Where a Pod's records, logs and volumes are kept: ``<state>/pods/<namespace>_<name>``."""
    return state_dir / "pods" / f"{pod.namespace}_{pod.name}"


def log_path(state_dir: Path, pod: ObjectKey, container: str) -> Path:
    """The container's log; it goes on over restarts of the container."""
    return pod_dir(state_dir, pod) / f"{container}.log"


def bound(log: Path, max_bytes: int) -> None:
    """The log is not longer than ``max_bytes``: when it was, all of it moved to ``<log>.1``.

    The writer keeps its descriptor, so the file is emptied in place; a line written in between is
    lost.
    """
    if log.exists() and log.stat().st_size > max_bytes:
        shutil.copyfile(log, log.with_name(f"{log.name}.1"))
        os.truncate(log, 0)


def read(
    log: Path, *, follow: bool = False, stop: threading.Event | None = None
) -> Iterator[bytes]:
    """What the log holds, in pieces; then, when followed, what is added until ``stop`` is set.

    Starts over when the log was emptied. Ends at once when there is no log and none is followed.
    """
    position, waiting = 0, stop or threading.Event()
    while True:
        if log.exists() and log.stat().st_size < position:
            position = 0
        if log.exists():
            with log.open("rb") as file:
                file.seek(position)
                while piece := file.read(_CHUNK):
                    position += len(piece)
                    yield piece
        if not follow or waiting.wait(_POLL_SECONDS):
            return


def tail(log: Path, most_bytes: int = _CHUNK) -> str:
    """The end of the log as text; empty when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - most_bytes))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
