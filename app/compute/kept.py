"""Objects that the program wrote, kept on disk so that the next process finds them.

One JSON file per object in a directory of mode 0700, each 0600 and replaced atomically: the mesh's
root, the bootstrap Secrets and the running Pods live here, and with them everything that adoption
and ``down`` need.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from app.compute.declared import RawKey
from app.objects.meta import RawObject


class KeptObjects:
    """A directory of objects; without one, nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def load(self) -> list[RawObject]:
        """All kept objects, sorted by file name.

        A file that was cut short by a crash is dropped; one that vanishes meanwhile is not there.
        """
        if self._folder is None or not self._folder.is_dir():
            return []
        found = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                found.append(json.loads(path.read_text(encoding="utf-8")))
            except FileNotFoundError:
                continue
            except ValueError:
                path.unlink(missing_ok=True)
        return found

    def save(self, key: RawKey, raw: RawObject) -> None:
        """The object is on disk now."""
        if self._folder is None:
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(self._folder, key)
        fresh = path.with_suffix(".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(raw, file)
        fresh.replace(path)

    def remove(self, key: RawKey) -> None:
        """The object is not on disk any more."""
        if self._folder is not None:
            self._path(self._folder, key).unlink(missing_ok=True)

    @staticmethod
    def _path(folder: Path, key: RawKey) -> Path:
        # Namespaces hold no dot, so the three parts cannot be confused.
        return folder / f"{key.kind}.{key.namespace}.{key.name}.json"
