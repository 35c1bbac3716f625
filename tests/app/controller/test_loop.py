from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import cast

import pytest
from fakes.clock import FakeClock

from app.controller.loop import WATCHED_KINDS, MeshLoop, MeshState, Pace
from app.events import (
    CertificatesIssued,
    ObjectChanged,
    ObjectDeleted,
    ObjectEvent,
    ProxyConnected,
    ProxyGone,
    SourceChecked,
    Synced,
)
from app.mesh.snapshot import MeshSnapshot
from app.metrics import Metrics
from app.objects.meta import KubeObject, ObjectKey, ObjectKind
from xds.policy.identity import ProxyId, ServiceIdentity
from xds.policy.proxy import SecretTable, TrustBundle

SECRETS = SecretTable(trust=TrustBundle(roots=b"roots"), workloads={})


def changed(kind: ObjectKind, name: str) -> ObjectChanged:
    key = ObjectKey(kind=kind, namespace="shop", name=name)
    return ObjectChanged(key=key, object=KubeObject(), where=str(key))


def proxy(number: int) -> ProxyId:
    identity = ServiceIdentity(namespace="shop", service_account="a")
    return ProxyId(uuid=f"00000000-0000-4000-8000-{number:012}", identity=identity)


POD = changed(ObjectKind.POD, "pod")
SERVICE = changed(ObjectKind.SERVICE, "svc")
ENDPOINTS = changed(ObjectKind.ENDPOINTS, "svc")
SLICE = changed(ObjectKind.ENDPOINT_SLICE, "svc-1")


class FakeMesh:
    """Each refresh gives a new snapshot, unless ``still``."""

    def __init__(self) -> None:
        self.batches: list[list[ObjectEvent]] = []
        self.still = False
        self.error: Exception | None = None
        self._last = cast("MeshSnapshot", object())

    def refresh(self, events: Iterable[ObjectEvent]) -> MeshSnapshot:
        self.batches.append(list(events))
        if self.error is not None:
            raise self.error
        if not self.still:
            self._last = cast("MeshSnapshot", object())
        return self._last


class Desk:
    """A loop with a fake mesh and clock; turned by hand."""

    def __init__(self, *, synced: bool = True) -> None:
        self.clock = FakeClock()
        self.mesh = FakeMesh()
        self.states: list[MeshState] = []
        self.error: Exception | None = None
        self.heard = threading.Condition()
        self.resync_seconds = 0.0
        self.resynced: list[float] = []
        """When all was published anew."""
        self.seen: list[MeshSnapshot] = []
        self.metrics = Metrics()
        self.loop = MeshLoop(
            self.mesh,
            self,
            metrics=self.metrics,
            pace=Pace(monotonic=self.clock.monotonic),
            on_snapshot=self.seen.append,
            resync_seconds=lambda: self.resync_seconds,
        )
        if synced:
            self.tell(Synced(kinds=WATCHED_KINDS))
            self.mesh.batches.clear()
            self.states.clear()
            self.seen.clear()

    def publish(self, state: MeshState, *, anew: bool) -> None:
        if self.error is not None:
            raise self.error
        if anew:
            self.resynced.append(self.clock.monotonic())
        with self.heard:
            self.states.append(state)
            self.heard.notify_all()

    def tell(self, *events: object, after_ms: int = 0) -> None:
        self.clock.advance(timedelta(milliseconds=after_ms))
        for event in events:
            self.loop.post(event)  # type: ignore[arg-type]
        self.loop.turn(wait=False)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self.heard:
            assert self.heard.wait_for(condition, timeout=5)


def test_nothing_happens_before_every_kind_is_synced() -> None:
    desk = Desk(synced=False)
    desk.tell(SERVICE, POD, ENDPOINTS, after_ms=5000)
    desk.tell(Synced(kinds=WATCHED_KINDS - {ObjectKind.POD}), after_ms=5000)
    assert (desk.mesh.batches, desk.states, desk.loop.snapshot) == ([], [], None)
    assert desk.loop.waiting_for() == ("Pod",)
    desk.tell(Synced(kinds=frozenset([ObjectKind.POD])))
    assert desk.mesh.batches == [[SERVICE, POD, ENDPOINTS]]
    assert [state.snapshot for state in desk.states] == [desk.loop.snapshot] == desk.seen
    assert desk.loop.synced.is_set()
    assert desk.loop.waiting_for() == ()


