from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.compute.declared import Admitted, RawKey
from app.compute.local import LocalObjects
from app.errors import ObjectError, SettingError, WriteConflict
from app.events import ObjectChanged, ObjectDeleted, ObjectEvent, SourceChecked, Synced
from app.objects import scheme
from app.objects.meta import ObjectKey, ObjectKind, RawObject, Rejected

KINDS = frozenset({ObjectKind.POD, ObjectKind.SERVICE, ObjectKind.SECRET, ObjectKind.NAMESPACE})
PATIENCE = 10.0


def admit(raw: RawObject, where: str) -> Admitted:
    if not scheme.is_mesh_kind(raw):
        return Admitted(raw=raw)
    decoded = scheme.decode(raw, where)
    if isinstance(decoded, Rejected):
        return Admitted(raw=raw, rejected=(decoded,))
    return Admitted(raw=raw, object=decoded[1])


class Recorder:
    """Collects events; waits for one."""

    def __init__(self) -> None:
        self.events: list[ObjectEvent] = []
        self._changed = threading.Condition()

    def __call__(self, event: ObjectEvent) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait(self, fits: Callable[[ObjectEvent], bool]) -> ObjectEvent:
        with self._changed:
            assert self._changed.wait_for(lambda: any(map(fits, self.events)), PATIENCE), (
                self.events
            )
            return next(filter(fits, self.events))

    def clear(self) -> None:
        with self._changed:
            self.events.clear()

    def names(self) -> list[str]:
        with self._changed:
            return [
                f"{'+' if isinstance(e, ObjectChanged) else '-'}{e.key.name}"
                for e in self.events
                if isinstance(e, ObjectChanged | ObjectDeleted)
            ]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., tuple[LocalObjects, Recorder]]]:
    """Starts a store over ``tmp_path`` and waits until it is synced."""
    stores: list[LocalObjects] = []

    def start(**options: object) -> tuple[LocalObjects, Recorder]:
        store = LocalObjects([tmp_path], **{"admit": admit, **options})  # type: ignore[arg-type]
        stores.append(store)
        store.load()
        recorder = Recorder()
        store.start(recorder, KINDS)
        recorder.wait(lambda event: isinstance(event, Synced))
        return store, recorder

    yield start
    for store in stores:
        store.stop()


def service(name: str, port: object = 80) -> str:
    return (
        f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n"
        f"spec: {{ports: [{{port: {port}}}]}}\n---\n"
    )


def changed(name: str) -> Callable[[ObjectEvent], bool]:
    return lambda event: isinstance(event, ObjectChanged) and event.key.name == name


def deleted(name: str) -> Callable[[ObjectEvent], bool]:
    return lambda event: isinstance(event, ObjectDeleted) and event.key.name == name


def test_what_exists_is_posted_then_synced(tmp_path: Path, opened) -> None:
    (tmp_path / "a.yaml").write_text(service("web"))
    (tmp_path / "b.txt").write_text(service("not-yaml"))
    (tmp_path / ".c.yaml").write_text(service("hidden"))
    _, recorder = opened()
    assert recorder.names() == ["+shop", "+web"]
    assert recorder.events[-1] == Synced(kinds=KINDS)
    event = recorder.wait(changed("web"))
    assert isinstance(event, ObjectChanged)
    assert event.where == f"{tmp_path}/a.yaml:1"


def rename(path: Path, text: str) -> None:
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(text)
    fresh.replace(path)


def move_away_and_write(path: Path, text: str) -> None:
    backup = path.with_name(f"{path.name}~")
    path.rename(backup)
    path.write_text(text)
    backup.unlink()


def unlink_and_write(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text)


@pytest.mark.parametrize(
    "save",
    [
        pytest.param(Path.write_text, id="in-place"),
        pytest.param(rename, id="rename"),
        pytest.param(move_away_and_write, id="backup"),
        pytest.param(unlink_and_write, id="unlink"),
    ],
)
def test_an_edit_takes_effect_and_deletes_nothing(
    tmp_path: Path, opened, save: Callable[[Path, str], object]
) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(service("web", 80))
    _, recorder = opened()
    recorder.clear()
    save(file, service("web", 81))
    event = recorder.wait(changed("web"))
    assert isinstance(event, ObjectChanged)
    assert event.object.spec.ports[0].port == 81
    assert recorder.names() == ["+web"]


