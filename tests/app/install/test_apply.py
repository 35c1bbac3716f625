"""Objects into a cluster, in order; the wait for a rollout; everything told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import factory
import pytest
from fakes.cluster import FakeCluster

from app.errors import ForbiddenError
from app.install.apply import apply_objects, in_order, wait_for_rollout
from app.install.status import Rollout
from app.objects.meta import ObjectRef, RawObject

NAMESPACE = factory.raw("Namespace", "osm-system")
ACCOUNT = factory.raw("ServiceAccount", "osm-system/osm")
DEPLOYMENT = factory.raw(
    "Deployment", "osm-system/osm-controller", api="apps/v1", spec={"replicas": 1}
)
CONTROLLER = ObjectRef.of(DEPLOYMENT)
READY = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}


def test_what_others_need_comes_first() -> None:
    scaler = factory.raw("HorizontalPodAutoscaler", "osm-system/a", api="autoscaling/v2")
    found = in_order([DEPLOYMENT, scaler, ACCOUNT, NAMESPACE])
    assert [raw["kind"] for raw in found] == [
        "Namespace",
        "ServiceAccount",
        "Deployment",
        "HorizontalPodAutoscaler",
    ]


def test_only_what_was_not_there_counts_as_created() -> None:
    cluster, told = FakeCluster(NAMESPACE), list[str]()
    applied = apply_objects(cluster, [DEPLOYMENT, NAMESPACE], told.append)
    assert applied.created == (CONTROLLER,)
    assert told == [f"applying {ObjectRef.of(raw)}" for raw in (NAMESPACE, DEPLOYMENT)]
    assert apply_objects(cluster, [DEPLOYMENT], told.append).created == ()


def test_a_refusal_ends_the_run() -> None:
    cluster = FakeCluster()
    cluster.fail("apply", ForbiddenError("you may not"), kind="ServiceAccount")
    with pytest.raises(ForbiddenError):
        apply_objects(cluster, [DEPLOYMENT, ACCOUNT, NAMESPACE], lambda _: None)
    assert cluster.get("Namespace", "osm-system") is not None
    assert cluster.get("Deployment", "osm-controller", "osm-system") is None


def test_fields_of_another_installer_become_ours_before_the_first_apply() -> None:
    written = {"manager": "helm", "operation": "Update", "fieldsV1": {"f:spec": {}}}
    cluster = FakeCluster(factory.raw("Service", "a/b", meta={"managedFields": [written]}))
    apply_objects(cluster, [factory.raw("Service", "a/b")], lambda _: None)
    assert [verb for verb, _ in cluster.calls] == ["read", "patch", "apply"]
    found = cluster.get("Service", "b", "a")
    assert found is not None
    assert [one["manager"] for one in found["metadata"]["managedFields"]] == ["osm"]


def test_the_owner_of_a_namespace_stays_its_owner() -> None:
    written = {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:metadata": {}}}
    cluster = FakeCluster(factory.raw("Namespace", "a", meta={"managedFields": [written]}))
    apply_objects(cluster, [factory.raw("Namespace", "a")], lambda _: None)
    assert [verb for verb, _ in cluster.calls] == ["read", "apply"]


class Script:
    """Each wait does the next thing to the cluster; there is no time left after the last."""

    def __init__(self, *steps: Callable[[], Any]) -> None:
        self._steps = list(steps)

    def __call__(self, changed: threading.Condition) -> bool:
        assert changed.acquire(blocking=False)
        changed.release()
        if not self._steps:
            return False
        self._steps.pop(0)()
        return True


def status(**fields: Any) -> RawObject:
    return {**DEPLOYMENT, "metadata": {**DEPLOYMENT["metadata"], "generation": 1}, "status": fields}


def test_the_wait_ends_when_all_replicas_are_there() -> None:
    cluster, told = FakeCluster(DEPLOYMENT), list[Rollout]()
    steps = (
        lambda: cluster.put(status(observedGeneration=1, replicas=1, updatedReplicas=1)),
        lambda: cluster.put(status(**READY)),
    )
    assert wait_for_rollout(cluster, CONTROLLER, told.append, Script(*steps))
    assert [str(rollout) for rollout in told] == [
        "0 of 1 replicas ready",
        "0 of 1 replicas ready",
        "1 of 1 replicas ready",
    ]
    assert [watch.running for watch in cluster.watches] == [False]


def test_the_wait_ends_when_time_is_over() -> None:
    cluster = FakeCluster(DEPLOYMENT)
    assert not wait_for_rollout(cluster, CONTROLLER, lambda _: None, Script())
    assert [watch.running for watch in cluster.watches] == [False]


def test_a_deployment_that_goes_away_is_not_ready() -> None:
    cluster, told = FakeCluster(status(**{**READY, "availableReplicas": 0})), list[Rollout]()
    gone = Script(lambda: cluster.remove("Deployment", "osm-controller", "osm-system"))
    assert not wait_for_rollout(cluster, CONTROLLER, told.append, gone)
    assert told[-1] == Rollout()
