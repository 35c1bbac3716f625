"""The unattended demo: its numbers are what the policy says, in both modes."""

import json
import math
import subprocess
from pathlib import Path
from typing import Any

import pytest
from e2e.bookstore_mesh import OSM, machine

pytestmark = [pytest.mark.root, pytest.mark.envoy, pytest.mark.serial]
SECONDS = 15
LEAST_REQUESTS = 500 / 30 * SECONDS
SIGMAS = 4


@pytest.mark.parametrize("mode", ["smi", "permissive"])
def test_demo_proves_split_access_and_mtls(mode: str, tmp_path: Path) -> None:
    before = machine()
    result = demo("--mode", mode, "--seconds", str(SECONDS), "-o", "json", state=tmp_path / "state")
    buyer, thief = result["bookbuyer"], result["bookthief"]
    total = buyer["v1"] + buyer["v2"]
    assert result | {"bookbuyer": 0, "bookthief": 0, "up_seconds": 0} == {
        "mode": mode,
        "split": {"v1": 90, "v2": 10},
        "bookbuyer": 0,
        "bookthief": 0,
        "proxies": 6,
        "mtls": True,
        "up_seconds": 0,
    }
    assert total >= LEAST_REQUESTS
    assert buyer["errors"] == 0
    assert abs(buyer["v1"] - total * 0.9) <= SIGMAS * math.sqrt(total * 0.9 * 0.1)
    got_away = (thief["ok"] > 0, thief["denied"] > 0)
    assert got_away == ((True, False) if mode == "permissive" else (False, True))
    assert result["up_seconds"] < 60
    assert machine() == before


def demo(*arguments: str, state: Path) -> dict[str, Any]:
    ended = subprocess.run(
        [OSM, "demo", *arguments, "--state-dir", str(state), "--api-port", "0"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_demo_without_a_terminal_asks_for_seconds(tmp_path: Path) -> None:
    ended = subprocess.run(
        [OSM, "demo", "--state-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, "--seconds" in ended.stderr) == (1, True)
