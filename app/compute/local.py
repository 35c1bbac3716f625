"""The objects of one machine: declared in watched YAML files, or written by the program.

Source and writer, built by ``standalone.cluster``; ``Runtime`` reads and writes through the ports,
the kubelet hears of every change and reads raw objects, workloads too. A written object hides a
declared one of the same key; a Pod in a file is only a wish, which the kubelet turns into a written
Pod. What is missing is implied: a MeshConfig (kubernetes-surface 1.1, presets) and the namespaces
that objects name.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from app import logs
from app.compute.declared import Admit, DeclaredObjects, RawKey, Stored
from app.compute.folders import FileChange, Folders
from app.compute.kept import KeptObjects
from app.errors import AppError, NotFoundError, ObjectError, WriteConflict
from app.events import ObjectChanged, ObjectDeleted, ObjectEvent, SourceChecked, Synced
from app.objects import scheme
from app.objects.meta import ObjectKey, ObjectKind, RawObject, Rejected
from app.objects.patch import merge_patch

_WISHES = frozenset({"Pod"})
"""Kinds whose declared objects are not in force themselves."""
_IMPLIED = "implied"
_MESH_KINDS = frozenset(kind.value for kind in ObjectKind)


class LocalObjects:
    """All objects of the machine. Thread-safe; posts in the order of changes."""

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        admit: Admit,
        presets: Iterable[RawObject] = (),
        kept_in: Path | None = None,
    ) -> None:
        """``presets`` are in force where no file declares them.

        Written objects survive in ``kept_in``.
        """
        self._lock = threading.RLock()
        self._folders = Folders(paths)
        self._declared = DeclaredObjects(admit)
        self._kept = KeptObjects(kept_in)
        self._presets = {RawKey.of(raw): _written(raw, "preset") for raw in presets}
        self._implied: dict[RawKey, Stored] = {}
        self._written: dict[RawKey, Stored] = {}
        self._visible: dict[RawKey, Stored] = {}
        self._reported: dict[str, tuple[Rejected, ...]] = {}
        self._posted_rejections: dict[str, tuple[Rejected, ...]] = {}
        self._listeners: list[Callable[[], None]] = []
        self._post: Callable[[ObjectEvent], None] | None = None
        self._kinds: frozenset[ObjectKind] = frozenset()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._log = logs.logger("files")

    # Source

    def load(self) -> None:
        """Files and kept objects are read; raises ``SettingError`` when a path does not exist."""
        self._folders.check()
        with self._lock:
            for raw in self._kept.load():
                # What an older release kept and this one cannot read is not worth a failed start.
                with suppress(ObjectError):
                    stored = _written(raw, str(RawKey.of(raw)))
                    self._written[stored.key] = stored
            self._apply_files(self._folders.changed())

    def start(self, post: Callable[[ObjectEvent], None], kinds: Iterable[ObjectKind]) -> None:
        """Post what exists, then ``Synced``, then every change of files and of written objects."""
        with self._lock:
            self._kinds = frozenset(kinds)
            self._post = post
        self._thread = threading.Thread(target=self._watch, name="source files", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No event is posted after this returns."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            self._post = None
            self._listeners.clear()

    def subscribe(self, listener: Callable[[], None]) -> None:
        """The listener is called after every change.

        It must be quick and read nothing from here.
        """
        with self._lock:
            self._listeners.append(listener)

    # Raw objects, for the kubelet

    def declared(self, *kinds: str) -> tuple[Stored, ...]:
        """The files' objects of these kinds, sorted by key; Pods are those that are wished for."""
        with self._lock:
            objects = self._declared.objects
        return tuple(stored for key, stored in sorted(objects.items()) if key.kind in kinds)

    def objects(self, *kinds: str) -> tuple[Stored, ...]:
        """The objects of these kinds in force, sorted by key; Pods are those that run."""
        with self._lock:
            return tuple(s for key, s in sorted(self._visible.items()) if key.kind in kinds)

    def find(self, key: RawKey) -> Stored | None:
        """The object in force, or None. Its ``raw`` is shared: read it, do not change it."""
        with self._lock:
            return self._visible.get(key)

    def rejected(self) -> tuple[Rejected, ...]:
        """All that is wrong with the files now, sorted."""
        with self._lock:
            found = {**self._declared.rejected, **self._reported}
        return tuple(sorted(entry for entries in found.values() for entry in entries))

    def implied_namespaces(self) -> tuple[str, ...]:
        """Namespaces that objects name and no file declares: they are not part of the mesh."""
        with self._lock:
            return tuple(
                key.name
                for key, stored in sorted(self._visible.items())
                if stored.where == _IMPLIED
            )

    def report(self, source: str, rejected: tuple[Rejected, ...]) -> None:
        """All that another part of the program found wrong with declared objects, now."""
        with self._lock:
            self._reported[source] = rejected
            self._post_rejections()

    # Writer

    def read(self, key: ObjectKey) -> RawObject | None:
        """A copy of the object, or None where there is none."""
        stored = self.find(_raw_key(key))
        return copy.deepcopy(stored.raw) if stored is not None else None

    def create(self, raw: RawObject) -> None:
        """The object exists.

        Its metadata is completed as an API server would. Raises ``WriteConflict``.
        """
        key = RawKey.of(raw)
        with self._lock:
            if key in self._visible:
                raise WriteConflict(f"{key} exists already")
            self._write(key, raw)

    def replace(self, raw: RawObject) -> None:
        """The object has this content now, whether or not it existed."""
        with self._lock:
            self._write(RawKey.of(raw), raw)

    def update(self, key: RawKey, change: Callable[[RawObject], RawObject | None]) -> bool:
        """The written object is what ``change`` makes of a copy of it.

        False when it is gone or unchanged.
        """
        with self._lock:
            stored = self._written.get(key)
            changed = change(copy.deepcopy(stored.raw)) if stored is not None else None
            if stored is None or changed is None or changed == stored.raw:
                return False
            self._write(key, changed)
            return True

    def patch(self, key: ObjectKey, patch: RawObject) -> None:
        """The object has the merge patch applied; raise ``NotFoundError``."""
        raw_key = _raw_key(key)
        with self._lock:
            stored = self._visible.get(raw_key)
            if stored is None:
                raise NotFoundError(f"{key} does not exist")
            self._write(raw_key, merge_patch(stored.raw, patch))

    def patch_status(self, key: ObjectKey, status: RawObject) -> None:
        """The object's status has these fields; raise ``NotFoundError``."""
        self.patch(key, {"status": status})

    def delete(self, key: ObjectKey) -> None:
        """The written object is gone, whether or not it existed."""
        with self._lock:
            raw_key = _raw_key(key)
            if self._written.pop(raw_key, None) is not None:
                self._kept.remove(raw_key)
                self._settle({raw_key})

    def _write(self, key: RawKey, raw: RawObject) -> None:
        raw = copy.deepcopy(raw)
        metadata = raw["metadata"]
        metadata.setdefault("uid", str(uuid4()))
        metadata.setdefault("creationTimestamp", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
        stored = _written(raw, str(key))
        self._kept.save(key, raw)
        self._written[key] = stored
        self._settle({key})

    # Changes

    def _watch(self) -> None:
        with self._lock:
            for stored in self._visible.values():
                self._announce(stored.key, stored)
            self._post_rejections()
            self._tell(Synced(kinds=self._kinds))
        while not self._stopping.is_set():
            try:
                for changes in self._folders.watch(self._stopping):
                    with self._lock:
                        self._apply_files(changes)
            except Exception as error:  # one file must not end the watch over all
                code = getattr(error, "code", AppError.code)
                self._log.exception("a change of files was not taken", error_code=code)

    def _apply_files(self, changes: Iterable[FileChange]) -> None:
        for change in changes:
            if change.content is None:
                self._declared.remove(change.source)
            else:
                self._declared.put(change.source, change.content)
        self._declared.merge()
        self._imply_namespaces()
        keys = {
            *self._declared.objects,
            *self._visible,
            *self._written,
            *self._presets,
            *self._implied,
        }
        self._settle(keys)
        self._post_rejections()

    def _imply_namespaces(self) -> None:
        names = {
            key.namespace for key in (*self._declared.objects, *self._presets) if key.namespace
        }
        self._implied = {}
        for name in sorted(names):
            raw: RawObject = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            self._implied[RawKey.of(raw)] = _written(raw, _IMPLIED)

    def _settle(self, keys: Iterable[RawKey]) -> None:
        """What is in force follows from the layers, and everybody hears of what differs."""
        changed = False
        for key in sorted(keys):
            stored, before = self._in_force(key), self._visible.get(key)
            if stored is None:
                self._visible.pop(key, None)
            else:
                self._visible[key] = stored
            if (stored is None) != (before is None) or (
                stored is not None and not stored.same_as(before)
            ):
                changed = True
                self._announce(key, stored)
        # A wish is not in force, so a changed one shows nowhere above.
        if changed or any(key.kind in _WISHES for key in self._declared.objects):
            for listener in self._listeners:
                listener()

    def _in_force(self, key: RawKey) -> Stored | None:
        declared = None if key.kind in _WISHES else self._declared.objects.get(key)
        return (
            self._written.get(key) or declared or self._presets.get(key) or self._implied.get(key)
        )

    def _announce(self, key: RawKey, stored: Stored | None) -> None:
        if key.kind not in _MESH_KINDS or ObjectKind(key.kind) not in self._kinds:
            return
        mesh_key = ObjectKey(kind=ObjectKind(key.kind), namespace=key.namespace, name=key.name)
        if stored is None:
            self._tell(ObjectDeleted(key=mesh_key))
        elif stored.object is not None:
            self._tell(ObjectChanged(key=mesh_key, object=stored.object, where=stored.where))

    def _post_rejections(self) -> None:
        if self._post is None:
            return
        for source, rejected in {**self._declared.rejected, **self._reported}.items():
            if self._posted_rejections.get(source, ()) != rejected:
                self._tell(SourceChecked(source=source, rejected=rejected))
                self._posted_rejections[source] = rejected

    def _tell(self, event: ObjectEvent) -> None:
        if self._post is not None:
            self._post(event)


def _written(raw: RawObject, where: str) -> Stored:
    """An object of the program itself; raises ``ObjectError`` when the mesh could not read it."""
    if not scheme.is_mesh_kind(raw):
        return Stored(key=RawKey.of(raw), raw=raw, where=where)
    decoded = scheme.decode(raw, where)
    if isinstance(decoded, Rejected):
        raise ObjectError(str(decoded))
    return Stored(key=RawKey.of(raw), raw=raw, where=where, object=decoded[1])


def _raw_key(key: ObjectKey) -> RawKey:
    return RawKey(kind=key.kind.value, namespace=key.namespace, name=key.name)
