"""An API server in a dictionary: raw objects of any kind, with resource versions and watches."""

from __future__ import annotations

import copy
import itertools
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from app.errors import NotFoundError, WriteConflict
from app.objects.meta import ObjectRef, RawObject
from app.objects.patch import merge_patch
from app.ports import ServerVersion

CREATED = "2026-01-01T00:00:00Z"
Changed = Callable[[RawObject | None], None]


@dataclass(kw_only=True)
class FakeWatch:
    """Implements ``Watching``; ``running`` is False once stopped."""

    api_version: str
    kind: str
    changed: Changed
    namespace: str
    name: str
    labels: str
    running: bool = True

    def stop(self) -> None:
        self.running = False

    def fits(self, raw: RawObject) -> bool:
        metadata = raw["metadata"]
        return (
            self.running
            and (group_of(self.api_version), self.kind)
            == (group_of(raw["apiVersion"]), raw["kind"])
            and self.namespace in ("", metadata.get("namespace", ""))
            and self.name in ("", metadata["name"])
            and has_labels(raw, self.labels)
        )


@dataclass(kw_only=True)
class Failure:
    """What the next calls of a verb raise."""

    verb: str
    error: Exception
    kind: str
    left: float


class FakeCluster:
    """Implements ``Cluster``; ``calls`` lists (verb, "Kind namespace/name") in order.

    ``changed`` of a watch is called on the thread that writes, after the write. An object is the
    same one in all versions of its group. CustomResourceDefinitions are established at once.
    """

    def __init__(
        self, *objects: RawObject, version: tuple[int, int] = (1, 20), unserved: Iterable[str] = ()
    ) -> None:
        """``unserved`` names what the server lacks: ``<apiVersion>`` or ``<apiVersion> <Kind>``."""
        self._lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._version = version
        self._failures: list[Failure] = []
        self.unserved = set(unserved)
        self.objects: dict[ObjectRef, RawObject] = {}
        self.calls: list[tuple[str, str]] = []
        self.watches: list[FakeWatch] = []
        self.reviews: dict[str, Callable[[RawObject], RawObject]] = {}
        """What ``create`` answers for kinds that are questions, such as TokenReview."""
        for raw in objects:
            self._store(copy.deepcopy(raw))

    # What tests do

    def fail(self, verb: str, error: Exception, *, kind: str = "", times: float = 1) -> None:
        """The next calls of the verb (on that kind) raise; ``math.inf``: until ``recover``."""
        self._failures.append(Failure(verb=verb, error=error, kind=kind, left=times))

    def recover(self) -> None:
        """No call fails any more."""
        self._failures.clear()

    def get(self, kind: str, name: str, namespace: str = "") -> RawObject | None:
        """A copy of the object whatever its group; no call is counted."""
        with self._lock:
            for ref, raw in self.objects.items():
                if (ref.kind, ref.namespace, ref.name) == (kind, namespace, name):
                    return copy.deepcopy(raw)
        return None

    def put(self, raw: RawObject) -> None:
        """Somebody else wrote the object; no call is counted, nothing fails."""
        self._tell(self._store(copy.deepcopy(raw)))

    def remove(self, kind: str, name: str, namespace: str = "") -> None:
        """Somebody else deleted the object."""
        raw = self.get(kind, name, namespace)
        assert raw is not None, f"{kind} {namespace}/{name} is not there"
        del self.objects[key_of(ObjectRef.of(raw))]
        self._tell(raw, gone=True)

    # Cluster

    def version(self) -> ServerVersion:
        self._begin("version", "")
        major, minor = self._version
        return ServerVersion(major=major, minor=minor, text=f"v{major}.{minor}.0")

    def serves(self, api_version: str, kind: str) -> bool:
        return not {api_version, f"{api_version} {kind}"} & self.unserved

    def read(self, ref: ObjectRef) -> RawObject | None:
        self._begin("read", ref.kind, str(ref))
        with self._lock:
            return copy.deepcopy(self.objects.get(key_of(ref)))

    def list(
        self,
        api_version: str,
        kind: str,
        *,
        namespace: str = "",
        labels: str = "",
        metadata_only: bool = False,
    ) -> list[RawObject]:
        self._begin("list", kind, f"{kind} {namespace}/")
        wanted = FakeWatch(
            api_version=api_version,
            kind=kind,
            changed=lambda _: None,
            namespace=namespace,
            name="",
            labels=labels,
        )
        with self._lock:
            found = [raw for _, raw in sorted(self.objects.items()) if wanted.fits(raw)]
            if metadata_only:
                kept = ("apiVersion", "kind", "metadata")
                found = [{field: raw[field] for field in kept} for raw in found]
            return copy.deepcopy(found)

    def create(self, raw: RawObject) -> RawObject:
        if raw["kind"] in self.reviews:
            self._begin("create", raw["kind"], raw["kind"])
            return self.reviews[raw["kind"]](copy.deepcopy(raw))
        raw = self._named(raw)
        ref = ObjectRef.of(raw)
        self._begin("create", ref.kind, str(ref))
        with self._lock:
            if key_of(ref) in self.objects:
                raise WriteConflict(f"{ref} exists already")
            stored = self._store(raw)
        self._tell(stored)
        return copy.deepcopy(stored)

    def replace(self, raw: RawObject) -> RawObject:
        ref = ObjectRef.of(raw)
        self._begin("replace", ref.kind, str(ref))
        with self._lock:
            old = self._present(ref)
            given = raw["metadata"].get("resourceVersion")
            if given and given != old["metadata"]["resourceVersion"]:
                raise WriteConflict(f"{ref} was changed by somebody else")
            stored = self._store(copy.deepcopy(raw))
        self._tell(stored)
        return copy.deepcopy(stored)

    def apply(self, raw: RawObject, *, dry_run: bool = False) -> RawObject:
        ref = ObjectRef.of(raw)
        self._begin("apply", ref.kind, str(ref))
        with self._lock:
            old = self.objects.get(key_of(ref), {})
            merged = merge_patch(old, copy.deepcopy(raw))
            if dry_run or merged == old:
                return copy.deepcopy(merged)
            stored = self._store(merged)
        self._tell(stored)
        return copy.deepcopy(stored)

    def patch(self, ref: ObjectRef, patch: RawObject, *, strategic: bool = False) -> RawObject:
        """A merge patch; a strategic one is taken for one, so give it no lists to merge."""
        del strategic
        self._begin("patch", ref.kind, str(ref))
        with self._lock:
            old = self._present(ref)
            merged = merge_patch(old, copy.deepcopy(patch))
            if merged == old:
                return copy.deepcopy(old)
            stored = self._store(merged)
        self._tell(stored)
        return copy.deepcopy(stored)

    def patch_status(self, ref: ObjectRef, status: RawObject) -> RawObject:
        """As ``KubeCluster`` has it besides the port."""
        return self.patch(ref, {"status": status})

    def delete(self, ref: ObjectRef, *, uid: str = "") -> bool:
        self._begin("delete", ref.kind, str(ref))
        with self._lock:
            raw = self.objects.get(key_of(ref))
            if raw is None or uid not in ("", raw["metadata"]["uid"]):
                return False
            del self.objects[key_of(ref)]
        self._tell(raw, gone=True)
        return True

    def watch(
        self,
        api_version: str,
        kind: str,
        changed: Changed,
        *,
        namespace: str = "",
        name: str = "",
        labels: str = "",
    ) -> FakeWatch:
        watch = FakeWatch(
            api_version=api_version,
            kind=kind,
            changed=changed,
            namespace=namespace,
            name=name,
            labels=labels,
        )
        with self._lock:
            self.watches.append(watch)
            found = [raw for _, raw in sorted(self.objects.items()) if watch.fits(raw)]
        for raw in found:
            changed(copy.deepcopy(raw))
        return watch

    # Parts

    def _begin(self, verb: str, kind: str, ref: str = "") -> None:
        with self._lock:
            self.calls.append((verb, ref))
            for failure in self._failures:
                if failure.verb == verb and failure.kind in ("", kind) and failure.left > 0:
                    failure.left -= 1
                    raise failure.error

    def _present(self, ref: ObjectRef) -> RawObject:
        raw = self.objects.get(key_of(ref))
        if raw is None:
            raise NotFoundError(f"{ref} does not exist")
        return raw

    def _named(self, raw: RawObject) -> RawObject:
        raw = copy.deepcopy(raw)
        prefix = raw["metadata"].get("generateName")
        if prefix:
            raw["metadata"].setdefault("name", f"{prefix}{next(self._numbers):05}")
        return raw

    def _store(self, raw: RawObject) -> RawObject:
        """The object is what a read gives from now on, its metadata completed."""
        ref, metadata = key_of(ObjectRef.of(raw)), raw["metadata"]
        old = self.objects.get(ref, {"metadata": {}})["metadata"]
        number = next(self._numbers)
        metadata["uid"] = old.get("uid") or metadata.get("uid") or f"uid-{number}"
        metadata["creationTimestamp"] = (
            old.get("creationTimestamp") or metadata.get("creationTimestamp") or CREATED
        )
        metadata["resourceVersion"] = str(number)
        if raw["kind"] == "CustomResourceDefinition":
            raw["status"] = {"conditions": [{"type": "Established", "status": "True"}]}
        self.objects[ref] = raw
        return raw

    def _tell(self, raw: RawObject, *, gone: bool = False) -> None:
        for watch in tuple(self.watches):
            if watch.fits(raw):
                watch.changed(None if gone else copy.deepcopy(raw))


def group_of(api_version: str) -> str:
    return api_version.rpartition("/")[0]


def key_of(ref: ObjectRef) -> ObjectRef:
    """The reference without the version of its group."""
    return ObjectRef(
        api_version=group_of(ref.api_version),
        kind=ref.kind,
        namespace=ref.namespace,
        name=ref.name,
    )


def has_labels(raw: RawObject, selector: str) -> bool:
    """True when each term (``a=b``, ``a!=b``, ``a``, ``!a``) of the selector holds."""
    labels = raw["metadata"].get("labels") or {}
    for term in filter(None, (part.strip() for part in selector.split(","))):
        name, separator, value = term.partition("=")
        if not separator:
            holds = name[1:] not in labels if name.startswith("!") else name in labels
        elif name.endswith("!"):
            holds = labels.get(name[:-1]) != value
        else:
            holds = labels.get(name) == value.removeprefix("=")
        if not holds:
            return False
    return True
