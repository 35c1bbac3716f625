"""Small files of the state directory: replaced in one step, so a crash leaves old or new content.

Nothing is flushed to the disk: what the files tell of (namespaces, processes) does not outlive a
reboot.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any


def replace(path: Path, content: str | bytes, *, mode: int = 0o600) -> None:
    """The file has this content and mode; a reader never sees a part of it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{threading.get_native_id()}.new")
    raw = content.encode() if isinstance(content, str) else content
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(raw)
    fresh.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """The object in the file; empty when the file is missing or no JSON object."""
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def boot_id() -> str:
    """The same until the machine starts anew; pids and namespaces of another boot mean nothing."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
