"""One run of the demo: start the bookstore, show or count what happens, leave nothing behind.

Called by ``osm demo``. The control plane's log goes to a file: the screen is the demo's.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.live import Live

from app.cli.demo_mesh import DemoMesh
from app.cli.demo_view import render
from app.cli.demo_world import FOLDER, DemoWorld, Mode
from app.cli.keys import Keyboard
from app.cli.output import OutputFormat, console, errors, fail
from app.cli.standalone import configure_logs, serve_api
from app.metrics import Metrics
from app.settings import Settings
from app.standalone.cluster import Progress, Standalone
from app.standalone.rights import require_rights
from app.standalone.state import require_free

_UP_SECONDS = 120.0
_REFRESH_SECONDS = 1.0
_SPLITS = ((90, 10), (50, 50), (10, 90), (0, 100))


def run(settings: Settings, mode: Mode, seconds: float | None, output: OutputFormat) -> None:
    """The demo has run, for so many seconds or until somebody ends it."""
    began = time.monotonic()
    # Before the copy is made: a demo that runs already reads the files that it would replace.
    require_rights()
    require_free(settings.state_dir)
    world = DemoWorld.create(settings.state_dir / FOLDER, mode)
    with (
        _interruptible() as stopped,
        _logs_in(world.folder, settings) as metrics,
        _started(
            Standalone(settings, world.folders, serve_api=serve_api, metrics=metrics)
        ) as standalone,
    ):
        mesh = DemoMesh(standalone, world, settings.state_dir)
        _wait_until_up(mesh, began, stopped)
        up_seconds = round(time.monotonic() - began, 1)
        if seconds is None:
            _show(mesh, stopped)
            return
        mesh.begin()
        stopped.wait(seconds)
        result = mesh.result() | {"up_seconds": up_seconds}
    if output is OutputFormat.JSON:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        console.print_json(data=result)


@contextmanager
def _logs_in(folder: Path, settings: Settings) -> Iterator[Metrics]:
    """Inside, the control plane's log goes to a file beside the YAML: the screen is the demo's."""
    with (folder / "osm.log").open("w", encoding="utf-8") as file:
        yield configure_logs(settings, file, human=False)


@contextmanager
def _started(standalone: Standalone) -> Iterator[Standalone]:
    """The mesh runs inside, and nothing of it is left afterwards."""
    try:
        standalone.start()
        yield standalone
    finally:
        standalone.stop()


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Inside, Ctrl-C and SIGTERM set the event instead of ending the process in the middle."""
    stopped = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: stopped.set()) for number in signals]
    try:
        yield stopped
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def _wait_until_up(mesh: DemoMesh, began: float, stopped: threading.Event) -> None:
    """Every Pod is ready and the shoppers have had an answer; progress goes to standard error."""

    def tell(progress: Progress) -> None:
        ready = sum(pod.is_well for pod in progress.pods)
        wanted = len(progress.pods) + progress.missing
        status.update(f"starting: {ready} of {wanted} Pods are ready")

    with errors.status("starting the node") as status:
        if not mesh.wait_until_up(_UP_SECONDS, stopped, tell=tell):
            raise fail(
                f"the demo is not up after {time.monotonic() - began:.0f} s: {mesh.trouble()}"
            )


def _show(mesh: DemoMesh, stopped: threading.Event) -> None:
    """The live view, until a key or signal ends it."""
    mesh.begin()
    with Keyboard() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
        while not stopped.is_set():
            live.update(render(mesh.scene()), refresh=True)
            key = keys.wait(_REFRESH_SECONDS)
            if key == "q":
                return
            _obey(mesh, key)


def _obey(mesh: DemoMesh, key: str | None) -> None:
    world = mesh.world
    if key == "p":
        world.set_mode(Mode.SMI if world.mode is Mode.PERMISSIVE else Mode.PERMISSIVE)
    elif key == "s":
        weights = tuple(world.split.values())
        follower = _SPLITS.index(weights) + 1 if weights in _SPLITS else 0
        world.set_split(*_SPLITS[follower % len(_SPLITS)])
    elif key == "k":
        mesh.kill_one("bookstore-v1")
