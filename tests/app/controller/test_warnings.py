from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import factory
import pytest
from fakes.clock import FakeClock
from fakes.cluster import FakeCluster

from app.controller.warnings import PodWarnings, Reason, fatal_reason, own_pod
from app.errors import CaError, CertificateError, ListenError, SettingError, UnreachableError
from app.objects.meta import RawObject

POD = own_pod("osm-system", "osm-controller-1")


class Desk:
    """A cluster with the control plane's Pod, if it is there."""

    def __init__(self, *, pod: bool = True) -> None:
        self.clock = FakeClock()
        raw = factory.pod("osm-system/osm-controller-1", sidecar=False, meta={"uid": "pod-1"})
        self.cluster = FakeCluster(*([raw] if pod else []))
        self.warnings = PodWarnings(self.cluster, self.clock, pod=POD)

    def events(self) -> list[RawObject]:
        return self.cluster.list("v1", "Event")

    def tell(self, reason: Reason = Reason.ROTATION_FAILED, message: str = "it broke") -> None:
        self.warnings.tell_and_wait(reason, message)


@pytest.mark.parametrize(
    ("pod", "uid"), [pytest.param(True, {"uid": "pod-1"}, id="known"), (False, {})]
)
def test_warning_is_an_event_of_the_pod(pod: bool, uid: dict[str, str]) -> None:
    desk = Desk(pod=pod)
    desk.tell(message="x" * 2000)
    (event,) = desk.events()
    metadata: Any = event.pop("metadata")
    assert metadata["name"].startswith("osm-controller-1.")
    assert metadata["namespace"] == "osm-system"
    assert event == {
        "apiVersion": "v1",
        "kind": "Event",
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": "osm-controller-1",
            "namespace": "osm-system",
            **uid,
        },
        "type": "Warning",
        "reason": "CertificateRotationFailure",
        "message": "x" * 1000,
        "source": {"component": "osm-controller"},
        "reportingComponent": "osm-controller",
        "firstTimestamp": "2030-01-01T12:00:00Z",
        "lastTimestamp": "2030-01-01T12:00:00Z",
        "count": 1,
    }


def test_reason_is_told_once_in_ten_minutes() -> None:
    desk = Desk()
    for seconds in (0, 599, 1):
        desk.clock.advance(timedelta(seconds=seconds))
        desk.tell()
    desk.tell(Reason.TOO_MANY_PROXIES)
    assert sorted(event["reason"] for event in desk.events()) == [
        "CertificateRotationFailure",
        "CertificateRotationFailure",
        "MaxDataPlaneConnectionsReached",
    ]


def test_nobody_waits_for_a_warning() -> None:
    desk = Desk()
    written = threading.Event()
    desk.cluster.watch("v1", "Event", lambda _: written.set())
    desk.warnings.tell(Reason.ROTATION_FAILED, "it broke")
    assert written.wait(5)


def test_fatal_warning_waits_for_a_moment_only() -> None:
    desk = Desk()
    released = threading.Event()
    desk.cluster.watch("v1", "Event", lambda _: released.wait(5) and None)
    desk.warnings.tell_and_wait(Reason.NOT_STARTED, "it broke", seconds=0.05)
    released.set()


def test_event_that_cannot_be_written_breaks_nothing() -> None:
    desk = Desk()
    desk.cluster.fail("create", UnreachableError("no API server"))
    desk.tell()
    assert desk.events() == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SettingError("x"), Reason.BAD_PARAMETERS),
        (CaError("x"), Reason.BAD_CERTIFICATE_MANAGER),
        (CertificateError("x"), Reason.NO_CERTIFICATE),
        (ListenError("x"), Reason.NOT_STARTED),
        (OSError("x"), Reason.NOT_STARTED),
    ],
)
def test_end_of_the_process_has_a_reason(error: Exception, reason: Reason) -> None:
    assert fatal_reason(error) is reason
