import os
from pathlib import Path

import pytest

from app.standalone.volumes import publish_files

UID, GID = os.getuid(), os.getgid()


def _seen(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name[:2] != ".."}


def _publish(directory: Path, files: dict[str, bytes], mode: int = 0o644) -> bool:
    return publish_files(directory, files, uid=UID, gid=GID, mode=mode)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({}, {"a": b"1", "b": b"2"}, id="first"),
        pytest.param({"a": b"1"}, {"a": b"2"}, id="new-content"),
        pytest.param({"a": b"1", "b": b"2"}, {"a": b"1"}, id="one-less"),
        pytest.param({"a": b"1"}, {"a": b"1", ".hidden": b"2"}, id="one-more-with-a-dot"),
        pytest.param({"a": b"1"}, {}, id="none-left"),
    ],
)
def test_directory_holds_exactly_the_files(
    tmp_path: Path, before: dict[str, bytes], after: dict[str, bytes]
) -> None:
    _publish(tmp_path, before)
    assert _publish(tmp_path, after)
    assert _seen(tmp_path) == after
    assert len([path for path in tmp_path.iterdir() if path.name.startswith("..")]) == 2
    assert not _publish(tmp_path, after)


def test_all_files_change_by_one_swap_of_a_link(tmp_path: Path) -> None:
    _publish(tmp_path, {"cert": b"1", "key": b"1"})
    links = {path.name: str(path.readlink()) for path in tmp_path.iterdir() if path.is_symlink()}
    inode = (tmp_path / "cert").lstat().st_ino
    _publish(tmp_path, {"cert": b"2", "key": b"2"})
    assert {name: links[name] for name in ("cert", "key")} == {
        "cert": "..data/cert",
        "key": "..data/key",
    }
    assert (tmp_path / "cert").lstat().st_ino == inode
    assert str((tmp_path / "..data").readlink()) != links["..data"]


def test_a_new_mode_is_a_change(tmp_path: Path) -> None:
    assert _publish(tmp_path, {"key": b"1"})
    assert _publish(tmp_path, {"key": b"1"}, mode=0o400)
    status = (tmp_path / "key").stat()
    assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o400, UID, GID)


def test_what_a_crash_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / "..half").mkdir()
    (tmp_path / "..half" / "key").write_bytes(b"?")
    (tmp_path / "...data.new").symlink_to("..half")
    (tmp_path / "stray").write_bytes(b"?")
    _publish(tmp_path, {"key": b"1"})
    assert _seen(tmp_path) == {"key": b"1"}
    assert len(list(tmp_path.iterdir())) == 3
