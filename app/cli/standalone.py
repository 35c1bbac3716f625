"""``osm standalone``: a mesh on this machine, without a cluster.

``up`` stays in the foreground and ends everything on Ctrl-C; after a crash the next ``up`` takes
the running Pods over. The other commands read the state directory, so they work with and without a
running ``up``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from app import logs
from app.cli.output import Output, OutputFormat, console, emit_rows
from app.errors import NotFoundError, RightsError
from app.objects.meta import ObjectKey, ObjectKind
from app.settings import Settings, read_settings
from app.standalone.container_logs import log_path, read
from app.standalone.podlist import PodSummary, read_pods
from app.standalone.process import Processes
from app.standalone.rights import require_rights
from app.standalone.state import bring_down, holder, request_kill

if TYPE_CHECKING:
    from app.controller.runtime import Runtime
    from app.listeners import ApiServer
    from app.metrics import Metrics
    from app.standalone.cluster import Progress, Standalone

app = typer.Typer(help="A mesh on this machine, without a cluster.", no_args_is_help=True)

_SETTLE_SECONDS = 120.0
StateDir = Annotated[
    Path | None, typer.Option("--state-dir", help="where keys, Pods and logs are kept")
]
MeshName = Annotated[str | None, typer.Option("--mesh-name", help="name of the mesh")]
PodName = Annotated[str, typer.Argument(metavar="POD", help="name, or namespace/name")]
NamespaceName = Annotated[str, typer.Option("--namespace", "-n", help="namespace of the Pod")]
ContainerName = Annotated[str, typer.Option("--container", "-c", help="container of the Pod")]


@app.command()
def up(
    folders: Annotated[
        list[Path], typer.Option("--filename", "-f", help="file or folder of Kubernetes YAML")
    ],
    state_dir: StateDir = None,
    mesh_name: MeshName = None,
    api_port: Annotated[int | None, typer.Option(help="port of the admin API")] = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Run what the YAML declares, with sidecars, until Ctrl-C; edits take effect by themselves."""
    # The control plane takes a second to load, for which no other command has to wait.
    from app.standalone.cluster import Standalone  # noqa: PLC0415

    settings = read_settings(state_dir=state_dir, mesh_name=mesh_name, api_port=api_port)
    metrics = configure_logs(settings, sys.stderr, human=sys.stderr.isatty())
    stopping = stop_on_signals()
    mesh = Standalone(settings, folders, serve_api=serve_api, metrics=metrics)
    try:
        mesh.start()
        threading.Thread(target=_tell_progress, args=(mesh, output), daemon=True).start()
        stopping.wait()
    except BaseException:
        mesh.stop()
        raise
    _say(output, "ending all Pods …")
    mesh.stop()
    _say(output, "nothing is left of the mesh")


@app.command()
def down(state_dir: StateDir = None, mesh_name: MeshName = None) -> None:
    """End the mesh and remove all that it left on this machine; also after a crash."""
    settings = read_settings(state_dir=state_dir, mesh_name=mesh_name)
    require_rights()
    bring_down(settings.mesh_name, settings.state_dir)
    console.print("nothing is left of the mesh", highlight=False)


@app.command()
def ps(
    state_dir: StateDir = None,
    namespace: NamespaceName = "",
    output: Output = OutputFormat.TABLE,
) -> None:
    """List the Pods."""
    rows = [
        {
            "namespace": pod.namespace,
            "name": pod.name,
            "ready": pod.ready,
            "status": pod.status,
            "message": pod.message,
            "restarts": pod.restarts,
            "address": pod.address,
            "created": pod.created,
            "age": _age(pod.created),
            "containers": list(pod.containers),
            "proxy": pod.proxy,
        }
        for pod in _readable_pods(read_settings(state_dir=state_dir).state_dir)
        if namespace in ("", pod.namespace)
    ]
    columns = ("namespace", "name", "ready", "status", "restarts", "address", "age")
    emit_rows(rows, {column: column.upper() for column in columns}, output)


@app.command("logs")
def logs_command(
    pod: PodName,
    container: ContainerName = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on as it grows")] = False,
    namespace: NamespaceName = "",
    state_dir: StateDir = None,
) -> None:
    """Print what a container has written."""
    state = read_settings(state_dir=state_dir).state_dir
    found = find_pod(state, pod, namespace)
    path = log_path(state, key_of(found), container_of(found, container))
    stop = stop_on_signals() if follow else None
    for piece in read(path, follow=follow, stop=stop):
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()


@app.command("exec", context_settings={"allow_extra_args": True, "allow_interspersed_args": False})
def exec_command(
    pod: PodName,
    command: Annotated[list[str], typer.Argument(help="command line, after --")],
    container: ContainerName = "",
    namespace: NamespaceName = "",
    state_dir: StateDir = None,
) -> None:
    """Run a command beside a container: same network, files, user and environment."""
    require_rights()
    state = read_settings(state_dir=state_dir).state_dir
    found = find_pod(state, pod, namespace)
    name = container_of(found, container)
    processes = Processes(state, lambda _: None)
    running = [p for p in processes.adopt() if p.pod == key_of(found) and p.container == name]
    if not running:
        raise NotFoundError(f"container {name} of {found.namespace}/{found.name} does not run now")
    words = command[1:] if command[0] == "--" else command
    argv = processes.attach_argv(running[0], tuple(words))
    os.execv(argv[0], argv)  # noqa: S606 no shell is meant


