"""Files of ConfigMap and Secret volumes on disk, replaced as a kubelet does: by one swap of a link.

    volume/bootstrap.yaml → ..data/bootstrap.yaml     volume/..data → ..2f1c

A reader, or Envoy watching the directory, sees all old or all new files, never a mix
(kubernetes-surface 3.4). Called by kubelet.py.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

_CURRENT = "..data"


def publish_files(
    directory: Path, files: Mapping[str, bytes], *, uid: int, gid: int, mode: int = 0o644
) -> bool:
    """``directory`` holds exactly these files, owned and with modes as given.

    File names are keys of the object: no ``/``. Swapped in one step; False when nothing had to
    change. Mount the directory itself into sandboxes: it sees later swaps.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if _holds(directory, files, (uid, gid, mode)):
        return False
    _own(directory, uid, gid, 0o755)
    fresh = Path(tempfile.mkdtemp(prefix="..", dir=directory))
    for name, content in files.items():
        path = fresh / name
        path.touch(mode=0o600)
        path.write_bytes(content)
        _own(path, uid, gid, mode)
    _own(fresh, uid, gid, 0o755)
    _point(directory / _CURRENT, fresh.name)
    for name in files:
        _point(directory / name, f"{_CURRENT}/{name}")
    _sweep(directory, {fresh.name, _CURRENT, *files})
    return True


def _holds(directory: Path, files: Mapping[str, bytes], owner: tuple[int, int, int]) -> bool:
    current = directory / _CURRENT
    linked = {path.name for path in directory.iterdir() if not path.name.startswith("..")}
    if (
        not current.is_dir()
        or linked != set(files)
        or {p.name for p in current.iterdir()} != linked
    ):
        return False
    for name, content in files.items():
        path = current / name
        status = path.stat()
        if (status.st_uid, status.st_gid, status.st_mode & 0o777) != owner:
            return False
        if path.read_bytes() != content:
            return False
    return True


def _own(path: Path, uid: int, gid: int, mode: int) -> None:
    path.chmod(mode)
    os.chown(path, uid, gid)


def _point(link: Path, target: str) -> None:
    """The link leads to the target; replaced in one step."""
    if link.is_symlink() and str(link.readlink()) == target:
        return
    fresh = link.with_name(f"..{link.name.lstrip('.')}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)


def _sweep(directory: Path, kept: set[str]) -> None:
    for path in directory.iterdir():
        if path.name not in kept:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
