"""The demo's YAML: a fresh copy, edited as a person would, and counters read from logs."""

from pathlib import Path

import pytest

from app.cli.demo_mesh import Tally
from app.cli.demo_world import EXAMPLE, DemoWorld, Mode, last_counts
from app.errors import SettingError


@pytest.mark.parametrize("mode", list(Mode))
def test_fresh_world_has_the_mode_and_the_examples_split(mode: Mode, tmp_path: Path) -> None:
    world = DemoWorld.create(tmp_path / "demo", mode)
    assert (world.mode, world.split) == (mode, {"v1": 90, "v2": 10})
    assert all(folder.is_dir() for folder in world.folders)


def test_edits_change_the_copy_and_not_the_example(tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in EXAMPLE.rglob("*.yaml")}
    world = DemoWorld.create(tmp_path / "demo", Mode.SMI)
    world.set_mode(Mode.PERMISSIVE)
    world.set_split(1, 2)
    again = DemoWorld.running(tmp_path / "demo")
    assert (again.mode, again.split) == (Mode.PERMISSIVE, {"v1": 1, "v2": 2})
    assert {path: path.read_bytes() for path in EXAMPLE.rglob("*.yaml")} == before
    assert not list((tmp_path / "demo").rglob("*.draft"))


def test_world_that_does_not_run_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="osm demo"):
        DemoWorld.running(tmp_path)


def test_missing_example_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=str(tmp_path / "nowhere")):
        DemoWorld.create(tmp_path / "demo", Mode.SMI, tmp_path / "nowhere")


ZERO = {"v1": 0, "v2": 0, "ok": 0, "denied": 0, "errors": 0}


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        pytest.param("", ZERO, id="nothing-yet"),
        pytest.param('{"counts": {"ok": 1}}\n{"counts": {"ok": 2}}\n', {"ok": 2}, id="newest"),
        pytest.param('{"counts": {"ok": 1}}\n{"error": "x"}\n', {"ok": 1}, id="errors-between"),
        pytest.param('ts": {"ok": 9}}\n', ZERO, id="cut-line-is-left-out"),
    ],
)
def test_last_counts_of_a_log(log: str, expected: dict[str, int]) -> None:
    assert last_counts(log) == expected


def test_tally_goes_on_over_restarts_and_new_pods() -> None:
    tally = Tally()
    tally.take("a", {"ok": 5, "errors": 1})
    tally.take("a", {"ok": 2, "errors": 0})
    tally.take("b", {"ok": 1, "errors": 0})
    assert tally.total() == {"ok": 8, "errors": 1}