def test_empty_mesh_is_synced_too() -> None:
    desk = Desk(synced=False)
    desk.tell(Synced(kinds=WATCHED_KINDS))
    assert desk.mesh.batches == [[]]
    assert len(desk.states) == 1


def test_object_changes_apply_together_when_they_pause() -> None:
    desk = Desk()
    desk.tell(SERVICE)
    desk.tell(POD, after_ms=49)
    desk.tell(after_ms=49)
    assert desk.mesh.batches == []
    desk.tell(after_ms=1)
    assert desk.mesh.batches == [[SERVICE, POD]]
    assert len(desk.states) == 1
    assert desk.metrics.broadcasts.get() == 1


def test_storm_of_changes_applies_after_the_longest_wait() -> None:
    desk = Desk()
    for _ in range(25):
        desk.tell(SERVICE, after_ms=40)
    assert desk.mesh.batches == []
    desk.tell(SERVICE, after_ms=40)
    assert [len(batch) for batch in desk.mesh.batches] == [26]


@pytest.mark.parametrize(
    "urgent",
    [
        pytest.param(ENDPOINTS, id="endpoints"),
        pytest.param(SLICE, id="slice"),
        pytest.param(ObjectDeleted(key=ENDPOINTS.key), id="endpoints-deleted"),
    ],
)
def test_endpoints_overtake_a_storm(urgent: ObjectEvent) -> None:
    desk = Desk()
    desk.tell(SERVICE)
    desk.tell(urgent, after_ms=10)
    assert desk.mesh.batches == [[urgent]]
    desk.tell(after_ms=40)
    assert desk.mesh.batches == [[urgent], [SERVICE]]


def test_events_that_queued_up_are_one_publication() -> None:
    desk = Desk()
    desk.tell(ENDPOINTS, SLICE, ProxyConnected(proxy=proxy(1)), ProxyConnected(proxy=proxy(2)))
    assert desk.mesh.batches == [[ENDPOINTS, SLICE]]
    assert [state.connected for state in desk.states] == [{proxy(1), proxy(2)}]


def test_connects_and_certificates_apply_at_once() -> None:
    desk = Desk()
    desk.tell(ProxyConnected(proxy=proxy(1)), after_ms=50)
    desk.tell(SERVICE)
    desk.tell(CertificatesIssued(secrets=SECRETS))
    desk.tell(ProxyGone(proxy=proxy(1)), after_ms=49)
    desk.tell(after_ms=1)
    seen = [(state.secrets, set(state.connected)) for state in desk.states]
    assert seen[:2] == [(None, {proxy(1)}), (SECRETS, {proxy(1)})]
    assert seen[-1] == (SECRETS, set())


def test_crowd_of_proxies_is_one_publication_and_its_first_waits_for_nobody() -> None:
    desk = Desk()
    desk.tell(ProxyConnected(proxy=proxy(1)), after_ms=50)
    desk.tell(ProxyConnected(proxy=proxy(2)), after_ms=10)
    desk.tell(ProxyConnected(proxy=proxy(3)), after_ms=39)
    assert [state.connected for state in desk.states] == [{proxy(1)}]
    desk.tell(after_ms=1)
    assert [state.connected for state in desk.states][1:] == [{proxy(1), proxy(2), proxy(3)}]


def test_proxy_that_came_and_left_meanwhile_is_no_publication() -> None:
    desk = Desk()
    desk.tell(ProxyConnected(proxy=proxy(1)))
    desk.tell(ProxyGone(proxy=proxy(1)), after_ms=10)
    desk.tell(after_ms=100)
    assert desk.states == []


def test_crowd_ends_when_somebody_wants_to_catch_up() -> None:
    desk = Desk()
    desk.tell(ProxyConnected(proxy=proxy(1)))
    assert desk.states == []
    desk.tell(threading.Event())
    assert [state.connected for state in desk.states] == [{proxy(1)}]


