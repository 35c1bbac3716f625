"""Comparison with golden files, which are reviewed like code; ``UPDATE_GOLDEN=1`` writes them."""

from __future__ import annotations

import os
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"
IS_UPDATE = os.environ.get("UPDATE_GOLDEN") == "1"


def check(path: Path, text: str) -> None:
    """The file holds the text."""
    if IS_UPDATE:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert path.is_file(), f"no golden file {path}; UPDATE_GOLDEN=1 writes it"
    assert text == path.read_text(), f"differs from {path}; UPDATE_GOLDEN=1 writes it anew"
