"""The API server as a cluster of raw objects: reads, writes, lists and watches by HTTP.

Objects pass as plain JSON; kinds become URLs by discovery, asked once per group and version and
again where a kind was not there (custom kinds come later). ``kube_client`` adds where the server
is and as whom to ask. Implements ``Cluster`` and ``Feed``.
Source: the Kubernetes API reference, “API Concepts”.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Self

from app.compute.kube_answers import Answer, accepted
from app.compute.kube_discovery import ServedKind, group_path, parse_kinds, parse_version
from app.compute.kube_http import JSON, KubeHttp, Question, Stream
from app.compute.kube_reflect import PAGE, Page, Reflector, Selection
from app.errors import KubernetesError, NotFoundError
from app.objects.meta import ObjectRef, RawObject
from app.ports import ServerVersion, Watching

FIELD_MANAGER = "osm"
_PATCHES = {False: "application/merge-patch+json", True: "application/strategic-merge-patch+json"}
_APPLY = "application/apply-patch+yaml"
_METADATA = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"
_METADATA_VIEW = "PartialObjectMetadata"
_SECRET = "Secret"  # noqa: S105 a kind
_RESTARTS = 3
_GRACE_SECONDS = 15.0


class KubeCluster:
    """One API server, as one user. Thread-safe; each call ends within ``timeout_seconds``."""

    def __init__(self, http: KubeHttp, *, timeout_seconds: float) -> None:
        self._http = http
        self._kinds = _KnownKinds()
        self._timeout_seconds = timeout_seconds

    def within(self, timeout_seconds: float) -> Self:
        """The same cluster, whose calls end within so many seconds."""
        other = copy.copy(self)
        other._timeout_seconds = timeout_seconds  # noqa: SLF001 our own copy
        return other

    # Cluster

    def version(self) -> ServerVersion:
        """The server's release."""
        return parse_version(accepted(self._ask(Question(path="/version")), "read the version"))

    def serves(self, api_version: str, kind: str) -> bool:
        """True when the server has the kind in that version (asked anew where it was not there)."""
        return self._served(api_version, kind) is not None

    def read(self, ref: ObjectRef) -> RawObject | None:
        """The object, or None where there is none (or no such kind)."""
        served = self._served(ref.api_version, ref.kind)
        if served is None:
            return None
        answer = self._ask(Question(path=served.path(namespace=ref.namespace, name=ref.name)))
        return None if answer.is_missing else accepted(answer, f"read {ref}")

    def list(
        self,
        api_version: str,
        kind: str,
        *,
        namespace: str = "",
        labels: str = "",
        metadata_only: bool = False,
    ) -> list[RawObject]:
        """All objects of a kind, of all namespaces or one; empty where the kind is unknown."""
        selection = Selection(
            api_version=api_version,
            kind=kind,
            namespace=namespace,
            labels=labels,
            metadata_only=metadata_only,
        )
        found: list[RawObject] = []
        try:
            for page in self.pages(selection):
                if page.is_first:
                    found.clear()
                found += page.items
        except NotFoundError:
            return []
        return found

    def create(self, raw: RawObject) -> RawObject:
        """The object as created; raise ``WriteConflict`` when it exists."""
        metadata = raw.get("metadata") or {}
        kind = self._needed(raw["apiVersion"], raw["kind"])
        path = kind.path(namespace=metadata.get("namespace") or "")
        return self._write("POST", path, raw, doing=f"create {_title(raw)}")

    def replace(self, raw: RawObject) -> RawObject:
        """The object as stored; raise ``WriteConflict`` when its resourceVersion is old."""
        ref = ObjectRef.of(raw)
        return self._write("PUT", self._path(ref), raw, doing=f"replace {ref}")

    def apply(self, raw: RawObject, *, dry_run: bool = False) -> RawObject:
        """The object after a forced server-side apply as field manager ``osm``."""
        ref = ObjectRef.of(raw)
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        if dry_run:
            query["dryRun"] = "All"
        metadata = {key: raw["metadata"][key] for key in raw["metadata"] if key != "managedFields"}
        question = Question(
            method="PATCH",
            path=self._path(ref),
            query=query,
            body={**raw, "metadata": metadata},
            content_type=_APPLY,
            accept=_answer_to_writes(ref.kind),
        )
        return _named(accepted(self._ask(question), f"apply {ref}"), raw["apiVersion"], ref.kind)

    def patch(self, ref: ObjectRef, patch: RawObject, *, strategic: bool = False) -> RawObject:
        """The object after a merge patch; raise ``NotFoundError``."""
        return self._patch(ref, self._path(ref), patch, _PATCHES[strategic])

    def patch_status(self, ref: ObjectRef, status: RawObject) -> RawObject:
        """The object whose status has these fields, through the subresource where there is one."""
        served = self._needed(ref.api_version, ref.kind)
        part = "status" if "status" in served.subresources else ""
        path = served.path(namespace=ref.namespace, name=ref.name, subresource=part)
        return self._patch(ref, path, {"status": status}, _PATCHES[False])

    def delete(self, ref: ObjectRef, *, uid: str = "") -> bool:
        """True when it was there; with ``uid`` only that very object is deleted."""
        served = self._served(ref.api_version, ref.kind)
        if served is None:
            return False
        options: RawObject = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
        }
        if uid:
            options["preconditions"] = {"uid": uid}
        path = served.path(namespace=ref.namespace, name=ref.name)
        accept = _answer_to_writes(ref.kind)
        answer = self._ask(Question(method="DELETE", path=path, body=options, accept=accept))
        if answer.is_missing or (uid and answer.is_conflict):
            return False
        accepted(answer, f"delete {ref}")
        return True

    def watch(
        self,
        api_version: str,
        kind: str,
        changed: Callable[[RawObject | None], None],
        *,
        namespace: str = "",
        name: str = "",
        labels: str = "",
    ) -> Watching:
        """``changed`` hears of each object that exists or changes, and None when one is gone."""
        selection = Selection(
            api_version=api_version, kind=kind, namespace=namespace, name=name, labels=labels
        )
        reflector = Reflector(self, lambda: selection, _Changes(changed), name=kind)
        reflector.start()
        return reflector

    # Feed

    def pages(self, selection: Selection, *, limit: int = PAGE) -> Iterator[Page]:
        """All objects; raise ``NotFoundError`` where the server lacks the kind."""
        doing = f"list {selection.kind}"
        for _ in range(_RESTARTS):
            further = ""
            while True:
                query = {"limit": str(limit)} | ({"continue": further} if further else {})
                answer = self._ask(self._asked_of(selection, query, as_list=True))
                if answer.is_expired:
                    break
                document = accepted(answer, doing)
                yield _page(document, selection, is_first=not further)
                further = document["metadata"].get("continue") or ""
                if not further:
                    return
        raise KubernetesError(f"{doing}: the list expired {_RESTARTS} times before its end")

    def changes(self, selection: Selection, version: str, *, seconds: float) -> Stream | Answer:
        """What happens after that version, or the refusal."""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(int(seconds)),
        }
        question = self._asked_of(selection, query, as_list=False)
        return self._http.stream(question, silence_seconds=seconds + _GRACE_SECONDS)

    def _asked_of(
        self, selection: Selection, query: Mapping[str, str], *, as_list: bool
    ) -> Question:
        served = self._needed(selection.api_version, selection.kind)
        chosen = {
            "labelSelector": selection.labels,
            "fieldSelector": selection.name and f"metadata.name={selection.name}",
        }
        accept = _METADATA.format("List" if as_list else "")
        return Question(
            path=served.path(namespace=selection.namespace),
            query={**query, **{key: value for key, value in chosen.items() if value}},
            accept=accept if selection.metadata_only else JSON,
        )

    # Parts

    def _served(self, api_version: str, kind: str) -> ServedKind | None:
        found = self._kinds.find(api_version, kind)
        if found is None:
            answer = self._ask(Question(path=group_path(api_version)))
            if answer.is_missing:
                return None
            served = parse_kinds(accepted(answer, f"discover {api_version}"), api_version)
            self._kinds.learn(api_version, served)
            found = served.get(kind)
        return found

    def _needed(self, api_version: str, kind: str) -> ServedKind:
        served = self._served(api_version, kind)
        if served is None:
            raise NotFoundError(f"the API server has no kind {kind} in {api_version}")
        return served

    def _path(self, ref: ObjectRef) -> str:
        served = self._needed(ref.api_version, ref.kind)
        return served.path(namespace=ref.namespace, name=ref.name)

    def _patch(self, ref: ObjectRef, path: str, patch: RawObject, content_type: str) -> RawObject:
        question = Question(
            method="PATCH",
            path=path,
            query={"fieldManager": FIELD_MANAGER},
            body=patch,
            content_type=content_type,
            accept=_answer_to_writes(ref.kind),
        )
        return _named(accepted(self._ask(question), f"patch {ref}"), ref.api_version, ref.kind)

    def _write(self, method: str, path: str, raw: RawObject, *, doing: str) -> RawObject:
        question = Question(
            method=method,
            path=path,
            query={"fieldManager": FIELD_MANAGER},
            body=raw,
            accept=_answer_to_writes(raw["kind"]),
        )
        return _named(accepted(self._ask(question), doing), raw["apiVersion"], raw["kind"])

    def _ask(self, question: Question) -> Answer:
        return self._http.ask(question, timeout_seconds=self._timeout_seconds)


