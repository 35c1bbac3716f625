from __future__ import annotations

import math
import threading
from datetime import timedelta
from typing import Any

import pytest
from fakes.clock import START, FakeClock
from fakes.cluster import FakeCluster

from app.controller.lease import LeaseKeeper, Seen, lease_ref, look, next_lease
from app.errors import UnreachableError, WriteConflict
from app.objects.meta import RawObject

REF = lease_ref("osm-system")
NOW = "2030-01-01T12:00:00.000000Z"
MINE = {"leaseDurationSeconds": 15, "renewTime": NOW, "holderIdentity": "me"}
TAKEN = {**MINE, "acquireTime": NOW}
OTHERS: RawObject = {
    "leaseDurationSeconds": 15,
    "renewTime": "2029-12-31T00:00:00.000000Z",
    "acquireTime": "2029-12-31T00:00:00.000000Z",
    "holderIdentity": "other",
    "leaseTransitions": 3,
}


@pytest.mark.parametrize(
    ("current", "seen", "wanted"),
    [
        pytest.param(None, None, {**TAKEN, "leaseTransitions": 0}, id="no-lease"),
        pytest.param({}, None, {**TAKEN, "leaseTransitions": 1}, id="empty-lease"),
        pytest.param(
            {**OTHERS, "holderIdentity": ""},
            None,
            {**TAKEN, "leaseTransitions": 4},
            id="given-back",
        ),
        pytest.param(OTHERS, None, None, id="never-seen-before"),
        pytest.param(OTHERS, Seen(spec=OTHERS, since=85.1), None, id="still-lasts"),
        pytest.param(
            OTHERS, Seen(spec=OTHERS, since=85.0), {**TAKEN, "leaseTransitions": 4}, id="ended"
        ),
        pytest.param(
            OTHERS, Seen(spec={**OTHERS, "renewTime": "earlier"}, since=0.0), None, id="renewed"
        ),
        pytest.param(
            {**OTHERS, "leaseDurationSeconds": 60},
            Seen(spec={**OTHERS, "leaseDurationSeconds": 60}, since=50.0),
            None,
            id="lasts-longer",
        ),
        pytest.param(
            {"holderIdentity": "other"},
            Seen(spec={"holderIdentity": "other"}, since=85.1),
            None,
            id="no-duration-is-ours",
        ),
        pytest.param(
            {**OTHERS, "holderIdentity": "me"},
            None,
            {**OTHERS, "holderIdentity": "me", "renewTime": NOW},
            id="mine",
        ),
    ],
)
def test_lease_is_taken_only_from_nobody(
    current: RawObject | None, seen: Seen | None, wanted: RawObject | None
) -> None:
    assert next_lease(current, seen, me="me", now=START, monotonic=100.0) == wanted


def test_lease_is_seen_since_it_changed() -> None:
    first = look(OTHERS, None, 1.0)
    assert look(dict(OTHERS), first, 2.0) == Seen(spec=OTHERS, since=1.0)
    renewed = {**OTHERS, "renewTime": NOW}
    assert look(renewed, first, 3.0) == Seen(spec=renewed, since=3.0)


class Desk:
    """Several keepers of one Lease; time passes for all of them."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.cluster = FakeCluster()

    def keeper(self, me: str) -> LeaseKeeper:
        return LeaseKeeper(self.cluster, self.clock, ref=REF, me=me, monotonic=self.clock.monotonic)

    def wait(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))

    def holder(self) -> Any:
        raw = self.cluster.get("Lease", "osm-controller", "osm-system")
        return None if raw is None else raw["spec"]["holderIdentity"]


def test_one_of_two_holds_the_lease() -> None:
    desk = Desk()
    first, second = desk.keeper("first"), desk.keeper("second")
    for _ in range(10):
        first.step()
        second.step()
        assert (first.held, second.held, desk.holder()) == (True, False, "first")
        desk.wait(5)


def test_holder_that_cannot_renew_steps_down_before_another_holds() -> None:
    desk = Desk()
    first, second = desk.keeper("first"), desk.keeper("second")
    first.step()
    desk.cluster.fail("read", UnreachableError("no API server"), times=math.inf)
    desk.wait(9.9)
    first.step()
    assert first.held
    desk.wait(0.1)
    assert not first.held
    desk.cluster.recover()
    held = []
    for _ in range(4):
        second.step()
        held.append((first.held, second.held))
        desk.wait(5)
    assert held == [(False, False), (False, False), (False, False), (False, True)]
    first.step()
    assert not first.held


def test_lease_that_is_given_back_is_taken_at_once() -> None:
    desk = Desk()
    first, second = desk.keeper("first"), desk.keeper("second")
    first.step()
    second.step()
    first.stop()
    assert (first.held, desk.holder()) == (False, "")
    second.step()
    assert (second.held, desk.holder()) == (True, "second")


def test_lease_of_another_is_not_given_back() -> None:
    desk = Desk()
    first, second = desk.keeper("first"), desk.keeper("second")
    first.step()
    second.step()
    second.stop()
    assert (first.held, desk.holder()) == (True, "first")


def test_lease_that_cannot_be_given_back_ends_by_itself() -> None:
    desk = Desk()
    first = desk.keeper("first")
    first.step()
    desk.cluster.fail("read", UnreachableError("no API server"))
    first.stop()
    assert not first.held


@pytest.mark.parametrize("verb", ["create", "replace"])
def test_who_writes_second_does_not_hold(verb: str) -> None:
    desk = Desk()
    if verb == "replace":
        desk.keeper("gone").step()
        desk.cluster.put({**_lease(), "spec": {**OTHERS, "holderIdentity": ""}})
    late = desk.keeper("late")
    desk.cluster.fail(verb, WriteConflict("another wrote it first"))
    late.step()
    assert not late.held
    late.step()
    assert late.held


def test_only_what_the_role_allows_is_asked() -> None:
    desk = Desk()
    keeper = desk.keeper("me")
    keeper.step()
    keeper.step()
    keeper.stop()
    assert {verb for verb, _ in desk.cluster.calls} == {"create", "read", "replace"}


def test_thread_keeps_the_lease_and_ends() -> None:
    desk = Desk()
    written = threading.Event()
    desk.cluster.watch("coordination.k8s.io/v1", "Lease", lambda _: written.set())
    keeper = desk.keeper("me")
    keeper.start()
    assert written.wait(5)
    keeper.stop()
    assert desk.holder() == ""
    assert not any(thread.name == "lease" for thread in threading.enumerate())


def _lease() -> RawObject:
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "osm-controller", "namespace": "osm-system"},
    }
