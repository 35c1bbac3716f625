"""Named network namespaces, as ``ip netns`` shows them: made, entered, emptied, removed.

Python 3.11 has no ``os.setns``; the call is made through libc in a thread of its own, which ends
with the task, so no other thread ever sees a foreign namespace (setns(2): it moves the calling
thread only). Called by network.py and process.py.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from app.errors import RightsError

NAMED = Path("/var/run/netns")
CLONE_NEWNET = 0x40000000

T = TypeVar("T")


def exists(name: str) -> bool:
    """True when the name leads to a living namespace, not to a file that a crash left behind."""
    try:
        return (NAMED / name).stat().st_dev == Path("/proc/self/ns/net").stat().st_dev
    except FileNotFoundError:
        return False


def names(prefix: str) -> tuple[str, ...]:
    """Names with this prefix, sorted; also those that a crash left without a namespace."""
    if not NAMED.is_dir():
        return ()
    return tuple(sorted(path.name for path in NAMED.iterdir() if path.name.startswith(prefix)))


def create(name: str) -> None:
    """The namespace exists and is empty but for ``lo``."""
    run("ip", "netns", "add", name)


def delete(name: str) -> None:
    """The name is free, whether or not it was used; the namespace lives on as long as processes."""
    path = NAMED / name
    with contextlib.suppress(OSError):
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    path.unlink(missing_ok=True)


def directory() -> str:
    """How the directory of names is: ``absent``, ``plain``, or ``mounted`` by ``ip netns``."""
    if not NAMED.is_dir():
        return "absent"
    place = str(NAMED.resolve())
    with Path("/proc/self/mountinfo").open() as mounts:
        return "mounted" if any(line.split()[4] == place for line in mounts) else "plain"


def restore_directory(before: str) -> None:
    """The directory of names is as it was before, unless somebody else uses it by now."""
    with contextlib.suppress(OSError):
        if before != "mounted" and directory() == "mounted" and not any(NAMED.iterdir()):
            subprocess.run(["umount", str(NAMED)], capture_output=True, check=False)
        if before == "absent":
            NAMED.rmdir()


def inside(name: str, task: Callable[[], T]) -> T:
    """What ``task`` returns when run in the namespace; sockets and processes it makes stay there.

    Raise FileNotFoundError when there is no such namespace.
    """
    results: list[T] = []
    failures: list[BaseException] = []

    def enter() -> None:
        try:
            with (NAMED / name).open("rb") as handle:
                _set_namespace(handle.fileno())
            results.append(task())
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=enter, name=f"in-{name}"[:15], daemon=True)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


@contextlib.contextmanager
def under_way() -> Iterator[int]:
    """A descriptor that ``settle`` waits for while it is open, here or in a child it went to."""
    descriptor = os.open(__file__, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield descriptor
    finally:
        os.close(descriptor)


def settle(timeout_seconds: float = 5.0) -> None:
    """Tools that a killed process left running have ended: what they made can be removed."""
    deadline = time.monotonic() + timeout_seconds
    with Path(__file__).open("rb") as file:
        while time.monotonic() < deadline:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.001)  # flock cannot wait for a bounded time
            else:
                return


def run(*argv: str, stdin: str | None = None) -> str:
    """Standard output of a network tool; raise ``RightsError`` with its own words when it fails."""
    try:
        with under_way() as descriptor:
            done = subprocess.run(
                argv,
                input=stdin,
                capture_output=True,
                text=True,
                check=False,
                pass_fds=(descriptor,),
            )
    except FileNotFoundError as missing:
        raise RightsError(f"the program {argv[0]} is not installed") from missing
    if done.returncode != 0:
        raise RightsError(f"{' '.join(argv[:3])} failed: {' '.join(done.stderr.split())}")
    return done.stdout


def batch(commands: Iterable[str]) -> None:
    """All commands of ``ip`` are done, in order, by one process; the first that fails raises."""
    run("ip", "-batch", "-", stdin="\n".join(commands) + "\n")


def write_sysctls(settings: Sequence[tuple[str, str]]) -> None:
    """Settings that this kernel has hold in the namespace of the calling thread."""
    for name, value in settings:
        path = Path("/proc/sys", name)
        if path.exists():
            path.write_text(value)


def processes(name: str) -> tuple[int, ...]:
    """Pids of all processes in the namespace, ascending."""
    try:
        wanted = _identity(NAMED / name)
    except FileNotFoundError:
        return ()
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    return tuple(sorted(pid for pid in pids if _lives_in(pid, wanted)))


def kill_processes(name: str, *, timeout_seconds: float = 10.0) -> None:
    """No process is in the namespace. Repeats, because a process may fork while it is looked for.

    Raise ``RightsError`` when some do not die in time (stuck in the kernel).
    """
    deadline = time.monotonic() + timeout_seconds
    while pids := processes(name):
        if time.monotonic() > deadline:
            raise RightsError(f"processes {pids} in namespace {name} do not end on SIGKILL")
        wanted = _identity(NAMED / name)
        with contextlib.ExitStack() as handles:
            killed = [handle for pid in pids if (handle := _kill(pid, wanted, handles)) is not None]
            for handle in killed:
                wait_for_end(handle, max(0.0, deadline - time.monotonic()))


def wait_for_end(handle: int, timeout_seconds: float) -> bool:
    """True when the process of this pidfd has ended within the time; it need not be our child."""
    return wait_for_input(handle, timeout_seconds)


def wait_for_input(descriptor: int, timeout_seconds: float) -> bool:
    """True when there is something to read, or the end of it, within the time."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(timeout_seconds * 1000))


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _lives_in(pid: int, wanted: tuple[int, int]) -> bool:
    try:
        return _identity(Path(f"/proc/{pid}/ns/net")) == wanted
    except OSError:
        return False


def _kill(pid: int, wanted: tuple[int, int], handles: contextlib.ExitStack) -> int | None:
    try:
        handle = os.pidfd_open(pid)
        handles.callback(os.close, handle)
        # The pid may have been used anew between listing and opening; from here on it cannot be.
        if not _lives_in(pid, wanted):
            return None
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except ProcessLookupError:
        return None
    return handle


def _set_namespace(handle: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(handle, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise RightsError(f"entering a network namespace failed: {os.strerror(number)}")
