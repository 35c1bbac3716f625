"""Wanted Pods ↔ Pods there are: which to create and which to end now; pure.

Called by the kubelet after every change, with all Pods of one workload; the answer is the next
step, never the whole way. A rolling update keeps as many Pods ready as its pace says: an old one
ends only once a new one is ready. Source: the Kubernetes documentation of Deployment, StatefulSet
and Job.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.compute.declared import RawKey
from app.objects.meta import RawObject
from app.standalone.workloads import (
    TEMPLATE_ANNOTATION,
    WORKLOAD_ANNOTATION,
    Pace,
    Wanted,
    new_pod,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodState:
    """What a rollout needs to know of one Pod."""

    key: RawKey
    workload: str
    hash: str
    ready: bool = False
    ending: bool = False
    phase: str = "Pending"
    created: str = ""

    @property
    def finished(self) -> bool:
        """True when its containers have ended for good."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def number(self) -> int:
        """Its number among numbered Pods."""
        digits = self.key.name.rpartition("-")[2]
        return int(digits) if digits.isdigit() else -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What to do now; often nothing."""

    create: tuple[RawObject, ...] = ()
    remove: tuple[RawKey, ...] = ()


def pod_state(pod: RawObject) -> PodState:
    """The state of a Pod of this machine."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    annotations = metadata.get("annotations") or {}
    return PodState(
        key=RawKey.of(pod),
        workload=annotations.get(WORKLOAD_ANNOTATION, ""),
        hash=annotations.get(TEMPLATE_ANNOTATION, ""),
        ready=is_ready(pod),
        ending="deletionTimestamp" in metadata,
        phase=status.get("phase", "Pending"),
        created=metadata.get("creationTimestamp", ""),
    )


def is_ready(pod: RawObject) -> bool:
    """True when the Pod's condition ``Ready`` holds."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def next_steps(wanted: Wanted, pods: Sequence[PodState], suffix: Callable[[], str]) -> Steps:
    """What brings the workload's Pods nearer to what it wants; ``suffix`` gives fresh letters."""
    if wanted.retries is not None:
        return _job(wanted, pods, suffix)
    if wanted.is_numbered:
        return _numbered(wanted, pods)
    if wanted.key.kind == "Pod":
        return _bare(wanted, pods)
    return _equal(wanted, pods, suffix)


def orphans(pods: Sequence[PodState], workloads: Sequence[Wanted]) -> tuple[RawKey, ...]:
    """Pods whose workload is gone; those that are ending already are left out."""
    known = {str(wanted.key) for wanted in workloads}
    return tuple(pod.key for pod in pods if pod.workload not in known and not pod.ending)


def _equal(wanted: Wanted, pods: Sequence[PodState], suffix: Callable[[], str]) -> Steps:
    dead = [pod.key for pod in pods if pod.finished and not pod.ending]
    live = [pod for pod in pods if not pod.finished and not pod.ending]
    new = [pod for pod in live if pod.hash == wanted.hash]
    old = [pod for pod in live if pod.hash != wanted.hash]
    if wanted.pace is None:
        waits = [pod for pod in pods if pod.hash != wanted.hash]
        missing = 0 if waits else wanted.replicas - len(new)
        leaving = [*old, *_surplus(new, wanted.replicas)]
    else:
        room = wanted.replicas + wanted.pace.surge - len(live)
        missing = min(wanted.replicas - len(new), room if old else wanted.replicas)
        leaving = _leaving(wanted, wanted.pace, new=new, old=old)
    create = tuple(new_pod(wanted, suffix()) for _ in range(missing))
    return Steps(create=create, remove=(*dead, *(pod.key for pod in leaving)))


def _leaving(
    wanted: Wanted, pace: Pace, *, new: list[PodState], old: list[PodState]
) -> list[PodState]:
    """Pods that may end without fewer being ready than the pace allows; those not ready first."""
    surplus = _surplus(new, wanted.replicas)
    ready = sum(pod.ready for pod in (*new, *old) if pod not in surplus)
    spare = max(0, ready - (wanted.replicas - pace.unavailable))
    ready_old = sorted((pod for pod in old if pod.ready), key=_age)
    idle_old = [pod for pod in old if not pod.ready]
    return [*surplus, *idle_old, *ready_old[:spare]]


def _surplus(pods: list[PodState], replicas: int) -> list[PodState]:
    """The Pods beyond the wanted number: those not ready, then the youngest."""
    ordered = sorted(pods, key=lambda pod: (not pod.ready, _age(pod)))
    return ordered[replicas:]


def _age(pod: PodState) -> tuple[str, str]:
    return pod.created, pod.key.name


def _numbered(wanted: Wanted, pods: Sequence[PodState]) -> Steps:
    by_number = {pod.number: pod for pod in pods}
    create: list[RawObject] = []
    waiting = False
    for number in range(wanted.replicas):
        pod = by_number.get(number)
        if pod is None and not waiting:
            create.append(new_pod(wanted, str(number)))
        settled = pod is not None and pod.ready and not pod.ending
        waiting = waiting or (wanted.in_order and not settled)
    return Steps(create=tuple(create), remove=_numbered_leaving(wanted, pods, settled=not waiting))


def _numbered_leaving(
    wanted: Wanted, pods: Sequence[PodState], *, settled: bool
) -> tuple[RawKey, ...]:
    """Surplus Pods from the highest number down, then one that is out of date.

    In order one at a time.
    """
    if any(pod.ending for pod in pods) and wanted.in_order:
        return ()
    falling = sorted((p for p in pods if not p.ending), key=lambda pod: -pod.number)
    surplus = [pod for pod in falling if not 0 <= pod.number < wanted.replicas]
    if surplus:
        return tuple(pod.key for pod in (surplus[:1] if wanted.in_order else surplus))
    dead = [pod for pod in falling if pod.finished]
    stale = [pod for pod in falling if pod.hash != wanted.hash]
    # A stale Pod that is not ready may be the reason for the edit: it does not wait for others.
    broken = [pod for pod in stale if not pod.ready]
    ready_stale = stale[:1] if settled else []
    return tuple(pod.key for pod in (dead or broken or ready_stale)[:1])


def _bare(wanted: Wanted, pods: Sequence[PodState]) -> Steps:
    if not pods:
        return Steps(create=(new_pod(wanted, ""),))
    return Steps(remove=tuple(p.key for p in pods if p.hash != wanted.hash and not p.ending))


def _job(wanted: Wanted, pods: Sequence[PodState], suffix: Callable[[], str]) -> Steps:
    stale = tuple(pod.key for pod in pods if pod.hash != wanted.hash and not pod.ending)
    current = [pod for pod in pods if pod.hash == wanted.hash]
    failed = [pod for pod in current if pod.phase == "Failed"]
    alive = [pod for pod in current if pod.phase != "Failed"]
    given_up = len(failed) > (wanted.retries or 0)
    if alive or given_up or wanted.replicas == 0:
        return Steps(remove=stale)
    return Steps(create=(new_pod(wanted, suffix()),), remove=stale)
