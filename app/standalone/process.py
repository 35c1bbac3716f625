"""Processes of containers: started in a Pod's sandbox, adopted after a restart, stopped.

A process owes nothing to the one that started it: session, output and record (``<container>.json``,
written by itself) are its own, so it outlives a killed controller. The next controller finds it by
the record: pid and start time together name a process beyond doubt. Ends are noticed through
pidfds, which do not need a parent. Called by kubelet.py and the CLI; sandbox.py does what happens
between fork and exec.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from app.errors import StartError
from app.objects.meta import ObjectKey, ObjectKind
from app.standalone import container_logs, files, namespaces, sandbox, spawn

_KILL_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A directory or file of the host, seen at ``target``, which need not exist on the host."""

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
    """For uid 0 only, such as ``NET_ADMIN``; all others are dropped, and none can be gained."""
    working_dir: str = "/"
    mounts: tuple[Mount, ...] = ()
    visible: tuple[Path, ...] = ()
    """What the container may reach although ``uid`` cannot enter a directory above it.

    Own modes still count. Working directory, ``binaries`` and interpreter are always reachable.
    """
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
    """DNS search list: ``shop.svc.cluster.local``, ``svc.cluster.local``, ``cluster.local``."""
    host_aliases: tuple[tuple[str, str], ...] = ()
    """``(address, name)`` lines of /etc/hosts beside the Pod's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A live process; ``pid`` and ``ticks`` (start time since boot) name it beyond doubt."""

    pod: ObjectKey
    container: str
    pid: int
    ticks: int
    started: datetime
    """Aware, UTC."""
    log: Path
    namespace: str
    """Its network namespace."""


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
        """``on_exit`` is called once per process, from one thread, for adopted ones too.

        It must not call ``close``.
        """
        self._state_dir = state_dir
        self._on_exit = on_exit
        self._lock = threading.Lock()
        self._watched: dict[int, Running] = {}
        """pidfd → process; the pidfd is closed by the watching thread only."""
        self._closing = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.epoll()
        self._poll.register(self._wake, select.EPOLLIN)
        self._watcher = threading.Thread(target=self._watch, name="processes", daemon=True)
        self._watcher.start()

    def adopt(self) -> tuple[Running, ...]:
        """All recorded processes that live, sorted by Pod and container; watched from now on."""
        adopted = []
        for path in sorted((self._state_dir / "pods").glob("*/*.json")):
            process = _read_record(path)
            handle = _open_process(process) if process else None
            if process is None or handle is None:
                path.unlink(missing_ok=True)
            else:
                self._add(handle, process)
                adopted.append(process)
        return tuple(sorted(adopted, key=lambda process: (process.pod, process.container)))

    def start(self, place: Place, program: Program) -> Running:
        """The program runs: its exec has succeeded; takes some 50 ms. Output goes to its log.

        Raise ``StartError`` with a sentence: program not found, file unreadable, directory missing.
        """
        log = container_logs.log_path(self._state_dir, place.pod, program.name)
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        record = record_path(self._state_dir, place.pod, program.name)
        pid, refusal = spawn.spawn(place, program, record=record, log=log)
        handle = os.pidfd_open(pid)  # not reaped yet, so the pid is still ours
        process = _read_record(record)
        if refusal or process is None or process.pid != pid:
            os.waitid(os.P_PIDFD, handle, os.WEXITED)
            os.close(handle)
            record.unlink(missing_ok=True)
            raise StartError(
                f"container {program.name} of {place.pod}: {refusal or 'it was killed'}"
            )
        self._add(handle, process)
        return process

    def stop(self, process: Running, grace_seconds: float) -> None:
        """The process has ended: SIGTERM, after the grace period SIGKILL. Blocks; repeatable.

        Not from ``on_exit``. The process's ``Exited`` may come a moment later.
        """
        handle = _open_process(process)
        if handle is None:
            return
        try:
            _send(handle, signal.SIGTERM)
            if not namespaces.wait_for_end(handle, grace_seconds):
                _send(handle, signal.SIGKILL)
                namespaces.wait_for_end(handle, _KILL_SECONDS)
        finally:
            os.close(handle)

    def kill(self, process: Running, signum: int) -> None:
        """The signal is sent, unless the process is gone."""
        handle = _open_process(process)
        if handle is not None:
            _send(handle, signum)
            os.close(handle)

    def kill_namespace(self, namespace: str) -> None:
        """No process lives in this network namespace, whoever started it. Blocks."""
        namespaces.kill_processes(namespace)

    def forget_pod(self, pod: ObjectKey) -> None:
        """Records, logs and volumes of a Pod without processes are gone from disk."""
        shutil.rmtree(pod_dir(self._state_dir, pod), ignore_errors=True)

    def attach_argv(self, process: Running, argv: tuple[str, ...]) -> tuple[str, ...]:
        """A command line that runs ``argv`` beside the process: same files, network, user.

        For ``osm standalone exec`` (os.execv) and exec probes (subprocess.run).
        """
        record = record_path(self._state_dir, process.pod, process.container)
        return (sys.executable, "-I", "-S", str(spawn.SANDBOX), "--beside", str(record), *argv)

    def bound_logs(self, max_bytes: int = 10_000_000) -> None:
        """No log is longer: what was moved to ``<container>.log.1``. Call it now and then."""
        for log in sorted((self._state_dir / "pods").glob("*/*.log")):
            container_logs.bound(log, max_bytes)

    def close(self) -> None:
        """Nothing is watched any more; the processes live on."""
        with self._lock:
            self._closing = True
        os.eventfd_write(self._wake, 1)
        self._watcher.join()

    def _add(self, handle: int, process: Running) -> None:
        with self._lock:
            self._watched[handle] = process
            self._poll.register(handle, select.EPOLLIN)

    def _watch(self) -> None:
        while not self._closing:
            for handle, _ in self._poll.poll():
                if handle != self._wake:
                    self._end(handle)
        for handle in (*self._watched, self._wake):
            os.close(handle)
        self._poll.close()

    def _end(self, handle: int) -> None:
        with self._lock:
            process = self._watched.pop(handle)
            self._poll.unregister(handle)
        # As in a cluster, what the main process leaves behind goes with it; before it is reaped, so
        # that its pid cannot mean another session yet.
        _kill_session(process)
        code = _exit_code(handle)
        os.close(handle)
        record = record_path(self._state_dir, process.pod, process.container)
        with contextlib.suppress(OSError):
            current = _read_record(record)
            if current is not None and current.pid == process.pid:
                record.unlink()
        self._on_exit(Exited(process=process, code=code, at=datetime.now(UTC)))


