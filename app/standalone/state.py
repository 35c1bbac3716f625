"""The state directory: whose it is, what stands in it at first, and how it goes.

One process at a time holds its lock. ``remove_state`` works from disk alone, after a crash of any
part, and touches nothing that the mesh did not make.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import time
from pathlib import Path

from app.errors import SettingError
from app.objects.meta import RawObject
from app.standalone import files
from app.standalone.network import tear_down

_OURS = ("objects", "pods", "dns", "kill", "root", "demo")
_LOCK = "lock"
_POLL_SECONDS = 0.1


class StateLock:
    """Who runs the mesh of a state directory; the kernel frees it when that process dies."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / _LOCK
        self._handle: int | None = None

    def take(self, mesh: str) -> None:
        """The directory is ours; raises ``SettingError`` naming the process that has it."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.parent.chmod(0o700)
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise SettingError(
                f"a mesh is up already with state directory {self._path.parent} "
                f"(process {holder(self._path.parent)}); end it, or choose another --state-dir"
            ) from None
        os.truncate(handle, 0)
        os.write(handle, f"{os.getpid()} {mesh}\n".encode())
        self._handle = handle

    def release(self) -> None:
        """The directory is free, whether or not it was ours."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def holder(state_dir: Path) -> int | None:
    """The process that runs the mesh of this directory, or None."""
    try:
        handle = os.open(state_dir / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        words = os.read(handle, 100).decode().split()
        return int(words[0]) if words else None
    else:
        return None
    finally:
        os.close(handle)


def bring_down(mesh: str, state_dir: Path, *, patience_seconds: float = 60.0) -> None:
    """Nothing of the mesh is left; a running ``up`` is asked to end first."""
    pid = holder(state_dir)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + patience_seconds
        while holder(state_dir) == pid:
            if time.monotonic() > deadline:
                raise SettingError(f"process {pid} does not end; end it, then repeat `down`")
            time.sleep(_POLL_SECONDS)
    known = files.read_json(state_dir / "node.json").get("mesh")
    remove_state(str(known or mesh), state_dir)


def remove_state(mesh: str, state_dir: Path) -> None:
    """No process, network or file of the mesh is left; may be repeated."""
    tear_down(mesh, state_dir)
    for name in _OURS:
        shutil.rmtree(state_dir / name, ignore_errors=True)
    (state_dir / _LOCK).unlink(missing_ok=True)
    if state_dir.is_dir() and not any(state_dir.iterdir()):
        state_dir.rmdir()


def preset_mesh_config(namespace: str, name: str) -> RawObject:
    """The MeshConfig of a mesh whose files have none (kubernetes-surface 1.1, column Preset)."""
    return {
        "apiVersion": "config.openservicemesh.io/v1alpha2",
        "kind": "MeshConfig",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "sidecar": {"logLevel": "error"},
            "traffic": {"enableEgress": True, "enablePermissiveTrafficPolicyMode": True},
            "observability": {"osmLogLevel": "info"},
            "certificate": {"serviceCertValidityDuration": "24h"},
            "featureFlags": {
                "enableWASMStats": True,
                "enableEgressPolicy": True,
                "enableIngressBackendPolicy": True,
            },
        },
    }
