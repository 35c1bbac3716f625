"""How far a Deployment is, and why its Pods do not start: read from raw status.

Pure; the CLI shows it while it waits and when the time is over. Source: Kubernetes, “Deployments”,
“Complete Deployment”.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from app.objects.meta import RawObject

_LAST_EVENTS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A Deployment on its way to its newest template."""

    wanted: int = 1
    new: int = 0
    """Replicas of the newest template."""
    old: int = 0
    available: int = 0
    is_seen: bool = False
    """False while the status is that of an earlier specification."""
    problem: str = ""
    """What keeps replicas from being made, in Kubernetes' words."""

    @property
    def is_done(self) -> bool:
        """True when every replica is new and available."""
        return (
            self.is_seen and self.new >= self.wanted and self.old == 0
        ) and self.available >= self.wanted

    def __str__(self) -> str:
        text = f"{self.available} of {self.wanted} replicas ready"
        if self.old:
            text += f", {self.old} old ones still there"
        return f"{text}: {self.problem}" if self.problem else text


def rollout_of(raw: RawObject) -> Rollout:
    """How far the Deployment is."""
    status, spec = raw.get("status") or {}, raw.get("spec") or {}
    updated = status.get("updatedReplicas") or 0
    failures = [
        condition.get("message") or condition.get("reason") or ""
        for condition in status.get("conditions") or ()
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True"
    ]
    return Rollout(
        wanted=1 if spec.get("replicas") is None else spec["replicas"],
        new=updated,
        old=max(0, (status.get("replicas") or 0) - updated),
        available=status.get("availableReplicas") or 0,
        is_seen=(status.get("observedGeneration") or 0) >= raw["metadata"].get("generation", 1),
        problem=failures[0] if failures else "",
    )


def pod_lines(pods: Iterable[RawObject], events: Iterable[RawObject]) -> tuple[str, ...]:
    """What is known of Pods that do not get ready: state per container, then the last events."""
    found = sorted(pods, key=lambda raw: raw["metadata"]["name"])
    names = {raw["metadata"]["name"] for raw in found}
    lines = [line for raw in found for line in _pod(raw)]
    about = [raw for raw in events if (raw.get("involvedObject") or {}).get("name") in names]
    about.sort(key=lambda raw: raw.get("lastTimestamp") or raw.get("eventTime") or "")
    return (*lines, *(_event(raw) for raw in about[-_LAST_EVENTS:]))


def _pod(raw: RawObject) -> Iterator[str]:
    status = raw.get("status") or {}
    name = raw["metadata"]["name"]
    yield f"Pod {name}: {status.get('phase') or 'Unknown'}{_why(status)}"
    for condition in status.get("conditions") or ():
        if condition.get("status") != "True" and condition.get("message"):
            yield f"  {condition['type']}: {condition['message']}"
    for container in (
        *(status.get("initContainerStatuses") or ()),
        *(status.get("containerStatuses") or ()),
    ):
        for state, more in (container.get("state") or {}).items():
            restarts = container.get("restartCount") or 0
            again = f", restarted {restarts} times" if restarts else ""
            yield f"  container {container['name']}: {state}{_why(more)}{again}"


def _why(found: RawObject) -> str:
    words = [str(found[key]) for key in ("reason", "message") if found.get(key)]
    return f" ({': '.join(words)})" if words else ""


def _event(raw: RawObject) -> str:
    about = raw["involvedObject"]["name"]
    return f"  {raw.get('type') or 'Event'} of {about}: {raw.get('reason')}: {raw.get('message')}"
