from __future__ import annotations

import copy
import threading
from datetime import timedelta

import factory
import pytest
from fakes.clock import FakeClock
from fakes.provider import FakeProvider
from fakes.writer import FakeWriter

from app.certs.manager import Certificates
from app.controller.injector import issue_credentials
from app.controller.upkeep import Upkeep
from app.inject.secret import bootstrap_key, bootstrap_secret, secret_files
from app.mesh.snapshot import MeshSnapshot
from app.metrics import Metrics
from app.objects.meta import RawObject
from xds.policy.identity import ProxyId, ServiceIdentity

TWO_THIRDS = timedelta(hours=480)
MINUTE = timedelta(minutes=1)
NAMES = ("a", "b")


class Desk:
    """Two Pods with fresh bootstrap Secrets."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.provider = FakeProvider(self.clock)
        self.writer = FakeWriter()
        self.certificates = Certificates(
            self.provider, self.clock, post=lambda _: None, metrics=Metrics()
        )
        for name in NAMES:
            self.writer.create(self.fresh(name))
        self.writer.calls.clear()
        self.snapshot: MeshSnapshot | None = factory.snapshot(
            factory.namespace("shop"), *(factory.pod(f"shop/{name}") for name in NAMES)
        )
        self.upkeep = Upkeep(
            self.certificates,
            self.writer,
            self.clock,
            snapshot=lambda: self.snapshot,
            jitter=lambda: 0.0,
        )

    def fresh(self, name: str) -> RawObject:
        proxy = ProxyId(
            uuid=uuid(name), identity=ServiceIdentity(namespace="shop", service_account=name)
        )
        return bootstrap_secret(
            bootstrap_key("shop", uuid(name)),
            {"bootstrap.yaml": f"bootstrap of {name}"},
            credentials=issue_credentials(self.certificates, proxy),
            labels={"app.kubernetes.io/instance": "osm"},
        )

    def secret(self, name: str) -> RawObject:
        return self.writer.objects[bootstrap_key("shop", uuid(name))]

    def step(self, after: timedelta = timedelta(0)) -> list[str]:
        """Names of the Pods whose Secrets were replaced."""
        self.writer.calls.clear()
        self.clock.advance(after)
        self.upkeep.step()
        return [name for name in NAMES for _, key in self.writer.calls if uuid(name) in key]


def uuid(name: str) -> str:
    return factory.uuid_of(f"shop/{name}")


def test_secret_is_renewed_when_a_third_of_its_life_is_left() -> None:
    desk = Desk()
    old = copy.deepcopy(desk.secret("a"))
    assert desk.step() == []
    assert desk.step(TWO_THIRDS - timedelta(seconds=1)) == []
    assert desk.step(timedelta(seconds=1)) == ["a", "b"]
    assert desk.step() == []
    new = desk.secret("a")
    differing = {name for name in new["data"] if new["data"][name] != old["data"][name]}
    assert differing == {"sds_cert.pem", "sds_key.pem"}
    assert new["metadata"]["labels"] == old["metadata"]["labels"]
    expiry = new["metadata"]["annotations"]["openservicemesh.io/xds-certificate-expiry"]
    assert expiry == "2030-02-20T12:00:00Z"
    assert desk.step(TWO_THIRDS) == ["a", "b"]


@pytest.mark.parametrize(
    "annotations",
    [
        pytest.param(None, id="none"),
        pytest.param({"openservicemesh.io/xds-certificate-expiry": "soon"}, id="unreadable"),
        pytest.param(
            {
                "openservicemesh.io/signing-issuer-id": "legacy-compat",
                "openservicemesh.io/validating-issuer-id": "other",
                "openservicemesh.io/xds-certificate-expiry": "2030-01-31T12:00:00Z",
            },
            id="another-issuer",
        ),
        pytest.param(
            {
                "openservicemesh.io/signing-issuer-id": "legacy-compat",
                "openservicemesh.io/validating-issuer-id": "legacy-compat",
                "openservicemesh.io/xds-certificate-expiry": "2030-01-31T12:00:00",
            },
            id="time-without-zone",
        ),
    ],
)
def test_secret_without_good_annotations_is_due_at_once(annotations: dict[str, str] | None) -> None:
    desk = Desk()
    desk.secret("b")["metadata"]["annotations"] = annotations
    assert desk.step() == ["b"]
    assert secret_files(desk.secret("b"))["bootstrap.yaml"] == b"bootstrap of b"


def test_failure_holds_up_no_other_and_is_tried_again() -> None:
    desk = Desk()
    desk.provider.failing = {f"{uuid('a')}.sidecar.a.shop.cluster.local"}
    assert desk.step(TWO_THIRDS) == ["b"]
    desk.provider.failing = set()
    assert desk.step(MINUTE - timedelta(seconds=1)) == []
    assert desk.step(timedelta(seconds=1)) == ["a"]


def test_missing_secret_is_looked_for_again() -> None:
    desk = Desk()
    missing = desk.writer.objects.pop(bootstrap_key("shop", uuid("a")))
    assert desk.step(TWO_THIRDS) == ["b"]
    desk.writer.objects[bootstrap_key("shop", uuid("a"))] = missing
    assert desk.step(MINUTE) == ["a"]


def test_pod_that_is_gone_is_forgotten() -> None:
    desk = Desk()
    desk.step()
    desk.snapshot = factory.snapshot(factory.namespace("shop"), factory.pod("shop/b"))
    assert desk.step(TWO_THIRDS) == ["b"]


def test_nothing_is_due_before_objects_are_read() -> None:
    desk = Desk()
    desk.snapshot = None
    assert desk.step(TWO_THIRDS) == []


def test_stopped_upkeep_leaves_the_rest() -> None:
    desk = Desk()
    desk.upkeep.stop()
    assert desk.step(TWO_THIRDS) == []


def test_thread_ends() -> None:
    desk = Desk()
    desk.upkeep.start()
    desk.upkeep.stop()
    assert not any(thread.name == "upkeep" for thread in threading.enumerate())
