from __future__ import annotations

import copy
from datetime import timedelta

import factory
import pytest
from fakes.clock import FakeClock
from fakes.provider import FakeProvider
from fakes.writer import FakeWriter

from app.certs.manager import Certificates
from app.controller.injector import issue_credentials
from app.controller.renewal import Renewal
from app.controller.secrets import BootstrapSecrets
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
        self.secrets = BootstrapSecrets(Metrics())
        self.watched = True
        self.snapshot: MeshSnapshot | None = factory.snapshot(
            factory.namespace("shop"), *(factory.pod(f"shop/{name}") for name in NAMES)
        )
        self.renewal = Renewal(
            self.secrets,
            self.certificates,
            self.clock,
            patch=self.writer.patch,
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
        """Names of the Pods whose Secrets were patched; the watch tells of it afterwards."""
        self.writer.calls.clear()
        self.clock.advance(after)
        self.tell()
        assert self.renewal.step(lambda: True) is False
        self.tell()
        assert {verb for verb, _ in self.writer.calls} <= {"patch"}
        return [name for name in NAMES for _, key in self.writer.calls if uuid(name) in key]

    def tell(self) -> None:
        """The source says what Secrets there are, as metadata."""
        if self.watched:
            for raw in self.writer.objects.values():
                seen = {key: raw[key] for key in ("apiVersion", "kind", "metadata")}
                self.secrets.take(factory.changed(seen))


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
                "openservicemesh.io/validating-issuer-id": "legacy-compat",
                "openservicemesh.io/xds-certificate-expiry": "0001-01-01T00:00:00Z",
            },
            id="long-before-certificates",
        ),
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


def test_renewed_secret_is_left_alone_though_the_watch_lags() -> None:
    desk = Desk()
    desk.step()
    desk.watched = False
    assert desk.step(TWO_THIRDS) == ["a", "b"]
    assert desk.step(MINUTE) == []
    desk.watched = True
    assert desk.step(MINUTE) == []
    assert desk.step(TWO_THIRDS - 2 * MINUTE) == ["a", "b"]


def test_secret_made_anew_under_its_name_is_looked_at_anew() -> None:
    desk = Desk()
    desk.step()
    desk.secret("a")["metadata"] |= {"uid": "another", "annotations": {}}
    assert desk.step() == ["a"]


def test_secret_in_another_namespace_than_its_pod_is_nobodys() -> None:
    desk = Desk()
    desk.writer.objects.clear()
    foreign = desk.fresh("a")
    foreign["metadata"]["namespace"] = "elsewhere"
    desk.writer.create(foreign)
    assert desk.step(TWO_THIRDS) == []


def test_many_secrets_are_renewed_in_turns() -> None:
    desk = Desk()
    names = [f"pod-{number:02}" for number in range(60)]
    for name in names:
        desk.writer.create(desk.fresh(name))
    desk.snapshot = factory.snapshot(
        factory.namespace("shop"), *(factory.pod(f"shop/{name}") for name in names)
    )
    desk.clock.advance(TWO_THIRDS)
    desk.tell()
    assert [desk.renewal.step(lambda: True), desk.renewal.step(lambda: True)] == [True, False]
    assert sum(verb == "patch" for verb, _ in desk.writer.calls) == 60


def test_no_secret_is_renewed_once_that_is_anothers_task() -> None:
    desk = Desk()
    desk.tell()
    desk.clock.advance(TWO_THIRDS)
    desk.writer.calls.clear()
    assert desk.renewal.step(lambda: False) is False
    assert desk.writer.calls == []


def test_pod_that_is_gone_is_forgotten() -> None:
    desk = Desk()
    desk.step()
    desk.snapshot = factory.snapshot(factory.namespace("shop"), factory.pod("shop/b"))
    assert desk.step(TWO_THIRDS) == ["b"]


def test_nothing_is_due_before_objects_are_read() -> None:
    desk = Desk()
    desk.snapshot = None
    assert desk.step(TWO_THIRDS) == []
