"""Custom resource definitions: read from files, written to the API server, never made older.

``Registration`` applies them at the start and, where asked for, keeps them. Whoever finds the
definitions of an original installation overwrites them, a conversion webhook that nobody answers
any more included. Specification: kubernetes-surface 1.0, 1.2, 6.5.
"""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from app import logs
from app.controller.settle import Merge, settle
from app.errors import KubernetesError, SettingError
from app.install.manifests import find_manifests
from app.objects.meta import ObjectRef, RawObject
from app.ports import Cluster

API_VERSION = "apiextensions.k8s.io/v1"
KIND = "CustomResourceDefinition"
RECONCILE_LABEL = "openservicemesh.io/reconcile"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
ESTABLISHED_SECONDS = 30.0
_PAUSE_SECONDS = 0.1


def load_crds(manifests: Path | None = None) -> tuple[RawObject, ...]:
    """The definitions in ``crds/*.yaml`` of the manifests, by default those of this release.

    Sorted by file. Raise ``SettingError`` where one cannot be read, or there is none.
    """
    folder = find_manifests(manifests) / "crds"
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise SettingError(f"OSM_MANIFESTS_DIR: there are no definitions (*.yaml) in {folder}")
    return tuple(_load_crd(file) for file in files)


def apply_crds(
    cluster: Cluster,
    crds: Iterable[RawObject],
    *,
    version: str,
    timeout_seconds: float = ESTABLISHED_SECONDS,
) -> None:
    """The API server serves these definitions; those that are there already are not written.

    Raises ``KubernetesError`` when one is refused or not served in time. Several replicas may do it
    at once.
    """
    deadline = time.monotonic() + timeout_seconds
    log = logs.logger("registration")
    wanted = tuple(crds)
    for crd in wanted:
        ref = ObjectRef.of(crd)
        _await_end(cluster, ref, deadline)
        if settle(cluster, ref, crd_merge(crd, version=version)):
            log.info("definition written", name=ref.name)
    for crd in wanted:
        _await_established(cluster, ObjectRef.of(crd), deadline)


def crd_merge(crd: RawObject, *, version: str) -> Merge:
    """What becomes of the definition that is there, if any: the given one, stamped."""

    def merge(current: RawObject | None) -> RawObject:
        if current is None:
            return _stamped(copy.deepcopy(crd), crd, version)
        if is_newer(stamp_of(current), version):
            return current
        merged = copy.deepcopy(current)
        merged["spec"] = _with_stored_versions(crd["spec"], current)
        annotations = current["metadata"].get("annotations") or {}
        if merged["spec"] == current["spec"] and LAST_APPLIED in annotations:
            return _labelled(merged, crd, version)
        return _stamped(merged, crd, version)

    return merge


def stamp_of(crd: RawObject) -> str:
    """The release that wrote the definition last; empty where none says so."""
    labels: dict[str, str] = crd["metadata"].get("labels") or {}
    return labels.get(RECONCILE_LABEL, "")


def is_newer(stamp: str, version: str) -> bool:
    """True when the stamp is of a later release than the version; unclear ones are not."""
    theirs, ours = _release(stamp), _release(version)
    return bool(theirs and ours) and theirs > ours


def last_applied(raw: RawObject) -> str:
    """What ``kubectl apply`` would note, so that a user's next one neither warns nor removes."""
    noted = copy.deepcopy(raw)
    noted["metadata"].setdefault("annotations", {})
    return json.dumps(noted, sort_keys=True, separators=(",", ":")) + "\n"


def _load_crd(file: Path) -> RawObject:
    try:
        raw = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingError(f"OSM_MANIFESTS_DIR: {file} cannot be read: {error}") from error
    if not isinstance(raw, dict) or raw.get("kind") != KIND:
        raise SettingError(f"OSM_MANIFESTS_DIR: {file} must hold one {KIND}")
    return raw


def _labelled(raw: RawObject, crd: RawObject, version: str) -> RawObject:
    own = crd["metadata"].get("labels") or {}
    labels = raw["metadata"].get("labels") or {}
    raw["metadata"]["labels"] = {**labels, **own, RECONCILE_LABEL: version}
    return raw


def _stamped(raw: RawObject, crd: RawObject, version: str) -> RawObject:
    """The stamp itself is not noted: kubectl would remove it for those who apply the file."""
    annotations = raw["metadata"].get("annotations") or {}
    raw["metadata"]["annotations"] = {**annotations, LAST_APPLIED: last_applied(crd)}
    return _labelled(raw, crd, version)


def _with_stored_versions(spec: dict[str, Any], current: RawObject) -> dict[str, Any]:
    """The wanted definition, and versions of stored objects it does not know: not served any more.

    Without them the API server refuses the definition, since it could not read those objects.
    """
    known = {version["name"] for version in spec["versions"]}
    stored = set((current.get("status") or {}).get("storedVersions") or ()) - known
    kept = [
        {**version, "served": False, "storage": False}
        for version in current["spec"].get("versions") or ()
        if version["name"] in stored
    ]
    return {**copy.deepcopy(spec), "versions": [*copy.deepcopy(spec["versions"]), *kept]}


def _await_end(cluster: Cluster, ref: ObjectRef, deadline: float) -> None:
    """A definition that is being deleted is gone: what is written to it would go with it."""
    while True:
        current = cluster.read(ref)
        if current is None or not current["metadata"].get("deletionTimestamp"):
            return
        _pause(deadline, f"{ref} is still being deleted; delete its objects, or wait")


def _await_established(cluster: Cluster, ref: ObjectRef, deadline: float) -> None:
    while True:
        conditions = _conditions(cluster.read(ref))
        if conditions.get("Established", {}).get("status") == "True":
            return
        why = conditions.get("NamesAccepted", {}).get("message") or "it gives no reason"
        _pause(deadline, f"the API server does not serve {ref}: {why}")


def _conditions(crd: RawObject | None) -> dict[str, dict[str, Any]]:
    status = (crd or {}).get("status") or {}
    return {condition["type"]: condition for condition in status.get("conditions") or ()}


def _pause(deadline: float, sentence: str) -> None:
    if time.monotonic() >= deadline:
        raise KubernetesError(sentence)
    threading.Event().wait(_PAUSE_SECONDS)


def _release(version: str) -> tuple[int, ...]:
    """``v2.1.0-rc.1`` as (2, 1, 0); empty for what is no version. Pre-releases count as theirs."""
    numbers: list[int] = []
    for part in version.removeprefix("v").split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if digits:
            numbers.append(int(digits))
        if digits != part:
            break
    return tuple(numbers)
