"""A new process for a container: what sandbox.py is told, how it starts, what it answers.

The process gets a session of its own and four descriptors: its output, the description of what to
be, and the way to say why it could not. Called by process.py.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from app.standalone import files, namespaces, sandbox

if TYPE_CHECKING:
    from app.standalone.process import Place, Program

SANDBOX = Path(sandbox.__file__)
_START_SECONDS = 30.0
_DESCRIPTION, _REPORT, _UNDER_WAY = 3, 4, 5
"""Descriptors in the new process; the sandbox closes all above them."""


def spawn(place: Place, program: Program, *, record: Path, log: Path) -> tuple[int, str]:
    """The pid of a new process in its own session, and why it cannot run the program, or empty."""
    spec = _spec(place, program, record=record, log=log)
    ear, mouth = os.pipe2(os.O_CLOEXEC)
    description = os.memfd_create("sandbox")
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with os.fdopen(ear, "rb") as report:
        try:
            numbers = {"report": _REPORT, "under_way": _UNDER_WAY}
            os.write(description, json.dumps({**spec, **numbers}).encode())
            os.lseek(description, 0, os.SEEK_SET)
            given = {1: output, 2: output, _DESCRIPTION: description, _REPORT: mouth}
            with namespaces.under_way() as descriptor:
                pid = _spawn_with({**given, _UNDER_WAY: descriptor})
        finally:
            for descriptor in (description, output, mouth):
                os.close(descriptor)
        if not namespaces.wait_for_input(report.fileno(), _START_SECONDS):
            os.kill(pid, signal.SIGKILL)  # cannot be another's: not reaped
        return pid, report.read().decode(errors="replace")


def _spec(place: Place, program: Program, *, record: Path, log: Path) -> dict[str, object]:
    """What sandbox.py is told; ``record`` is what it leaves for ``attach_argv`` and ``adopt``."""
    interpreter = Path(sys.executable).resolve()
    root_place = record.parent.parent.parent / "root"
    root_place.mkdir(mode=0o700, exist_ok=True)
    lasting = {
        "pod": [place.pod.namespace, place.pod.name],
        "container": program.name,
        "boot": files.boot_id(),
        "log": str(log),
        "network": place.namespace,
        "uid": program.uid,
        "gid": program.gid,
        "capabilities": program.capabilities,
        "working_dir": program.working_dir,
        "env": dict(program.env),
    }
    return {
        **lasting,
        "record": lasting,
        "record_path": str(record),
        "root_place": str(root_place.resolve()),
        "network_namespace": str(namespaces.NAMED / place.namespace),
        "hostname": place.hostname,
        "argv": program.argv,
        "files": _own_files(place),
        "binaries": {"python3": str(interpreter), **{n: str(p) for n, p in program.binaries}},
        "visible": [str(path) for path in (*program.visible, program.working_dir, sys.base_prefix)],
        "mounts": [
            {"source": str(m.source.resolve()), "target": m.target, "read_only": m.read_only}
            for m in program.mounts
        ],
    }


def _own_files(place: Place) -> dict[str, str]:
    aliases = "".join(f"{address}\t{name}\n" for address, name in place.host_aliases)
    return {
        "/etc/hostname": f"{place.hostname}\n",
        "/etc/hosts": (
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
            f"{place.address}\t{place.hostname}\n{aliases}"
        ),
        # As in images: no daemon of the host answers, and mDNS does not claim ".local".
        "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
        "/etc/resolv.conf": (
            f"nameserver {place.nameserver}\nsearch {' '.join(place.search)}\noptions ndots:5\n"
        ),
    }


def _spawn_with(descriptors: dict[int, int]) -> int:
    """The pid of sandbox.py with exactly these descriptors, target → source."""
    # Above all targets, so that no duplication overwrites the source of a later one.
    high = {t: fcntl.fcntl(d, fcntl.F_DUPFD_CLOEXEC, 16) for t, d in descriptors.items()}
    try:
        return os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", str(SANDBOX), str(_DESCRIPTION)],
            {},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                *((os.POSIX_SPAWN_DUP2, source, target) for target, source in high.items()),
            ],
            setsid=True,
            setsigmask=(),
        )
    finally:
        for descriptor in high.values():
            os.close(descriptor)