@app.command()
def kill(
    pod: PodName,
    graceful: Annotated[
        bool, typer.Option("--graceful", help="let it finish its requests, as kubectl delete")
    ] = False,
    namespace: NamespaceName = "",
    state_dir: StateDir = None,
) -> None:
    """End a Pod at once, as a crash would; its workload makes a new one."""
    state = read_settings(state_dir=state_dir).state_dir
    found = find_pod(state, pod, namespace)
    if holder(state) is None:
        raise NotFoundError("no `osm standalone up` runs, so nobody would end the Pod")
    request_kill(state, key_of(found), graceful=graceful)
    console.print(f"{found.namespace}/{found.name} ends", highlight=False)


# Shared with the demo


def serve_api(runtime: Runtime, settings: Settings) -> ApiServer:
    """The server of the admin API, not started yet."""
    # Only a control plane needs them.
    from app.listeners import ApiServer, Listener  # noqa: PLC0415
    from app.main import create_api  # noqa: PLC0415

    return ApiServer(
        Listener(
            name="api",
            app=create_api(runtime),
            host=settings.api_host,
            port=settings.api_port,
            option="--api-port",
        )
    )


def configure_logs(settings: Settings, stream: TextIO, *, human: bool) -> Metrics:
    """Log lines go to the stream; the metrics of the process, which count those with errors."""
    from app.metrics import Metrics  # noqa: PLC0415 only a control plane needs it

    metrics = Metrics()
    human = human or settings.human_debug_log
    logs.configure(
        level=settings.verbosity, human=human, stream=stream, count_error=metrics.errors.inc
    )
    return metrics


def stop_on_signals() -> threading.Event:
    """Set at the first Ctrl-C or SIGTERM."""
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    return stopping


def find_pod(state_dir: Path, name: str, namespace: str = "") -> PodSummary:
    """The Pod of that name; raises ``NotFoundError`` naming those there are."""
    if "/" in name:
        namespace, name = name.split("/", 1)
    pods = _readable_pods(state_dir)
    fitting = [pod for pod in pods if pod.name == name and namespace in ("", pod.namespace)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        places = ", ".join(pod.namespace for pod in fitting)
        raise NotFoundError(f"Pod {name} is in several namespaces ({places}); say which with -n")
    known = ", ".join(f"{pod.namespace}/{pod.name}" for pod in pods) or "none"
    raise NotFoundError(f"there is no Pod {name}; there are: {known}")


def key_of(pod: PodSummary) -> ObjectKey:
    """The key of the Pod's object."""
    return ObjectKey(kind=ObjectKind.POD, namespace=pod.namespace, name=pod.name)


def container_of(pod: PodSummary, name: str) -> str:
    """The container of that name, or the first application; raises ``NotFoundError``."""
    if not name:
        return pod.applications[0]
    if name not in pod.containers:
        known = ", ".join(pod.containers)
        raise NotFoundError(f"Pod {pod.name} has no container {name}; it has {known}")
    return name


def _readable_pods(state_dir: Path) -> list[PodSummary]:
    try:
        return read_pods(state_dir)
    except PermissionError as error:
        raise RightsError(f"{state_dir} belongs to another user; try again with sudo") from error


def _tell_progress(mesh: Standalone, output: OutputFormat) -> None:
    """People see which Pods are ready; programs get one line once all are."""
    told: set[str] = set()

    def tell(progress: Progress) -> None:
        for pod in progress.pods:
            if pod.is_well and pod.name not in told:
                told.add(pod.name)
                _say(output, f"ready: {pod.namespace}/{pod.name}  {pod.address}")

    settled = mesh.wait_until_settled(_SETTLE_SECONDS, tell=tell)
    for entry in mesh.rejected():
        _say(output, f"not in force: {entry}")
    if output is OutputFormat.JSON:
        sys.stdout.write(json.dumps({"settled": settled, "api": mesh.api_url}) + "\n")
        sys.stdout.flush()
        return
    for pod in () if settled else mesh.progress().pods:
        if not pod.is_well:
            _say(output, f"not ready: {pod.namespace}/{pod.name}  {pod.status} {pod.message}")
    _say(output, f"the mesh is up; admin API at {mesh.api_url}/docs; Ctrl-C ends it")


def _say(output: OutputFormat, line: str) -> None:
    if output is OutputFormat.TABLE:
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _age(created: str) -> str:
    try:
        seconds = (datetime.now(UTC) - datetime.fromisoformat(created)).total_seconds()
    except ValueError:
        return ""
    for limit, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= limit:
            return f"{int(seconds // limit)}{unit}"
    return f"{int(seconds)}s"