def pod_dir(state_dir: Path, pod: ObjectKey) -> Path:
    """Where a Pod's records, logs and volumes are kept: ``<state>/pods/<namespace>_<name>``."""
    return container_logs.pod_dir(state_dir, pod)


def record_path(state_dir: Path, pod: ObjectKey, container: str) -> Path:
    """The container's record; there while it runs."""
    return pod_dir(state_dir, pod) / f"{container}.json"


def _read_record(path: Path) -> Running | None:
    """The process a record tells of; None when it is missing, torn or of another boot."""
    content = files.read_json(path)
    if content.get("boot") != files.boot_id():
        return None
    namespace, name = content["pod"]
    return Running(
        pod=ObjectKey(kind=ObjectKind.POD, namespace=namespace, name=name),
        container=content["container"],
        pid=content["pid"],
        ticks=content["ticks"],
        started=datetime.fromtimestamp(content["started"], UTC),
        log=Path(content["log"]),
        namespace=content["network"],
    )


def _open_process(process: Running) -> int | None:
    """A pidfd of exactly this process; None when it has ended, even if its pid was used anew."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    # A zombie is readable at once; its start time is still there.
    same = sandbox.start_ticks(process.pid) == process.ticks
    if same and not namespaces.wait_for_end(handle, 0):
        return handle
    os.close(handle)
    return None


def _send(handle: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(handle, signum)


def _kill_session(process: Running) -> None:
    for pid in namespaces.processes(process.namespace):
        with contextlib.suppress(ProcessLookupError):
            if pid != process.pid and os.getsid(pid) == process.pid:
                os.kill(pid, signal.SIGKILL)


def _exit_code(handle: int) -> int | None:
    """The code of our child, as a shell tells it; None when adopted: nobody tells us."""
    try:
        result = os.waitid(os.P_PIDFD, handle, os.WEXITED)
    except ChildProcessError:
        return None
    if result is None:
        return None
    return result.si_status if result.si_code == os.CLD_EXITED else 128 + result.si_status