def test_files_come_and_go(tmp_path: Path, opened) -> None:
    (tmp_path / "a.yaml").write_text(service("web"))
    _, recorder = opened()
    (tmp_path / "b.yaml").write_text(service("new"))
    recorder.wait(changed("new"))
    (tmp_path / "a.yaml").unlink()
    recorder.wait(deleted("web"))


def test_an_object_nobody_can_bear_does_not_end_the_watch(tmp_path: Path, opened) -> None:
    exploded = threading.Event()

    def fragile(raw: RawObject, where: str) -> Admitted:
        if raw["metadata"]["name"] == "explosive":
            exploded.set()
            raise RuntimeError("nobody foresaw this object")
        return admit(raw, where)

    _, recorder = opened(admit=fragile)
    (tmp_path / "a.yaml").write_text(service("explosive"))
    assert exploded.wait(PATIENCE)
    (tmp_path / "b.yaml").write_text(service("web"))
    recorder.wait(changed("web"))


def test_a_truncated_file_is_not_believed_at_once(tmp_path: Path, opened) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(service("web", 80))
    _, recorder = opened()
    recorder.clear()
    with file.open("w") as writer:
        writer.flush()
        os.fsync(writer.fileno())
        writer.write(service("web", 81))
    recorder.wait(changed("web"))
    assert recorder.names() == ["+web"]


def test_a_broken_file_is_reported_and_changes_nothing(tmp_path: Path, opened) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(service("web"))
    store, recorder = opened()
    recorder.clear()
    file.write_text("a: [\n")
    event = recorder.wait(lambda e: isinstance(e, SourceChecked))
    assert isinstance(event, SourceChecked)
    assert event.source == str(file)
    assert [entry.where for entry in event.rejected] == [f"{file}:1"]
    assert recorder.names() == []
    assert store.rejected() == event.rejected
    file.write_text(service("web"))
    recorder.wait(lambda e: e == SourceChecked(source=str(file), rejected=()))


def test_a_bad_field_is_reported_with_its_line(tmp_path: Path, opened) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(service("web"))
    _, recorder = opened()
    file.write_text(service("web", "ninety"))
    event = recorder.wait(lambda e: isinstance(e, SourceChecked))
    assert isinstance(event, SourceChecked)
    assert [(e.where, e.field) for e in event.rejected] == [(f"{file}:4", "spec.ports[0].port")]


def test_a_folder_that_vanishes_takes_nothing_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "objects"
    folder.mkdir()
    (folder / "a.yaml").write_text(service("web"))
    store = LocalObjects([folder], admit=admit)
    store.load()
    recorder = Recorder()
    store.start(recorder, KINDS)
    try:
        recorder.wait(lambda event: isinstance(event, Synced))
        folder.rename(tmp_path / "away")
        recorder.wait(lambda e: isinstance(e, SourceChecked) and bool(e.rejected))
        assert store.find(RawKey(kind="Service", namespace="shop", name="web")) is not None
        (tmp_path / "away").rename(folder)
        recorder.wait(lambda e: isinstance(e, SourceChecked) and not e.rejected)
        assert deleted("web") not in recorder.events
        (folder / "a.yaml").write_text(service("new"))
        recorder.wait(deleted("web"))
    finally:
        store.stop()


def test_a_path_that_does_not_exist_is_refused_at_the_start(tmp_path: Path) -> None:
    store = LocalObjects([tmp_path / "nowhere"], admit=admit)
    with pytest.raises(SettingError, match="nowhere"):
        store.load()


POD_KEY = ObjectKey(kind=ObjectKind.POD, namespace="shop", name="web-0")
POD: RawObject = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web-0", "namespace": "shop"},
    "spec": {"containers": [{"name": "web"}]},
}


