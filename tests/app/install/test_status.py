"""How far a Deployment is, and what its Pods say."""

from __future__ import annotations

from typing import Any

import factory
import pytest

from app.install.status import Rollout, pod_lines, rollout_of
from app.objects.meta import RawObject


def deployment(wanted: int | None = 1, generation: int = 1, **status: Any) -> RawObject:
    spec = {} if wanted is None else {"replicas": wanted}
    return factory.raw(
        "Deployment",
        "osm-system/osm-controller",
        api="apps/v1",
        meta={"generation": generation},
        spec=spec,
        status=status,
    )


@pytest.mark.parametrize(
    ("raw", "text", "done"),
    [
        pytest.param(deployment(), "0 of 1 replicas ready", False, id="just-made"),
        pytest.param(
            deployment(observedGeneration=1, replicas=1, updatedReplicas=1, availableReplicas=1),
            "1 of 1 replicas ready",
            True,
            id="ready",
        ),
        pytest.param(
            deployment(
                None, observedGeneration=1, replicas=1, updatedReplicas=1, availableReplicas=1
            ),
            "1 of 1 replicas ready",
            True,
            id="replicas-left-out",
        ),
        pytest.param(
            deployment(
                1, 2, observedGeneration=1, replicas=1, updatedReplicas=1, availableReplicas=1
            ),
            "1 of 1 replicas ready",
            False,
            id="status-of-the-old-template",
        ),
        pytest.param(
            deployment(2, observedGeneration=1, replicas=3, updatedReplicas=2, availableReplicas=2),
            "2 of 2 replicas ready, 1 old ones still there",
            False,
            id="old-one-still-ends",
        ),
        pytest.param(
            deployment(2, observedGeneration=1, replicas=2, updatedReplicas=2, availableReplicas=1),
            "1 of 2 replicas ready",
            False,
            id="one-missing",
        ),
        pytest.param(deployment(0, observedGeneration=1), "0 of 0 replicas ready", True, id="none"),
        pytest.param(
            deployment(
                observedGeneration=1,
                conditions=[
                    {"type": "Progressing", "status": "True", "message": "fine"},
                    {"type": "ReplicaFailure", "status": "True", "message": "quota exceeded"},
                ],
            ),
            "0 of 1 replicas ready: quota exceeded",
            False,
            id="pods-are-refused",
        ),
    ],
)
def test_a_rollout_is_read(raw: RawObject, text: str, done: bool) -> None:
    rollout = rollout_of(raw)
    assert (str(rollout), rollout.is_done) == (text, done)


def test_nothing_is_not_done() -> None:
    assert not Rollout().is_done


def test_pods_say_why_they_are_not_ready() -> None:
    pods = [
        factory.raw("Pod", "osm-system/b", status={"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"},
            {"type": "Ready", "status": "False"},
        ]}),
        factory.raw("Pod", "osm-system/a", status={"phase": "Running", "containerStatuses": [
            {"name": "osm-controller", "restartCount": 2, "state": {
                "waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}},
            {"name": "other", "restartCount": 0, "state": {"running": {}}},
        ]}),
        factory.raw("Pod", "osm-system/c"),
    ]  # fmt: skip
    events = [
        factory.raw(
            "Event",
            f"osm-system/{number}",
            type="Warning",
            reason="Failed",
            message=f"number {number}",
            involvedObject={"name": "a" if number else "other"},
            lastTimestamp=f"2026-01-01T00:00:{number:02}Z",
        )
        for number in range(12, -1, -1)
    ]
    assert pod_lines(pods, events) == (
        "Pod a: Running",
        "  container osm-controller: waiting (CrashLoopBackOff: back-off), restarted 2 times",
        "  container other: running",
        "Pod b: Pending",
        "  PodScheduled: 0/3 nodes are available",
        "Pod c: Unknown",
        *(f"  Warning of a: Failed: number {number}" for number in range(3, 13)),
    )
