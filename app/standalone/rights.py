"""What a node needs of the machine and the user, and one sentence when something is missing.

Called before anything is made, so that a refusal leaves nothing behind.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from app.errors import RightsError

_CAPABILITIES = {
    "CHOWN": 0,
    "DAC_OVERRIDE": 1,
    "KILL": 5,
    "SETGID": 6,
    "SETUID": 7,
    "NET_ADMIN": 12,
    "NET_RAW": 13,
    "SYS_ADMIN": 21,
}
_PROGRAMS = {"ip": "iproute2", "iptables": "iptables", "iptables-restore": "iptables"}
"""Program → Debian package."""


def missing_rights() -> tuple[str, ...]:
    """What this machine or user lacks for a node, one clause each; empty when all is there."""
    if sys.platform != "linux":
        return ("this is not Linux",)
    if os.geteuid() != 0:
        return ("you are not root: run it with sudo",)
    lacking = lacking_capabilities(Path("/proc/self/status").read_text())
    if lacking:
        return (f"root lacks {', '.join(lacking)} here: run the container with --privileged",)
    return missing_programs({name: shutil.which(name) for name in _PROGRAMS}) + _kernel_refusals()


def require_rights() -> None:
    """Raise ``RightsError`` with one sentence when ``missing_rights`` finds anything."""
    refuse(missing_rights())


def refuse(missing: tuple[str, ...]) -> None:
    """Raise ``RightsError`` unless nothing is missing."""
    if missing:
        raise RightsError(f"standalone mode cannot run on this machine: {'; '.join(missing)}")


def lacking_capabilities(status: str) -> tuple[str, ...]:
    """Capabilities a node needs that are not effective by this ``/proc/<pid>/status``."""
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    effective = int(fields["CapEff"], 16)
    return tuple(f"CAP_{name}" for name, bit in _CAPABILITIES.items() if not effective & (1 << bit))


def missing_programs(found: Mapping[str, str | None]) -> tuple[str, ...]:
    """One clause that names the packages to install; empty when every program was found."""
    missing = sorted(name for name, place in found.items() if place is None)
    if not missing:
        return ()
    packages = " ".join(sorted({_PROGRAMS[name] for name in missing}))
    return (f"missing {', '.join(missing)}: install with apt-get install {packages}",)


def _kernel_refusals() -> tuple[str, ...]:
    if not hasattr(os, "pidfd_open") or not Path("/proc/self/ns/net").exists():
        return ("the kernel is too old: Linux 5.4 or newer with network namespaces is needed",)
    refusals: list[str] = []

    def try_unshare() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(0x40000000) != 0:  # CLONE_NEWNET, of this thread only
            reason = os.strerror(ctypes.get_errno())
            refusals.append(f"a network namespace is refused ({reason}): run it outside a sandbox")

    thread = threading.Thread(target=try_unshare, name="try-namespace")
    thread.start()
    thread.join()
    return tuple(refusals)
