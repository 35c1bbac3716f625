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
from app.events import ObjectDeleted, Synced
from app.inject.secret import bootstrap_key
from app.metrics import Metrics
from app.objects.meta import ObjectKey, ObjectKind, RawObject

UUID = factory.uuid_of("shop/cart")
KEY = bootstrap_key("shop", UUID)
TWO_MINUTES, TEN_MINUTES, HOUR = timedelta(minutes=2), timedelta(minutes=10), timedelta(hours=1)
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
        self.sweep = self.new_sweep()

    def new_sweep(self) -> OrphanSweep:
        return OrphanSweep(
            self.secrets,
            self.clock,
            mesh_name="osm",
            remove=removal_in(self.cluster),
            monotonic=self.clock.monotonic,
        )

    def is_swept(self, after: timedelta = TEN_MINUTES, *, look_again: bool = True) -> bool:
        """Whether it is gone after that time, two minutes after it was found."""
        for pause in (after, TWO_MINUTES) if look_again else (after,):
            self.clock.advance(pause)
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
    assert not desk.is_swept(TEN_MINUTES - timedelta(seconds=1), look_again=False)
    assert not desk.is_swept(HOUR - timedelta(seconds=1))
    assert desk.is_swept(timedelta(seconds=1))


def test_clock_that_jumps_takes_no_secret_from_a_pod_that_is_being_made() -> None:
    desk = Desk(secret())
    desk.is_swept(TWO_MINUTES)
    desk.clock.jump(HOUR)
    assert not desk.is_swept(HOUR, look_again=False)
    desk.cluster.put(factory.pod("shop/cart"))
    desk.secrets.take(factory.changed(factory.pod("shop/cart")))
    assert not desk.is_swept(HOUR)


def test_secret_that_has_a_pod_at_the_second_look_was_never_an_orphan() -> None:
    desk = Desk(secret())
    assert not desk.is_swept(look_again=False)
    desk.secrets.take(factory.changed(factory.pod("shop/cart")))
    assert not desk.is_swept(HOUR)
    desk.secrets.take(
        ObjectDeleted(key=ObjectKey(kind=ObjectKind.POD, namespace="shop", name="cart"))
    )
    assert not desk.is_swept(HOUR, look_again=False)
    assert desk.is_swept(TWO_MINUTES, look_again=False)


def test_orphans_that_keep_coming_do_not_put_off_the_end_of_others() -> None:
    others = [bootstrap_key("shop", factory.uuid_of(f"shop/{n}")).name for n in range(20)]
    desk = Desk(secret())
    desk.is_swept(TEN_MINUTES, look_again=False)
    for name in others:
        desk.secrets.take(factory.changed(secret(name, uid=name)))
        if desk.is_swept(timedelta(minutes=1), look_again=False):
            break
    assert desk.clock.monotonic() == 720.0


def test_nothing_is_swept_before_all_pods_are_known() -> None:
    desk = Desk(secret())
    desk.secrets = BootstrapSecrets(Metrics())
    desk.secrets.take(factory.changed(secret()))
    desk.sweep = desk.new_sweep()
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
    for pause in (TEN_MINUTES, TWO_MINUTES):
        desk.clock.advance(pause)
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