def test_nothing_new_is_not_published() -> None:
    desk = Desk()
    desk.mesh.still = True
    desk.tell(ProxyConnected(proxy=proxy(1)), after_ms=50)
    desk.tell(ENDPOINTS)
    desk.tell(ProxyConnected(proxy=proxy(1)), after_ms=50)
    desk.tell(ProxyGone(proxy=proxy(2)), after_ms=50)
    assert len(desk.states) == 1


def test_rejections_wait_like_objects() -> None:
    desk = Desk()
    checked = SourceChecked(source="mesh.yaml", rejected=())
    desk.tell(checked)
    desk.tell(after_ms=50)
    assert desk.mesh.batches == [[checked]]


def test_broken_refresh_ends_neither_the_loop_nor_the_next_batch() -> None:
    desk = Desk()
    desk.mesh.error = ValueError("broken")
    desk.tell(ENDPOINTS)
    assert desk.states == []
    desk.mesh.error = None
    desk.tell(SLICE)
    assert desk.mesh.batches == [[ENDPOINTS], [SLICE]]
    assert len(desk.states) == 1


def test_broken_publication_is_tried_again() -> None:
    desk = Desk()
    desk.error = ValueError("broken")
    desk.tell(ENDPOINTS)
    desk.error = None
    desk.tell()
    assert [state.snapshot for state in desk.states] == [desk.loop.snapshot]


def test_events_are_counted() -> None:
    desk = Desk()
    desk.tell(SERVICE, SERVICE, ObjectDeleted(key=POD.key))
    assert desk.metrics.object_events.get("Service changed", "shop") == 2
    assert desk.metrics.object_events.get("Pod deleted", "shop") == 1


def test_thread_takes_up_events_and_ends() -> None:
    desk = Desk()
    desk.loop.start()
    desk.loop.post(ENDPOINTS)
    desk.wait_for(lambda: len(desk.states) == 1)
    desk.loop.stop()
    assert not any(thread.name == "loop" for thread in threading.enumerate())


def test_thread_waits_only_as_long_as_the_batch_may() -> None:
    desk = Desk()
    loop = MeshLoop(desk.mesh, desk, metrics=Metrics(), pace=Pace(quiet_seconds=0.02))
    loop.start()
    loop.post(Synced(kinds=WATCHED_KINDS))
    desk.wait_for(lambda: len(desk.states) == 1)
    loop.post(SERVICE)
    desk.wait_for(lambda: len(desk.states) == 2)
    loop.stop()
    assert desk.mesh.batches[-1] == [SERVICE]


def test_catching_up_holds_nothing_back() -> None:
    desk = Desk()
    desk.loop.start()
    desk.loop.post(SERVICE)
    assert desk.loop.catch_up(5)
    desk.loop.stop()
    assert desk.mesh.batches == [[SERVICE]]
    assert len(desk.states) == 1


def test_nobody_catches_up_before_every_kind_is_synced() -> None:
    desk = Desk(synced=False)
    desk.loop.start()
    assert not desk.loop.catch_up(0.05)
    desk.loop.stop()


def test_stop_before_start_is_harmless() -> None:
    Desk().loop.stop()


def test_all_is_published_anew_after_each_interval() -> None:
    desk = Desk()
    desk.resync_seconds = 30.0
    for _ in range(4):
        desk.tell(after_ms=15_000)
    assert desk.resynced == [30.0, 60.0]
    assert len(desk.states) == 2
    assert desk.metrics.broadcasts.get() == 2
    desk.resync_seconds = 0.0
    desk.tell(after_ms=60_000)
    assert desk.resynced == [30.0, 60.0]


def test_failure_to_publish_anew_is_not_repeated_at_once() -> None:
    desk = Desk()
    desk.resync_seconds = 30.0
    desk.error = OSError("broken")
    desk.tell(after_ms=30_000)
    desk.error = None
    desk.tell(after_ms=1)
    assert desk.resynced == []
    desk.tell(after_ms=29_999)
    assert desk.resynced == [60.0]


def test_waiting_loop_wakes_to_publish_anew() -> None:
    desk = Desk()
    desk.resync_seconds = 0.001
    desk.clock.advance(timedelta(seconds=1))
    desk.loop.turn()
    assert desk.resynced == [1.0]