def test_a_pod_in_a_file_is_a_wish_and_a_written_one_runs(tmp_path: Path, opened) -> None:
    (tmp_path / "a.yaml").write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: web-0, namespace: shop}\n"
    )
    store, recorder = opened()
    assert [s.key.name for s in store.declared("Pod")] == ["web-0"]
    assert store.objects("Pod") == ()
    store.create(POD)
    recorder.wait(changed("web-0"))
    assert [s.raw["spec"] for s in store.objects("Pod")] == [POD["spec"]]


def test_written_objects_are_completed_and_cannot_be_created_twice(opened) -> None:
    store, _ = opened()
    store.create(POD)
    found = store.read(POD_KEY)
    assert found is not None
    assert set(found["metadata"]) == {"name", "namespace", "uid", "creationTimestamp"}
    with pytest.raises(WriteConflict):
        store.create(POD)
    store.delete(POD_KEY)
    store.delete(POD_KEY)
    assert store.read(POD_KEY) is None


def test_only_what_differs_is_posted(opened) -> None:
    store, recorder = opened()
    store.create(POD)
    recorder.clear()
    key = RawKey(kind="Pod", namespace="shop", name="web-0")
    assert not store.update(key, lambda raw: raw)
    assert not store.update(key, lambda _: None)
    assert recorder.events == []
    assert store.update(key, lambda raw: {**raw, "status": {"podIP": "10.0.0.1"}})
    assert recorder.names() == ["+web-0"]
    assert not store.update(RawKey(kind="Pod", namespace="shop", name="gone"), lambda raw: raw)


def test_a_bad_object_is_not_written(opened) -> None:
    store, _ = opened()
    with pytest.raises(ObjectError):
        store.create({**POD, "spec": {"containers": 5}})
    assert store.read(POD_KEY) is None


def test_written_objects_outlive_the_process_in_private_files(tmp_path: Path, opened) -> None:
    kept = tmp_path / "kept"
    store, _ = opened(kept_in=kept)
    store.create(POD)
    (file,) = kept.iterdir()
    assert (kept.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)
    (kept / "cut-short.json").write_text('{"kind": "P')
    (kept / "vanished.json").symlink_to("nowhere")  # as one that goes between listing and reading
    again, recorder = opened(kept_in=kept)
    assert again.read(POD_KEY) == store.read(POD_KEY)
    assert "+web-0" in recorder.names()
    (kept / "vanished.json").unlink()
    again.delete(POD_KEY)
    assert list(kept.iterdir()) == []


def test_presets_hold_until_a_file_says_otherwise(tmp_path: Path, opened) -> None:
    preset = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "sys"}}
    store, recorder = opened(presets=[preset])
    key = RawKey(kind="Secret", namespace="sys", name="s")
    assert store.find(key).where == "preset"
    file = tmp_path / "a.yaml"
    file.write_text(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: sys}\ntype: Opaque\n"
    )
    recorder.wait(lambda e: isinstance(e, ObjectChanged) and e.where == f"{file}:1")
    recorder.clear()
    file.unlink()
    recorder.wait(lambda e: isinstance(e, ObjectChanged) and e.where == "preset")


def test_namespaces_that_objects_name_are_implied(tmp_path: Path, opened) -> None:
    (tmp_path / "a.yaml").write_text(service("web"))
    store, recorder = opened()
    assert store.implied_namespaces() == ("shop",)
    (tmp_path / "b.yaml").write_text(
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {a: b}}\n"
    )
    recorder.wait(lambda e: isinstance(e, ObjectChanged) and e.where.endswith("b.yaml:1"))
    assert store.implied_namespaces() == ()


def test_listeners_hear_of_wishes_and_of_written_objects(tmp_path: Path, opened) -> None:
    store, _ = opened()
    heard = threading.Event()
    store.subscribe(heard.set)
    store.create(POD)
    assert heard.is_set()
    heard.clear()
    (tmp_path / "a.yaml").write_text("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n")
    assert heard.wait(PATIENCE)


def test_nothing_is_posted_after_stop(opened) -> None:
    store, recorder = opened()
    store.stop()
    recorder.clear()
    store.create(POD)
    assert recorder.events == []
