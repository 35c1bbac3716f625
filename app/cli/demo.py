"""``osm demo``: the bookstore through real Envoys on this machine, live or unattended.

It starts what ``osm standalone up`` starts, on a copy of the example's YAML. Keys, or the
sub-commands in a second terminal, edit that copy: the mesh follows the files.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from app.cli.demo_world import FOLDER, DemoWorld, Mode
from app.cli.output import Output, OutputFormat, console, fail
from app.cli.standalone import StateDir, key_of
from app.settings import read_settings
from app.standalone.podlist import read_pods
from app.standalone.state import request_kill

app = typer.Typer(help="The bookstore through real Envoys on this machine; live until Ctrl-C.")


@app.callback(invoke_without_command=True)
def demo(
    context: typer.Context,
    mode: Annotated[Mode, typer.Option(help="who may call whom")] = Mode.SMI,
    seconds: Annotated[float | None, typer.Option(help="run unattended, then print")] = None,
    state_dir: StateDir = None,
    api_port: Annotated[
        int | None, typer.Option(help="port of the admin API; 0 takes a free one")
    ] = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Start the bookstore and show who calls whom; Ctrl-C ends it and cleans up."""
    settings = read_settings(state_dir=state_dir, api_port=api_port)
    context.obj = settings.state_dir / FOLDER
    if context.invoked_subcommand is not None:
        return
    if seconds is None and (output is OutputFormat.JSON or not sys.stdout.isatty()):
        raise fail("without a terminal say how long: --seconds N [-o json]")
    # Only this command runs a mesh; the others must not wait for the parts that do.
    from app.cli.demo_run import run

    run(settings, mode, seconds, output)


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
