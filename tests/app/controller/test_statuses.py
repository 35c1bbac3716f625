"""Statuses say whether objects are in force, and are written when that changes."""

from __future__ import annotations

import factory
from fakes.writer import FakeWriter, key_of

from app.controller.statuses import COMMITTED, MAX_WRITES, Statuses
from app.errors import KubernetesError
from app.events import ObjectDeleted
from app.mesh.refresh import LiveMesh, MeshScope
from app.mesh.snapshot import MeshSnapshot
from app.objects.meta import RawObject
from xds.policy.identity import Issuers

WORLD = (factory.namespace("shop"), factory.service("shop/web"), factory.service("shop/api"))
GOOD = factory.traffic_setting("shop/good", meta=factory.created(1))
SECOND = factory.traffic_setting("shop/second", meta=factory.created(2))
OTHER = factory.traffic_setting("shop/other", host="api.shop")
IN_FORCE = {"currentStatus": "committed", "reason": COMMITTED}
TAKEN = {
    "currentStatus": "error",
    "reason": (
        "spec.host: Service shop/web has UpstreamTrafficSetting shop/good already, which is older "
        "or comes first by name: delete one"
    ),
}


class Desk:
    """A mesh whose objects are in a cluster that takes statuses."""

    def __init__(self, *objects: RawObject) -> None:
        self.writer = FakeWriter(*objects)
        self.mesh = LiveMesh(MeshScope(), Issuers())
        self.snapshot: MeshSnapshot | None = self.mesh.refresh(
            [factory.changed(raw) for raw in (*WORLD, *objects)]
        )
        self.job = Statuses(lambda: self.snapshot, patch_status=self.writer.patch_status)

    def step(self) -> bool:
        return self.job.step(lambda: True)

    def status(self, raw: RawObject) -> RawObject | None:
        found: RawObject | None = self.writer.objects[key_of(raw)].get("status")
        return found


def test_statuses_say_what_is_in_force_and_why_not() -> None:
    desk = Desk(GOOD, SECOND, OTHER, factory.retry("shop/r"))
    assert desk.step() is False
    assert [desk.status(raw) for raw in (GOOD, SECOND, OTHER)] == [IN_FORCE, TAKEN, IN_FORCE]
    assert len(desk.writer.calls) == 3


def test_way_in_that_has_a_source_without_endpoints_is_an_error() -> None:
    gateway = {"kind": "Service", "name": "gone", "namespace": "shop"}
    anybody = {"kind": "IPRange", "name": "10.0.0.0/8"}
    good = factory.ingress_backend("shop/good", ("web", 8080), sources=[anybody])
    wrong = factory.ingress_backend("shop/wrong", ("api", 8080), sources=[gateway])
    flag = factory.mesh_config(featureFlags={"enableIngressBackendPolicy": True})
    desk = Desk(good, wrong)
    desk.snapshot = desk.mesh.refresh([factory.changed(flag)])
    desk.step()
    reason = "spec.sources[0].name: endpoints not found for service shop/gone"
    assert desk.status(good) == IN_FORCE
    assert desk.status(wrong) == {"currentStatus": "error", "reason": reason}


def test_status_is_written_when_it_changes_and_not_again() -> None:
    desk = Desk(GOOD, SECOND)
    desk.step()
    desk.step()
    assert len(desk.writer.calls) == 2
    desk.snapshot = desk.mesh.refresh([ObjectDeleted(key=key_of(GOOD))])
    desk.step()
    assert (desk.status(SECOND), len(desk.writer.calls)) == (IN_FORCE, 3)


def test_later_object_of_the_same_name_has_its_own_status() -> None:
    desk = Desk(GOOD)
    desk.step()
    again = GOOD | {"metadata": GOOD["metadata"] | {"uid": "another"}}
    desk.writer.objects[key_of(again)] = again
    desk.snapshot = desk.mesh.refresh([factory.changed(again)])
    desk.step()
    assert desk.status(again) == IN_FORCE


def test_nothing_is_written_before_there_is_a_snapshot() -> None:
    desk = Desk(GOOD)
    desk.snapshot = None
    assert desk.step() is False
    assert desk.writer.calls == []


def test_failure_is_tried_again_and_holds_up_no_other() -> None:
    desk = Desk(GOOD, OTHER)
    desk.writer.failing["patch"] = KubernetesError("the API server says no")
    assert desk.step() is False
    desk.writer.failing.clear()
    desk.step()
    assert [desk.status(raw) for raw in (GOOD, OTHER)] == [IN_FORCE, IN_FORCE]


def test_object_that_is_gone_is_not_asked_for_again() -> None:
    desk = Desk(GOOD)
    del desk.writer.objects[key_of(GOOD)]
    desk.step()
    desk.step()
    assert len(desk.writer.calls) == 1


def test_many_statuses_are_written_step_by_step() -> None:
    hosts = [
        factory.traffic_setting(f"shop/s{n}", host=f"{n}.example") for n in range(MAX_WRITES + 1)
    ]
    desk = Desk(*hosts)
    assert desk.step() is True
    assert len(desk.writer.calls) == MAX_WRITES
    assert desk.step() is False
    assert len(desk.writer.calls) == MAX_WRITES + 1
    stopped = Desk(GOOD)
    assert stopped.job.step(lambda: False) is True
