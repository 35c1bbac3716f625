import threading
from pathlib import Path

from app.objects.meta import ObjectKey, ObjectKind
from app.standalone import container_logs

POD = ObjectKey(kind=ObjectKind.POD, namespace="shop", name="web-0")


def test_place_of_a_log() -> None:
    path = container_logs.log_path(Path("/state"), POD, "app")
    assert path == Path("/state/pods/shop_web-0/app.log")


def test_a_short_log_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(b"short")
    container_logs.bound(log, 5)
    container_logs.bound(tmp_path / "missing.log", 5)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"app.log": b"short"}


def test_a_long_log_moves_and_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"too long")
        container_logs.bound(log, 5)
        writer.write(b"next")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "app.log": b"next",
        "app.log.1": b"too long",
    }


def test_a_log_is_read_to_its_end(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(b"x" * 70_000)
    assert [len(piece) for piece in container_logs.read(log)] == [65_536, 4_464]
    assert list(container_logs.read(tmp_path / "missing.log")) == []


def test_a_followed_log_tells_what_is_added_and_starts_over_when_emptied(tmp_path: Path) -> None:
    log, stop = tmp_path / "app.log", threading.Event()
    pieces = container_logs.read(log, follow=True, stop=stop)
    log.write_bytes(b"first")
    assert next(pieces) == b"first"
    log.write_bytes(b"first, more")
    assert next(pieces) == b", more"
    log.write_bytes(b"anew")
    assert next(pieces) == b"anew"
    stop.set()
    assert list(pieces) == []
