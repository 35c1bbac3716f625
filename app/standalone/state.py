"""The state directory: whose it is, what stands in it at first, and how it goes.

One process at a time holds its lock. ``remove_state`` works from disk alone, after a crash of any
part, and touches nothing that the mesh did not make.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
from collections.abc import Collection
from pathlib import Path

from app.errors import SettingError
from app.objects.meta import ObjectKey, ObjectKind, RawObject
from app.standalone import files, namespaces
from app.standalone.ground import refuse_other_owner
from app.standalone.network import tear_down

_DEMO = "demo"
"""The copy of the example that ``osm demo`` runs; there before the mesh is."""
_OURS = ("objects", "pods", "dns", "kill", "root", _DEMO)
_LOCK = "lock"
_KILL = "kill"
_GRACEFUL = "graceful"


class StateLock:
    """Who runs the mesh of a state directory; the kernel frees it when that process dies."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / _LOCK
        self._handle: int | None = None

    @property
    def held(self) -> bool:
        """True while the directory is ours."""
        return self._handle is not None

    def take(self, mesh: str) -> None:
        """The directory is ours; raises ``SettingError`` as ``require_free`` does."""
        require_free(self._path.parent)
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.parent.chmod(0o700)
        handle = self._open_locked()
        if handle is None:
            raise _held(self._path.parent, holder(self._path.parent))
        os.truncate(handle, 0)
        os.write(handle, f"{os.getpid()} {mesh}\n".encode())
        self._handle = handle

    def _open_locked(self) -> int | None:
        while True:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if not _lock(handle):
                os.close(handle)
                return None
            # Whoever held it before may have removed the file: then this lock guards nothing.
            if self._path.exists() and os.path.samestat(self._path.stat(), os.fstat(handle)):
                return handle
            os.close(handle)

    def release(self) -> None:
        """The directory is free, whether or not it was ours."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def require_free(state_dir: Path) -> None:
    """Raise ``SettingError`` when a mesh has the directory, or it holds what no mesh wrote.

    A state directory is closed to others and emptied in the end: none that serves another purpose
    may become one.
    """
    pid = holder(state_dir)
    if pid is not None:
        raise _held(state_dir, pid)
    if _is_foreign(state_dir, {path.name for path in _entries(state_dir)} - {_DEMO}):
        raise SettingError(
            f"{state_dir} holds other things; give --state-dir a directory that is new or empty"
        )


def _held(state_dir: Path, pid: int | None) -> SettingError:
    return SettingError(
        f"a mesh is up already with state directory {state_dir} (process {pid}); "
        "end it, or choose another --state-dir"
    )


def _is_foreign(state_dir: Path, found: Collection[str]) -> bool:
    """True when there is something, and no mesh has signed for it."""
    return bool(found) and not (state_dir / _LOCK).exists() and not is_known(state_dir)


def _entries(state_dir: Path) -> list[Path]:
    return sorted(state_dir.iterdir()) if state_dir.is_dir() else []


def holder(state_dir: Path) -> int | None:
    """The process that runs the mesh of this directory, or None."""
    try:
        handle = os.open(state_dir / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if _lock(handle):
            return None
        words = os.read(handle, 100).decode().split()
        return int(words[0]) if words else None
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def bring_down(mesh: str, state_dir: Path, *, patience_seconds: float = 60.0) -> None:
    """Nothing of the mesh is left; a running ``up`` is asked to end first."""
    if _is_foreign(state_dir, {path.name for path in _entries(state_dir)} & {*_OURS}):
        raise SettingError(f"{state_dir} is no mesh's state directory; nothing was removed")
    pid = holder(state_dir)
    if pid is not None:
        _end(pid, patience_seconds)
    known = str(files.read_json(state_dir / "node.json").get("mesh") or mesh)
    refuse_other_owner(known, state_dir)
    remove_state(known, state_dir)


def _end(pid: int, patience_seconds: float) -> None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return  # it ended by itself, this moment
    try:
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        if not namespaces.wait_for_end(handle, patience_seconds):
            raise SettingError(f"process {pid} does not end; end it, then repeat `down`")
    except ProcessLookupError:
        return
    finally:
        os.close(handle)


def is_known(state_dir: Path) -> bool:
    """True when a mesh was made with this directory and not brought down."""
    return (state_dir / "node.json").exists()


def remove_state(mesh: str, state_dir: Path) -> None:
    """No process, network or file of the mesh is left; may be repeated.

    Namespaces and links go by the mesh's name: only for whoever owns the mesh.
    """
    tear_down(mesh, state_dir)
    remove_files(state_dir)


def remove_files(state_dir: Path) -> None:
    """Nothing that a mesh wrote is left in the directory."""
    for name in _OURS:
        shutil.rmtree(state_dir / name, ignore_errors=True)
    (state_dir / _LOCK).unlink(missing_ok=True)
    if state_dir.is_dir() and not any(state_dir.iterdir()):
        state_dir.rmdir()


def request_kill(state_dir: Path, pod: ObjectKey, *, graceful: bool) -> None:
    """The kubelet of this state directory ends the Pod soon; a file, so no open port is needed."""
    request = state_dir / _KILL / f"{pod.namespace}_{pod.name}"
    files.replace(request, _GRACEFUL if graceful else "")


def taken_kill_requests(state_dir: Path) -> list[tuple[ObjectKey, bool]]:
    """The Pods to end, and whether gracefully; each request is told once."""
    folder = state_dir / _KILL
    found = []
    for request in sorted(folder.iterdir()) if folder.is_dir() else ():
        namespace, separator, name = request.name.partition("_")
        # A name without separator is that of a file which is just being written.
        if separator and not namespace.startswith("."):
            pod = ObjectKey(kind=ObjectKind.POD, namespace=namespace, name=name)
            found.append((pod, request.read_text() == _GRACEFUL))
            request.unlink(missing_ok=True)
    return found


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
