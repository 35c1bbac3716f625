"""Where the Envoy binary is looked for."""

from pathlib import Path

import pytest

from app.errors import SettingError
from app.standalone.envoy import find_envoy


def test_the_configured_binary_is_taken(tmp_path: Path) -> None:
    binary, link = tmp_path / "envoy-1.40", tmp_path / "envoy"
    binary.touch()
    link.symlink_to(binary)
    assert find_envoy(link) == binary


def test_a_configured_binary_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingError) as refusal:
        find_envoy(tmp_path / "missing")
    assert str(refusal.value) == f"there is no Envoy at {tmp_path}/missing (OSM_ENVOY_PATH)"


def test_the_packaged_binary_is_found_without_importing_it() -> None:
    found = find_envoy(None)
    assert found.parts[-3:] == ("envoy", "_bin", "envoy")
    assert found.stat().st_size > 10_000_000
