"""What all files together declare: one object per key, with its place; pure.

``local`` feeds it the content of one file at a time. Bad input changes nothing: the objects of a
file that does not parse stay as they were, a document that became invalid keeps its last good form,
and of two documents for one object the one that was there first stays in force.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from app.compute.files import READ_CODE, Document, FileContent
from app.objects.meta import KubeObject, RawObject, Rejected

DEFAULT_NAMESPACE = "default"
CLUSTER_SCOPED = frozenset({"Namespace"})


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class RawKey:
    """Which object, of any kind; ``ObjectKey`` names only those the mesh reads."""

    kind: str
    namespace: str = ""
    name: str

    def __str__(self) -> str:
        return (
            f"{self.kind} {self.namespace}/{self.name}"
            if self.namespace
            else f"{self.kind} {self.name}"
        )

    @classmethod
    def of(cls, raw: RawObject) -> RawKey:
        """The key of an object whose metadata is complete."""
        metadata = raw["metadata"]
        return cls(
            kind=raw["kind"], namespace=metadata.get("namespace") or "", name=metadata["name"]
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Admitted:
    """The answer to one document: what is stored, or why it is not.

    ``object`` is the typed view where the mesh reads the kind. ``rejected`` entries need no line:
    their ``where`` is replaced by the ``file:line`` of their ``field``.
    """

    raw: RawObject
    object: KubeObject | None = None
    rejected: tuple[Rejected, ...] = ()


Admit = Callable[[RawObject, str], Admitted]
"""Decides about an object, given the place it was written at."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stored:
    """An object in force and where it comes from."""

    key: RawKey
    raw: RawObject
    where: str
    object: KubeObject | None = None
    document: Document | None = None
    """As written in a file; None for objects of the program."""

    def where_of(self, path: str) -> str:
        """``file:line`` of a field, or ``where`` for an object of no file."""
        return self.where if self.document is None else self.document.where_of(path)

    def same_as(self, other: Stored | None) -> bool:
        """True when nobody could tell the two apart."""
        return other is not None and self.raw == other.raw and self.where == other.where


@dataclass(slots=True)
class _File:
    good: dict[RawKey, Stored] = field(default_factory=dict)
    rejected: tuple[Rejected, ...] = ()


class DeclaredObjects:
    """The union of all files; one owner thread or lock."""

    def __init__(self, admit: Admit) -> None:
        self._admit = admit
        self._files: dict[str, _File] = {}
        self._owners: dict[RawKey, str] = {}
        self.objects: Mapping[RawKey, Stored] = {}
        self.rejected: Mapping[str, tuple[Rejected, ...]] = {}
        """By source; every source ever seen stands here, with an empty tuple when all is well."""

    def put(self, source: str, content: FileContent) -> None:
        """The file says this now; call ``merge`` when all changed files are told."""
        before = self._files.get(source, _File())
        if content.broken:
            self._files[source] = replace(before, rejected=content.rejected)
        else:
            self._files[source] = self._read(content, before)

    def remove(self, source: str) -> None:
        """The file is gone, and what it declared with it."""
        self._files.pop(source, None)

    def merge(self) -> None:
        """``objects`` and ``rejected`` follow from the files."""
        owners: dict[RawKey, str] = {}
        for source in sorted(self._files):
            for key in self._files[source].good:
                owners.setdefault(key, source)
        still = {
            key: source
            for key, source in self._owners.items()
            if source in self._files and key in self._files[source].good
        }
        self._owners = {**owners, **still}
        self.objects = {
            key: self._files[source].good[key] for key, source in sorted(self._owners.items())
        }
        known = dict.fromkeys([*self.rejected, *sorted(self._files)])
        self.rejected = {source: self._rejections(source) for source in known}

    def _rejections(self, source: str) -> tuple[Rejected, ...]:
        file = self._files.get(source, _File())
        twice = tuple(
            _duplicate(stored, self.objects[key])
            for key, stored in file.good.items()
            if self._owners[key] != source
        )
        return tuple(sorted({*file.rejected, *twice}))

    def _read(self, content: FileContent, before: _File) -> _File:
        good: dict[RawKey, Stored] = {}
        rejected = list(content.rejected)
        kept = dict(before.good) if content.rejected else {}
        for document in content.documents:
            raw, key = _with_key(document)
            if isinstance(key, Rejected):
                rejected.append(key)
                # Nobody can say which object was meant, so none of this file is taken away.
                kept.update(before.good)
                continue
            admitted = self._admit(raw, document.where)
            if admitted.rejected:
                rejected.extend(_placed(entry, document) for entry in admitted.rejected)
                # A document never seen before may be a known one, misspelt: all of the file stays.
                kept.update({key: before.good[key]} if key in before.good else before.good)
                continue
            stored = Stored(
                key=key,
                raw=admitted.raw,
                where=document.where,
                object=admitted.object,
                document=document,
            )
            if key in good:
                rejected.append(_duplicate(stored, good[key]))
            else:
                good[key] = stored
        return _File(good={**kept, **good}, rejected=tuple(rejected))


def _with_key(document: Document) -> tuple[RawObject, RawKey | Rejected]:
    """The object with its namespace filled in, and its key or the reason why it has none."""
    raw = document.raw
    kind = raw.get("kind")
    if not isinstance(raw.get("apiVersion"), str) or not isinstance(kind, str) or not kind:
        return raw, _refused(document, "kind", "every object needs apiVersion and kind")
    metadata = raw.get("metadata")
    if not isinstance(metadata, dict):
        return raw, _refused(document, "metadata", f"this {kind} needs metadata with a name")
    name, namespace = metadata.get("name"), metadata.get("namespace") or DEFAULT_NAMESPACE
    if not isinstance(name, str) or not name:
        return raw, _refused(document, "metadata.name", f"this {kind} needs a name, as text")
    if not isinstance(namespace, str):
        return raw, _refused(document, "metadata.namespace", "the namespace must be text")
    if kind in CLUSTER_SCOPED:
        return raw, RawKey(kind=kind, name=name)
    raw = {**raw, "metadata": {**metadata, "namespace": namespace}}
    return raw, RawKey(kind=kind, namespace=namespace, name=name)


def _refused(document: Document, path: str, reason: str) -> Rejected:
    return Rejected(where=document.where_of(path), field=path, reason=reason, code=READ_CODE)


def _placed(entry: Rejected, document: Document) -> Rejected:
    return replace(entry, where=document.where_of(entry.field))


def _duplicate(stored: Stored, owner: Stored) -> Rejected:
    reason = (
        f"{stored.key} is declared at {owner.where} already; that one stays, remove one of them"
    )
    return Rejected(where=stored.where, field="metadata.name", reason=reason, code=READ_CODE)
