"""``osm demo``: the bookstore through real Envoys on this machine, live or unattended.

It starts what ``osm standalone up`` starts, on a copy of the example's YAML. Keys, or the
sub-commands in a second terminal, edit that copy: the mesh follows the files.
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
from typing import Annotated

import typer
from rich.live import Live

from app import logs
from app.cli.demo_mesh import DemoMesh
from app.cli.demo_view import render
from app.cli.demo_world import DemoWorld, Mode
from app.cli.keys import Keyboard
from app.cli.output import Output, OutputFormat, console, errors, fail
from app.cli.standalone import StateDir, key_of, serve_api
from app.settings import Settings
from app.standalone.cluster import Progress, Standalone
from app.standalone.kubelet import request_kill
from app.standalone.podlist import read_pods

app = typer.Typer(help="The bookstore through real Envoys on this machine; live until Ctrl-C.")
_FOLDER = "demo"
_UP_SECONDS = 120.0
_REFRESH_SECONDS = 1.0
_SPLITS = ((90, 10), (50, 50), (10, 90), (0, 100))


@app.callback(invoke_without_command=True)
def demo(
    context: typer.Context,
    mode: Annotated[Mode, typer.Option(help="who may call whom")] = Mode.SMI,
    seconds: Annotated[float | None, typer.Option(help="run unattended, then print")] = None,
    state_dir: StateDir = None,
    api_port: Annotated[int, typer.Option(help="port of the admin API; 0 takes a free one")] = 9091,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Start the bookstore and show who calls whom; Ctrl-C ends it and cleans up."""
    settings = Settings(verbosity="error", human_debug_log=True, api_port=api_port)
    settings = settings.model_copy(update={"state_dir": state_dir} if state_dir else {})
    context.obj = settings.state_dir / _FOLDER
    if context.invoked_subcommand is not None:
        return
    if seconds is None and (output is OutputFormat.JSON or not sys.stdout.isatty()):
        raise fail("without a terminal say how long: --seconds N [-o json]")
    _run(settings, mode, seconds, output)


@app.command()
def permissive(
    context: typer.Context,
    state: Annotated[str, typer.Argument(help="on or off")],
) -> None:
    """Switch permissive mode of the running demo."""
    if state not in ("on", "off"):
        raise fail(f"{state!r} is neither on nor off")
    DemoWorld.running(context.obj).set_mode(Mode.PERMISSIVE if state == "on" else Mode.SMI)


@app.command()
def split(
    context: typer.Context,
    v1: Annotated[int, typer.Argument(min=0, help="weight of bookstore-v1")],
    v2: Annotated[int, typer.Argument(min=0, help="weight of bookstore-v2")],
) -> None:
    """Change the weights of the running demo's TrafficSplit."""
    DemoWorld.running(context.obj).set_split(v1, v2)


@app.command()
def kill(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="beginning of a Pod's name, such as bookstore-v1")],
) -> None:
    """End a Pod of the running demo; its Deployment makes a new one."""
    DemoWorld.running(context.obj)
    state = context.obj.parent
    pods = read_pods(state)
    found = [pod for pod in pods if pod.name.startswith(name)]
    if not found:
        raise fail(f"no Pod is called {name}…; there are {', '.join(pod.name for pod in pods)}")
    request_kill(state, key_of(found[0]), graceful=False)
    console.print(f"{found[0].name} ends", highlight=False)


def _run(settings: Settings, mode: Mode, seconds: float | None, output: OutputFormat) -> None:
    began = time.monotonic()
    world = DemoWorld.create(settings.state_dir / _FOLDER, mode)
    standalone = Standalone(settings, world.folders, serve_api=serve_api)
    with _interruptible() as stopped, _logs_in(world.folder), _started(standalone):
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
def _logs_in(folder: Path) -> Iterator[None]:
    """Inside, the control plane's log goes to a file beside the YAML: the screen is the demo's."""
    with (folder / "osm.log").open("w", encoding="utf-8") as file:
        logs.configure(level="info", human=False, stream=file)
        yield


@contextmanager
def _started(standalone: Standalone) -> Iterator[None]:
    """The mesh runs inside, and nothing of it is left afterwards."""
    try:
        standalone.start()
        yield
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
