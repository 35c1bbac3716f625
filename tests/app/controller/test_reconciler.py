"""Objects of ours are restored; those that were taken from us are not."""

import math
from datetime import timedelta
from typing import Any

import pytest
from fakes.awaited import Awaited
from fakes.clock import FakeClock
from fakes.cluster import FakeCluster

from app.controller.reconciler import TRUCE_SECONDS, Kept, Reconciler
from app.errors import ForbiddenError, UnreachableError
from app.metrics import Metrics
from app.objects.meta import ObjectRef, RawObject

LABEL = "openservicemesh.io/reconcile"
VERSION = "app.kubernetes.io/version"
NAME = "app.kubernetes.io/name"
REF = ObjectRef(
    api_version="admissionregistration.k8s.io/v1",
    kind="MutatingWebhookConfiguration",
    name="osm-webhook-osm",
)


def wanted(*, name: str = REF.name, **labels: str) -> RawObject:
    return {
        "apiVersion": REF.api_version,
        "kind": REF.kind,
        "metadata": {
            "name": name,
            "labels": {LABEL: "true", VERSION: "2.0.0", NAME: "openservicemesh.io", **labels},
        },
        "webhooks": [{"name": "ours"}],
    }


def merge(current: RawObject | None) -> RawObject:
    goal = wanted(name=current["metadata"]["name"] if current else REF.name)
    if current is None:
        return goal
    labels = {**(current["metadata"].get("labels") or {}), **goal["metadata"]["labels"]}
    return {
        **current,
        "webhooks": goal["webhooks"],
        "metadata": {**current["metadata"], "labels": labels},
    }


def kept(ref: ObjectRef = REF, **fields: Any) -> Kept:
    return Kept(
        **{
            "ref": ref,
            "merge": merge,
            "altered_code": "E7002",
            "deleted_code": "E7003",
            "version": "2.0.0",
            **fields,
        }
    )


class Scene:
    """A reconciler of one object on a cluster in memory."""

    def __init__(self, *objects: RawObject) -> None:
        self.cluster = FakeCluster(*objects)
        self.metrics, self.clock = Metrics(), FakeClock()
        self.reconciler = self.another()

    def another(self) -> Reconciler:
        return Reconciler(self.cluster, [kept()], metrics=self.metrics, clock=self.clock.monotonic)

    def put(self, **changes: Any) -> None:
        self.cluster.put({**wanted(), **changes})

    @property
    def webhooks(self) -> Any:
        found = self.cluster.get(REF.kind, REF.name)
        return None if found is None else found["webhooks"]

    @property
    def count(self) -> float:
        return self.metrics.reconciliations.get(REF.kind)


OURS = [{"name": "ours"}]


def test_object_in_order_is_only_read() -> None:
    scene = Scene(wanted())
    assert scene.reconciler.check() is False
    assert {verb for verb, _ in scene.cluster.calls} == {"read"}
    assert (scene.count, scene.reconciler.problems()) == (0, ())


def test_altered_object_is_restored_and_counted() -> None:
    scene = Scene({**wanted(), "webhooks": [{"name": "theirs"}]})
    assert scene.reconciler.check() is True
    assert (scene.webhooks, scene.count) == (OURS, 1)


def test_deleted_object_is_made_again_and_counted() -> None:
    scene = Scene()
    assert scene.reconciler.check() is True
    assert (scene.webhooks, scene.count) == (OURS, 1)


def test_second_replica_finds_nothing_to_do() -> None:
    scene = Scene({**wanted(), "webhooks": []})
    assert [scene.reconciler.check(), scene.another().check()] == [True, False]
    assert scene.count == 1


# The way out


def released(**changes: Any) -> RawObject:
    raw = {**wanted(), **changes}
    del raw["metadata"]["labels"][LABEL]
    return raw


def test_object_without_our_label_is_left_alone_and_named() -> None:
    scene = Scene(released(webhooks=[]))
    assert scene.reconciler.check() is False
    assert (scene.webhooks, scene.count) == ([], 0)
    (problem,) = scene.reconciler.problems()
    assert problem == f"{REF} is left as it is: its label {LABEL} was removed"


def test_object_that_lost_our_label_before_it_was_deleted_stays_deleted() -> None:
    scene = Scene(released())
    scene.reconciler.check()
    scene.cluster.remove(REF.kind, REF.name)
    assert scene.reconciler.check() is False
    assert scene.webhooks is None


def test_object_with_its_label_back_is_kept_again() -> None:
    scene = Scene(released(webhooks=[]))
    scene.reconciler.check()
    scene.put(webhooks=[])
    assert scene.reconciler.check() is True
    assert (scene.webhooks, scene.reconciler.problems()) == (OURS, ())


class LosingLabel(FakeCluster):
    """Somebody takes the label off between our read and our write."""

    def replace(self, raw: RawObject) -> RawObject:
        if "replace" not in [verb for verb, _ in self.calls]:
            self.put(released(webhooks=[]))
        return super().replace(raw)


