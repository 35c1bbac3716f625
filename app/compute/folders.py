"""Folders and files of ``-f`` → the content of each file, and again whenever one changes.

Robust against the ways editors save: files replaced by a rename and files written in place, where a
reader may see an empty or half-written file for a moment. So a file counts once two looks agree,
and one that is gone or empty is looked at a little longer. The kernel's notices only wake the
reader; a slow tick catches changes without a notice (network file systems).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from watchfiles import watch

from app.compute.files import MAX_FILE_BYTES, READ_CODE, FileContent, read_documents
from app.errors import SettingError
from app.objects.meta import Rejected

_SUFFIXES = (".yaml", ".yml", ".json")
_LOOK_SECONDS = 0.02
_PATIENCE_SECONDS = 0.12
"""How long a file may be gone or empty before that is believed."""
_TICK_MILLISECONDS = 250
_GONE = (0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """What a file says now; ``content`` None: it is gone."""

    source: str
    content: FileContent | None


_Stamp = tuple[int, int, int]


class Folders:
    """The files of ``-f``: those of a folder that end in .yaml, .yml or .json, and single files."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(dict.fromkeys(paths))
        self._stamps: dict[Path, _Stamp] = {}
        self._missing: set[Path] = set()

    def check(self) -> None:
        """Raise ``SettingError`` when a path does not exist."""
        for path in self._paths:
            if not path.exists():
                raise SettingError(
                    f"-f {path}: no such file or folder; give one that holds Kubernetes YAML"
                )

    def changed(self) -> list[FileChange]:
        """The files that differ from the last call, sorted."""
        stamps = self._settled()
        # A folder that vanished takes no object with it: that is a mishap, not an edit.
        missing = {path for path in self._paths if path not in stamps and not path.exists()}
        for path, stamp in self._stamps.items():
            if path.parent in missing or path in missing:
                stamps[path] = stamp
        differing = {
            path for path in {*stamps, *self._stamps} if stamps.get(path) != self._stamps.get(path)
        }
        changes = [self._read(path, gone=path not in stamps) for path in sorted(differing)]
        changes += [_missing(path) for path in sorted(missing - self._missing)]
        changes += [
            FileChange(source=_as_option(path), content=None)
            for path in sorted(self._missing - missing)
        ]
        self._stamps, self._missing = stamps, missing
        return changes

    def watch(self, stopping: threading.Event) -> Iterator[list[FileChange]]:
        """The changes of each edit, until ``stopping`` is set."""
        while not stopping.is_set():
            folders = sorted({path if path.is_dir() else path.parent for path in self._paths})
            present = [folder for folder in folders if folder.is_dir()]
            notices = _notices(present, stopping) if present else _ticks(stopping)
            for _ in notices:
                changes = self.changed()
                if changes:
                    yield changes
                if present != [folder for folder in folders if folder.is_dir()]:
                    break

    def _settled(self) -> dict[Path, _Stamp]:
        """The stamps of all files, once two looks in a row agree."""
        stamps = self._look()
        if stamps == self._stamps:
            return stamps
        patience = monotonic() + _PATIENCE_SECONDS
        while True:
            threading.Event().wait(_LOOK_SECONDS)
            again = self._look()
            doubtful = any(path not in again or again[path][1] == 0 for path in self._stamps)
            if again == stamps and (not doubtful or monotonic() > patience):
                return again
            stamps = again

    def _look(self) -> dict[Path, _Stamp]:
        found: dict[Path, _Stamp] = {}
        for path in self._paths:
            for file in _candidates(path):
                stamp = _stamp(file)
                if stamp != _GONE and (file == path or _is_yaml(file)):
                    found[file] = stamp
        return found

    @staticmethod
    def _read(path: Path, *, gone: bool) -> FileChange:
        if gone:
            return FileChange(source=str(path), content=None)
        return FileChange(source=str(path), content=read_file(path))


def read_file(path: Path) -> FileContent:
    """The documents of one file; a file that cannot be read is broken, and says why."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return _unreadable(path, f"is larger than {MAX_FILE_BYTES // 2**20} MiB; split it")
        return read_documents(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError:
        return _unreadable(path, "is not UTF-8 text")
    except OSError as error:
        return _unreadable(path, f"cannot be read: {error.strerror}")


def _notices(folders: Sequence[Path], stopping: threading.Event) -> Iterator[object]:
    """One per change and one per tick; ends when the kernel gives no notices."""
    try:
        yield from watch(
            *folders,
            watch_filter=None,
            debounce=100,
            step=10,
            stop_event=stopping,
            rust_timeout=_TICK_MILLISECONDS,
            yield_on_timeout=True,
            raise_interrupt=False,
            recursive=False,
        )
    except (OSError, RuntimeError):
        # A folder vanished this moment, or the kernel's watches are used up: look by the clock.
        stopping.wait(_TICK_MILLISECONDS / 1000)
        yield None


def _ticks(stopping: threading.Event) -> Iterator[object]:
    while not stopping.wait(_TICK_MILLISECONDS / 1000):
        yield None


def _candidates(path: Path) -> list[Path]:
    """The files of a folder, or the file itself; none of a folder that vanishes this moment."""
    try:
        return sorted(path.iterdir()) if path.is_dir() else [path]
    except OSError:
        return []


def _is_yaml(path: Path) -> bool:
    return path.suffix in _SUFFIXES and not path.name.startswith(".")


def _stamp(path: Path) -> _Stamp:
    try:
        status = path.stat()
    except OSError:
        return _GONE
    if not path.is_file():
        return _GONE
    return status.st_mtime_ns, status.st_size, status.st_ino


def _unreadable(path: Path, reason: str) -> FileContent:
    return FileContent(
        rejected=(Rejected(where=f"{path}:1", reason=reason, code=READ_CODE),), broken=True
    )


def _missing(path: Path) -> FileChange:
    reason = "is gone; what it declared stays in force until it is back"
    rejected = Rejected(where=_as_option(path), reason=reason, code=READ_CODE)
    return FileChange(
        source=_as_option(path), content=FileContent(rejected=(rejected,), broken=True)
    )


def _as_option(path: Path) -> str:
    """The path as a source of its own, apart from the file of the same name."""
    return f"-f {path}"