class _KnownKinds:
    """What the server was found to serve; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[tuple[str, str], ServedKind] = {}

    def find(self, api_version: str, kind: str) -> ServedKind | None:
        """The kind where it was seen before."""
        with self._lock:
            return self._found.get((api_version, kind))

    def learn(self, api_version: str, served: Mapping[str, ServedKind]) -> None:
        """The server has these kinds in the version."""
        with self._lock:
            self._found.update({(api_version, name): entry for name, entry in served.items()})


class _Changes:
    """A ``Sink`` that tells objects to one function."""

    def __init__(self, changed: Callable[[RawObject | None], None]) -> None:
        self._changed = changed

    def put(self, raw: RawObject) -> None:
        """The object is new or has changed."""
        self._changed(raw)

    def gone(self, namespace: str, name: str) -> None:  # noqa: ARG002 which one is not told
        """The object is no more."""
        self._changed(None)

    def complete(self) -> None:
        """Nobody waits for that."""


def _page(document: RawObject, selection: Selection, *, is_first: bool) -> Page:
    """The items with the kind that a list leaves out, or that a metadata view replaces."""
    items = document.get("items") or []
    for item in items:
        item["apiVersion"], item["kind"] = selection.api_version, selection.kind
    version = document["metadata"].get("resourceVersion") or ""
    return Page(items=items, version=version, is_first=is_first)


def _answer_to_writes(kind: str) -> str:
    """What to ask for: a Secret's keys are nobody's business who only writes it."""
    return _METADATA.format("") if kind == _SECRET else JSON


def _named(raw: RawObject, api_version: str, kind: str) -> RawObject:
    """The answer as an object of its kind, where only the metadata was asked for."""
    if raw.get("kind") == _METADATA_VIEW:
        raw["apiVersion"], raw["kind"] = api_version, kind
    return raw


def _title(raw: RawObject) -> str:
    metadata = raw.get("metadata") or {}
    name = metadata.get("name") or metadata.get("generateName") or ""
    path = "/".join(part for part in (metadata.get("namespace"), name) if part)
    return f"{raw['kind']} {path}".strip()
