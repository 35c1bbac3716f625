from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.errors import SettingError
from app.objects import scheme
from app.objects.config import MeshConfig
from app.objects.meta import ObjectKey, ObjectKind, Rejected
from app.standalone.state import (
    StateLock,
    bring_down,
    holder,
    preset_mesh_config,
    request_kill,
    require_free,
    taken_kill_requests,
)

POD = ObjectKey(kind=ObjectKind.POD, namespace="shop", name="web-0")


def test_one_process_at_a_time(tmp_path: Path) -> None:
    state = tmp_path / "state"
    first, second = StateLock(state), StateLock(state)
    assert holder(state) is None
    first.take("osm")
    assert state.stat().st_mode & 0o777 == 0o700
    assert (first.held, second.held, holder(state)) == (True, False, os.getpid())
    with pytest.raises(SettingError, match=f"process {os.getpid()}"):
        second.take("osm")
    first.release()
    first.release()
    assert holder(state) is None
    second.take("osm")
    second.release()


def test_a_lock_whose_file_was_removed_is_not_had_twice(tmp_path: Path) -> None:
    first, second = StateLock(tmp_path), StateLock(tmp_path)
    first.take("osm")
    (tmp_path / "lock").unlink()
    second.take("osm")
    first.release()
    assert holder(tmp_path) == os.getpid()
    second.release()


def test_a_directory_that_serves_another_purpose_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    mode = tmp_path.stat().st_mode
    with pytest.raises(SettingError, match="holds other things"):
        StateLock(tmp_path).take("osm")
    with pytest.raises(SettingError, match="nothing was removed"):
        bring_down("osm", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["root"]
    assert tmp_path.stat().st_mode == mode


def test_a_copy_of_the_demo_and_what_a_crash_left_stand_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    require_free(tmp_path)
    lock = StateLock(tmp_path)
    lock.take("osm")
    (tmp_path / "objects").mkdir()
    with pytest.raises(SettingError, match="a mesh is up already"):
        require_free(tmp_path)
    lock.release()
    require_free(tmp_path)


def test_requests_to_end_a_pod_are_told_once(tmp_path: Path) -> None:
    assert taken_kill_requests(tmp_path) == []
    other = ObjectKey(kind=ObjectKind.POD, namespace="a", name="b")
    request_kill(tmp_path, POD, graceful=True)
    request_kill(tmp_path, other, graceful=False)
    (tmp_path / "kill" / ".shop_web-1.new").write_text("")
    assert taken_kill_requests(tmp_path) == [(other, False), (POD, True)]
    assert taken_kill_requests(tmp_path) == []


def test_the_preset_is_a_good_mesh_config() -> None:
    decoded = scheme.decode(preset_mesh_config("osm-system", "osm-mesh-config"))
    assert not isinstance(decoded, Rejected)
    config = decoded[1]
    assert isinstance(config, MeshConfig)
    traffic = config.spec.traffic
    assert traffic.enable_permissive_traffic_policy_mode
    assert traffic.enable_egress