def test_label_that_goes_while_the_object_is_being_restored_counts() -> None:
    cluster = LosingLabel({**wanted(), "webhooks": []})
    assert Reconciler(cluster, [kept()], metrics=Metrics()).check() is False
    assert (cluster.get(REF.kind, REF.name) or {})["webhooks"] == []


# Other releases


def test_object_of_another_release_is_left_alone_for_the_time_of_a_rolling_update() -> None:
    scene = Scene({**wanted(**{VERSION: "2.1.0"}), "webhooks": []})
    scene.reconciler.check()
    scene.clock.advance(timedelta(seconds=TRUCE_SECONDS - 1))
    assert (scene.reconciler.check(), scene.webhooks) == (False, [])
    scene.clock.advance(timedelta(seconds=1))
    assert (scene.reconciler.check(), scene.webhooks) == (True, OURS)


def test_truce_begins_again_with_a_third_release() -> None:
    scene = Scene(wanted(**{VERSION: "2.1.0"}))
    scene.reconciler.check()
    scene.clock.advance(timedelta(seconds=TRUCE_SECONDS))
    scene.cluster.put({**wanted(**{VERSION: "2.2.0"}), "webhooks": []})
    assert (scene.reconciler.check(), scene.webhooks) == (False, [])


def test_label_of_the_release_that_is_gone_is_restored() -> None:
    raw = wanted()
    del raw["metadata"]["labels"][VERSION]
    scene = Scene(raw)
    assert scene.reconciler.check() is True
    found = scene.cluster.get(REF.kind, REF.name)
    assert found is not None
    assert found["metadata"]["labels"] == wanted()["metadata"]["labels"]


# Failures


def test_failure_is_a_problem_until_it_is_over() -> None:
    scene = Scene()
    scene.cluster.fail("create", ForbiddenError("may not create it"), times=math.inf)
    assert scene.reconciler.check() is True
    assert scene.reconciler.problems() == (
        "MutatingWebhookConfiguration osm-webhook-osm is not as it should be: may not create it",
    )
    scene.cluster.recover()
    assert scene.reconciler.check() is True
    assert (scene.webhooks, scene.reconciler.problems()) == (OURS, ())


def test_one_object_that_fails_does_not_keep_the_others_from_repair() -> None:
    scene = Scene()
    other = ObjectRef(api_version=REF.api_version, kind="ValidatingWebhookConfiguration", name="v")
    both = [
        kept(other, merge=lambda _: {**wanted(name="v"), "kind": other.kind}),
        kept(),
    ]
    scene.cluster.fail("create", ForbiddenError("no"), kind=other.kind, times=math.inf)
    assert Reconciler(scene.cluster, both, metrics=scene.metrics).check() is True
    assert scene.webhooks == OURS


# On its thread


@pytest.fixture
def running() -> Any:
    scene = Scene(wanted())
    scene.reconciler.start()
    yield scene
    scene.reconciler.stop()


def is_ours(raw: RawObject) -> bool:
    return bool(raw["webhooks"] == OURS)


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda scene: scene.put(webhooks=[]), id="altered"),
        pytest.param(lambda scene: scene.cluster.remove(REF.kind, REF.name), id="deleted"),
    ],
)
def test_running_reconciler_repairs_at_once(running: Scene, act: Any) -> None:
    seen = Awaited(running.cluster, REF, is_ours)
    act(running)
    assert seen.wait()


def test_running_reconciler_hears_of_the_label_before_the_deletion(running: Scene) -> None:
    running.cluster.put(released())
    running.cluster.remove(REF.kind, REF.name)
    running.reconciler.stop()
    assert running.reconciler.check() is False
    assert running.webhooks is None


def test_running_reconciler_tries_again_after_an_outage(running: Scene) -> None:
    seen = Awaited(running.cluster, REF, is_ours)
    running.cluster.fail("replace", UnreachableError("no answer"), times=1)
    running.put(webhooks=[])
    assert seen.wait()


def test_wake_has_everything_looked_at(running: Scene) -> None:
    seen = Awaited(running.cluster, REF, is_ours)
    running.cluster.objects[REF_IN_STORE]["webhooks"] = []
    running.reconciler.wake()
    assert seen.wait()


REF_IN_STORE = ObjectRef(api_version="admissionregistration.k8s.io", kind=REF.kind, name=REF.name)


def test_several_of_a_kind_share_one_watch() -> None:
    scene = Scene()
    refs = [ObjectRef(api_version=REF.api_version, kind=REF.kind, name=name) for name in "ab"]
    reconciler = Reconciler(scene.cluster, [kept(ref) for ref in refs], metrics=scene.metrics)
    reconciler.start()
    reconciler.start()
    reconciler.stop()
    assert [(watch.labels, watch.running) for watch in scene.cluster.watches] == [
        ("app.kubernetes.io/name=openservicemesh.io", False)
    ]


def test_reconciler_that_never_ran_stops() -> None:
    Scene().reconciler.stop()
