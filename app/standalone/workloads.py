"""Workloads → the Pods they want; pure.

In comes an admitted Deployment, StatefulSet, Job or Pod as JSON; out goes a ``Wanted``: how many
Pods, from which template, how an update may proceed. ``rollout`` compares it with the Pods there
are, and ``new_pod`` makes one. Pods carry the owner that Kubernetes would give them (a ReplicaSet
for a Deployment), so the mesh derives the same workload labels (data-plane 5.8).
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from dataclasses import dataclass, field, replace

from app.compute.declared import RawKey
from app.objects.meta import RawObject
from app.standalone.specs import WORKLOADS, Deployment, Job, Pod, StatefulSet, Strategy, Workload

WORKLOAD_ANNOTATION = "standalone.openservicemesh.io/workload"
TEMPLATE_ANNOTATION = "standalone.openservicemesh.io/template-hash"
FOLDER_ANNOTATION = "standalone.openservicemesh.io/folder"
_HASH_LENGTH = 10
_API_VERSIONS = {kind: version for kind, (version, _) in WORKLOADS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How an update may proceed: Pods beyond the wanted number, and Pods fewer than it."""

    surge: int = 0
    unavailable: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The Pods one workload wants."""

    key: RawKey
    replicas: int
    template: RawObject = field(repr=False)
    """``metadata`` and ``spec`` of its Pods."""
    hash: str
    """Of the template; Pods with another one are out of date."""
    folder: str
    """Where its file stands: the working directory of containers that name none."""
    pace: Pace | None = None
    """None: old Pods end before new ones start."""
    in_order: bool = False
    """Each Pod waits for the one before to be ready."""
    subdomain: str = ""
    """Service in which numbered Pods have names of their own."""
    retries: int | None = None
    """Failed Pods after which a Job is given up; None: it is no Job."""

    @property
    def is_numbered(self) -> bool:
        """True when Pods are told apart by their number."""
        return self.key.kind == "StatefulSet"


def read_workload(raw: RawObject, folder: str) -> Wanted:
    """What an admitted workload wants; raises ``ValidationError`` for one that was not admitted."""
    workload: Workload = WORKLOADS[raw["kind"]][1].model_validate(raw)
    template = _template(raw, workload)
    wanted = Wanted(
        key=RawKey.of(raw),
        replicas=1,
        template=template,
        hash=_hash(template),
        folder=folder,
    )
    return _with_kind(wanted, workload)


def _with_kind(wanted: Wanted, workload: Workload) -> Wanted:
    match workload:
        case Deployment(spec=spec):
            pace = _pace(spec.strategy, spec.replicas)
            return replace(wanted, replicas=spec.replicas, pace=pace)
        case StatefulSet(spec=spec):
            in_order = spec.pod_management_policy == "OrderedReady"
            return replace(
                wanted,
                replicas=spec.replicas,
                in_order=in_order,
                subdomain=spec.service_name,
            )
        case Job(spec=spec):
            return replace(wanted, replicas=spec.parallelism, retries=spec.backoff_limit)
        case Pod():
            return wanted


def _template(raw: RawObject, workload: Workload) -> RawObject:
    if not isinstance(workload, Pod):
        template: RawObject = raw["spec"]["template"]
        return template
    metadata = raw["metadata"]
    kept = {name: metadata[name] for name in ("labels", "annotations") if metadata.get(name)}
    return {"metadata": kept, "spec": raw["spec"]}


def _hash(template: RawObject) -> str:
    canonical = json.dumps(template, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:_HASH_LENGTH]


def _pace(strategy: Strategy, replicas: int) -> Pace | None:
    """Surge is rounded up and unavailability down, as in Kubernetes; never are both zero."""
    if strategy.type == "Recreate":
        return None
    surge = _share(strategy.rolling_update.max_surge, replicas, up=True)
    unavailable = _share(strategy.rolling_update.max_unavailable, replicas, up=False)
    return Pace(surge=surge, unavailable=unavailable or (0 if surge else 1))


def _share(value: int | str, replicas: int, *, up: bool) -> int:
    if isinstance(value, int):
        return value
    share = replicas * int(value.removesuffix("%")) / 100
    return math.ceil(share) if up else math.floor(share)


def new_pod(wanted: Wanted, suffix: str) -> RawObject:
    """A Pod of the workload. ``suffix`` is its number, or random letters; no use for a bare Pod."""
    name = _pod_name(wanted, suffix)
    metadata = copy.deepcopy(wanted.template.get("metadata") or {})
    annotations = {
        **(metadata.get("annotations") or {}),
        WORKLOAD_ANNOTATION: str(wanted.key),
        TEMPLATE_ANNOTATION: wanted.hash,
        FOLDER_ANNOTATION: wanted.folder,
    }
    labels = {**(metadata.get("labels") or {}), **_labels(wanted, name)}
    pod: RawObject = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": wanted.key.namespace,
            "labels": labels,
            "annotations": annotations,
        },
        "spec": copy.deepcopy(wanted.template["spec"]),
        "status": {"phase": "Pending"},
    }
    if wanted.key.kind != "Pod":
        pod["metadata"]["ownerReferences"] = [_owner(wanted)]
    if wanted.is_numbered:
        pod["spec"]["hostname"] = name
        pod["spec"]["subdomain"] = wanted.subdomain
    return pod


def _pod_name(wanted: Wanted, suffix: str) -> str:
    match wanted.key.kind:
        case "Pod":
            return wanted.key.name
        case "Deployment":
            return f"{wanted.key.name}-{wanted.hash}-{suffix}"
        case _:
            return f"{wanted.key.name}-{suffix}"


def _labels(wanted: Wanted, name: str) -> dict[str, str]:
    match wanted.key.kind:
        case "Deployment":
            return {"pod-template-hash": wanted.hash}
        case "StatefulSet":
            return {
                "controller-revision-hash": f"{wanted.key.name}-{wanted.hash}",
                "statefulset.kubernetes.io/pod-name": name,
            }
        case "Job":
            return {"job-name": wanted.key.name, "batch.kubernetes.io/job-name": wanted.key.name}
        case _:
            return {}


def _owner(wanted: Wanted) -> RawObject:
    kind, name = wanted.key.kind, wanted.key.name
    if kind == "Deployment":
        kind, name = "ReplicaSet", f"{name}-{wanted.hash}"
    return {
        "apiVersion": _API_VERSIONS[wanted.key.kind],
        "kind": kind,
        "name": name,
        "uid": hashlib.sha256(f"{wanted.key}/{name}".encode()).hexdigest()[:32],
        "controller": True,
    }
