"""The demo's own copy of the bookstore YAML, and the edits a newcomer makes to it.

Every edit writes a file, as a person with an editor would; the mesh notices by itself. The copy
lives in the state directory, so the example stays as it is.
"""

from __future__ import annotations

import json
import shutil
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from app.errors import SettingError

EXAMPLE = Path(__file__).parents[2] / "examples" / "bookstore"
FOLDER = "demo"
"""Where in the state directory the demo's YAML lives."""
_SPLIT = Path("apps") / "traffic-split.yaml"
_MESH_CONFIG = Path("policy") / "mesh-config.yaml"
VERSIONS = ("v1", "v2")


class Mode(StrEnum):
    """Who may call whom in the demo."""

    SMI = "smi"
    PERMISSIVE = "permissive"


class DemoWorld:
    """The folder the demo's mesh reads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, folder: Path, mode: Mode, example: Path = EXAMPLE) -> DemoWorld:
        """A fresh copy of the example; TrafficTargets come along in both modes: modes can flip."""
        if not (example / "apps").is_dir():
            raise SettingError(f"the bookstore example is not at {example}; run from a checkout")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(example / "apps", folder / "apps")
        shutil.copytree(example / Mode.SMI, folder / "policy")
        shutil.copy(example / mode / _MESH_CONFIG.name, folder / _MESH_CONFIG)
        return cls(folder)

    @classmethod
    def running(cls, folder: Path) -> DemoWorld:
        """The folder of a demo that runs; raise ``SettingError`` when there is none."""
        if not (folder / _SPLIT).exists():
            raise SettingError("no demo runs here; start one with `osm demo`")
        return cls(folder)

    @property
    def folders(self) -> tuple[Path, ...]:
        """What the mesh watches."""
        return (self.folder / "apps", self.folder / "policy")

    @property
    def mode(self) -> Mode:
        """The mode the file says."""
        traffic = self._read(_MESH_CONFIG)["spec"]["traffic"]
        return Mode.PERMISSIVE if traffic["enablePermissiveTrafficPolicyMode"] else Mode.SMI

    @property
    def split(self) -> dict[str, int]:
        """Weight per version, as the file says."""
        backends = self._read(_SPLIT)["spec"]["backends"]
        return {b["service"].removeprefix("bookstore-"): b["weight"] for b in backends}

    def set_mode(self, mode: Mode) -> None:
        """The file says this mode; the mesh follows."""
        config = self._read(_MESH_CONFIG)
        traffic = config["spec"]["traffic"]
        traffic["enablePermissiveTrafficPolicyMode"] = mode is Mode.PERMISSIVE
        self._write(_MESH_CONFIG, config)

    def set_split(self, v1: int, v2: int) -> None:
        """The file has these weights; the mesh follows."""
        split = self._read(_SPLIT)
        split["spec"]["backends"] = [
            {"service": f"bookstore-{version}", "weight": weight}
            for version, weight in zip(VERSIONS, (v1, v2), strict=True)
        ]
        self._write(_SPLIT, split)

    def _read(self, file: Path) -> dict[str, Any]:
        loaded: dict[str, Any] = yaml.safe_load((self.folder / file).read_text(encoding="utf-8"))
        return loaded

    def _write(self, file: Path, content: dict[str, Any]) -> None:
        """Replace the file in one step: no reader sees half of it."""
        target = self.folder / file
        draft = target.with_suffix(".draft")
        draft.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        draft.replace(target)


def last_counts(log: str) -> dict[str, int]:
    """The newest counters a shopper printed; zeros before its first line."""
    for line in reversed(log.splitlines()):
        if line.startswith('{"counts"'):
            counts: dict[str, int] = json.loads(line)["counts"]
            return counts
    return {"v1": 0, "v2": 0, "ok": 0, "denied": 0, "errors": 0}
