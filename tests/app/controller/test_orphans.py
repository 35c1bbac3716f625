from __future__ import annotations

from datetime import timedelta
from typing import Any

import factory
import pytest
from fakes.clock import START, FakeClock
from fakes.cluster import FakeCluster
from fakes.writer import FakeWriter

from app.controller.orphans import OrphanSweep, removal_in, removal_on_one_machine
from app.controller.secrets import BootstrapSecrets
from app.errors import UnreachableError
from app.events import Synced
from app.inject.secret import bootstrap_key
from app.metrics import Metrics
from app.objects.meta import ObjectKind, RawObject

UUID = factory.uuid_of("shop/cart")
KEY = bootstrap_key("shop", UUID)
TEN_MINUTES, HOUR = timedelta(minutes=10), timedelta(hours=1)
ALL_KINDS = Synced(kinds=frozenset(ObjectKind))


def secret(name: str = KEY.name, **meta: Any) -> RawObject:
    created = START.isoformat().replace("+00:00", "Z")
    labels = {"app.kubernetes.io/instance": "osm"}
    given = {"uid": "secret-1", "creationTimestamp": created, "labels": labels}
    return factory.raw("Secret", f"shop/{name}", meta={**given, **meta})


class Desk:
    """A cluster whose objects the source tells of, unless told otherwise."""

    def __init__(self, *objects: RawObject, told: tuple[RawObject, ...] | None = None) -> None:
        self.clock = FakeClock()
        self.cluster = FakeCluster(*objects)
        self.secrets = BootstrapSecrets(Metrics())
        for raw in objects if told is None else told:
            self.secrets.take(factory.changed(raw))
        self.secrets.take(ALL_KINDS)
        self.sweep = OrphanSweep(
            self.secrets, self.clock, mesh_name="osm", remove=removal_in(self.cluster)
        )

    def is_swept(self, after: timedelta = TEN_MINUTES) -> bool:
        self.clock.advance(after)
        assert self.sweep.step(lambda: True) is False
        return self.cluster.get("Secret", KEY.name, "shop") is None


def test_orphan_is_deleted() -> None:
    assert Desk(secret()).is_swept()


@pytest.mark.parametrize(
    ("objects", "told"),
    [
        pytest.param([secret(), factory.pod("shop/cart")], None, id="pod-is-known"),
        pytest.param(
            [secret(), factory.pod("shop/cart", phase="Succeeded")], None, id="finished-pod"
        ),
        pytest.param(
            [secret(), factory.pod("shop/cart")], (secret(),), id="pod-is-known-to-the-server-only"
        ),
        pytest.param(
            [secret(ownerReferences=[{"kind": "Pod", "name": "x", "uid": "x"}])], None, id="owned"
        ),
        pytest.param([secret(labels={"app.kubernetes.io/instance": "b"})], None, id="other-mesh"),
        pytest.param([secret(labels={})], None, id="no-mesh"),
        pytest.param([secret()], (secret(uid="of-an-earlier-one"),), id="made-anew"),
    ],
)
def test_what_may_be_needed_stays(
    objects: list[RawObject], told: tuple[RawObject, ...] | None
) -> None:
    assert not Desk(*objects, told=told).is_swept()


def test_young_secret_waits_for_its_pod() -> None:
    desk = Desk(secret())
    assert not desk.is_swept(TEN_MINUTES - timedelta(seconds=1))
    assert not desk.is_swept(HOUR - timedelta(seconds=1))
    assert desk.is_swept(timedelta(seconds=1))


def test_nothing_is_swept_before_all_pods_are_known() -> None:
    desk = Desk(secret())
    desk.secrets = BootstrapSecrets(Metrics())
    desk.secrets.take(factory.changed(secret()))
    desk.sweep = OrphanSweep(
        desk.secrets, desk.clock, mesh_name="osm", remove=removal_in(desk.cluster)
    )
    assert not desk.is_swept()
    desk.secrets.take(ALL_KINDS)
    assert desk.is_swept(timedelta(0))


def test_failure_holds_up_no_other_and_is_tried_an_hour_later() -> None:
    other = bootstrap_key("shop", factory.uuid_of("shop/other"))
    desk = Desk(secret(), secret(other.name, uid="secret-2"))
    desk.cluster.fail("list", UnreachableError("no API server"))
    first, second = sorted([KEY.name, other.name])
    desk.is_swept()
    left = [raw["metadata"]["name"] for raw in desk.cluster.list("v1", "Secret")]
    assert (left, second in left) == ([first], False)
    desk.is_swept(HOUR)
    assert desk.cluster.list("v1", "Secret") == []


def test_nothing_is_swept_once_that_is_anothers_task() -> None:
    desk = Desk(secret())
    desk.clock.advance(TEN_MINUTES)
    desk.sweep.step(lambda: False)
    assert desk.cluster.get("Secret", KEY.name, "shop") is not None
    assert desk.is_swept(timedelta(0))


def test_one_machine_deletes_by_name() -> None:
    writer = FakeWriter(secret())
    secrets = BootstrapSecrets(Metrics())
    secrets.take(factory.changed(secret()))
    (found,) = secrets.all()
    assert removal_on_one_machine(writer)(found) is True
    assert writer.objects == {}
