"""The gateway's Secret follows the MeshConfig: written, renewed, moved, deleted; never read."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import factory
import pytest
from fakes.clock import FakeClock
from fakes.provider import FakeProvider
from fakes.writer import FakeWriter

from app.certs.builtin import ca_secret_key
from app.certs.manager import Certificates
from app.controller.gateway import RENEWAL_ANNOTATION, GatewayScope, GatewaySecret
from app.controller.secrets import BootstrapSecrets
from app.errors import KubernetesError
from app.events import ObjectDeleted, Synced
from app.mesh.snapshot import MeshSnapshot
from app.metrics import Metrics
from app.objects.meta import ObjectKey, ObjectKind, RawObject
from app.ports import CertificateRequest

NAMES = ("gateway.edge.cluster.local", "*.shop.example", "spiffe://cluster.local/gateway/edge")
EDGE = ("edge", "gateway-tls")
MINUTE = timedelta(minutes=1)
SCOPE = GatewayScope(mesh_name="osm", root=ca_secret_key("osm-system", "osm-ca-bundle"))


def asked_for(
    *names: str, validity: str = "24h", secret: tuple[str, str] = EDGE, **more: Any
) -> MeshSnapshot:
    """A mesh whose MeshConfig asks for the certificate of a gateway; for none without names."""
    gateway = {
        "subjectAltNames": list(names),
        "validityDuration": validity,
        "secret": {"namespace": secret[0], "name": secret[1]},
    }
    certificate = {"ingressGateway": gateway} if names else {}
    return factory.snapshot(factory.mesh_config(certificate={**certificate, **more}))


class Desk:
    """A mesh with a writer whose Secrets the source tells of, and the job."""

    def __init__(self, *objects: RawObject) -> None:
        self.clock = FakeClock()
        self.provider = FakeProvider(self.clock)
        self.writer = FakeWriter(*objects)
        self.told: set[ObjectKey] = set()
        self.secrets = BootstrapSecrets(Metrics())
        self.secrets.take(Synced(kinds=frozenset({ObjectKind.SECRET, ObjectKind.POD})))
        self.snapshot: MeshSnapshot | None = asked_for(*NAMES)
        self.certificates = Certificates(
            self.provider, self.clock, post=lambda _: None, metrics=Metrics()
        )
        self.job = self.new_job()

    def new_job(self) -> GatewaySecret:
        return GatewaySecret(
            self.secrets,
            self.certificates,
            self.clock,
            writer=self.writer,
            snapshot=lambda: self.snapshot,
            scope=SCOPE,
        )

    def step(self, *, after: timedelta = timedelta(0), tell: bool = True) -> list[str]:
        """Verbs of what was written; the source tells of it afterwards."""
        self.writer.calls.clear()
        self.clock.advance(after)
        assert self.job.step(lambda: True) is False
        if tell:
            self.tell()
        return [verb for verb, _ in self.writer.calls]

    def tell(self) -> None:
        """The source says what Secrets there are now, as metadata."""
        for key in self.told - self.writer.objects.keys():
            self.secrets.take(ObjectDeleted(key=key))
        self.told = set(self.writer.objects)
        for raw in self.writer.objects.values():
            seen = {part: raw[part] for part in ("apiVersion", "kind", "metadata")}
            self.secrets.take(factory.changed(seen))

    def places(self) -> set[tuple[str, str]]:
        return {(key.namespace, key.name) for key in self.writer.objects}

    def secret(self) -> RawObject:
        return self.writer.objects[
            ObjectKey(kind=ObjectKind.SECRET, namespace=EDGE[0], name=EDGE[1])
        ]

    def files(self) -> dict[str, str]:
        data = self.secret()["data"]
        return {name: base64.b64decode(text).decode() for name, text in data.items()}


def test_secret_has_what_a_gateway_needs() -> None:
    desk = Desk()
    assert desk.step() == ["create"]
    assert desk.secret()["type"] == "kubernetes.io/tls"
    assert desk.files() == {
        "ca.crt": "roots-1\n",
        "tls.crt": f"chain {NAMES[0]} 1\n",
        "tls.key": f"key {NAMES[0]} 1\n",
    }
    assert desk.provider.requests == [
        CertificateRequest(
            common_name=NAMES[0],
            dns_names=NAMES[:2],
            uris=NAMES[2:],
            lifetime=timedelta(hours=24),
        )
    ]
    assert desk.step() == []


def test_long_first_name_is_not_the_common_name() -> None:
    desk = Desk()
    name = f"{'g' * 60}.cluster.local"
    desk.snapshot = asked_for(name)
    desk.step()
    assert desk.provider.requests[0].common_name is None
    assert desk.provider.requests[0].dns_names == (name,)


def test_secret_is_renewed_when_a_third_of_its_life_is_left() -> None:
    desk = Desk()
    desk.step()
    # A life begins five minutes before its issue, for clocks that are late.
    due = timedelta(hours=24) - timedelta(hours=24, minutes=5) / 3
    assert desk.step(after=due - timedelta(seconds=1)) == []
    assert desk.step(after=timedelta(seconds=1)) == ["create", "patch"]
    assert desk.files()["tls.key"] == f"key {NAMES[0]} 2\n"
    assert desk.step() == []


@pytest.mark.parametrize(
    "now",
    [
        pytest.param(asked_for(*NAMES[:2]), id="fewer-names"),
        pytest.param(asked_for("other.edge", *NAMES[1:]), id="first-name"),
        pytest.param(asked_for(*NAMES, validity="2h"), id="lifetime"),
    ],
)
def test_any_change_of_what_is_asked_for_issues_anew(now: MeshSnapshot) -> None:
    desk = Desk()
    desk.step()
    desk.snapshot = now
    assert desk.step() == ["create", "patch"]
    assert desk.step() == []


def test_new_roots_are_written() -> None:
    desk = Desk()
    desk.step()
    desk.provider.roots = b"roots-1\nroots-2\n"
    desk.certificates.step()
    assert desk.step() == ["create", "patch"]
    assert desk.files()["ca.crt"] == "roots-1\nroots-2\n"


def test_secret_that_moves_leaves_nothing_behind() -> None:
    desk = Desk()
    desk.step()
    desk.snapshot = asked_for(*NAMES, secret=("front", "tls"))
    assert desk.step() == ["delete", "create"]
    assert desk.places() == {("front", "tls")}


def test_secret_goes_when_it_is_no_longer_asked_for() -> None:
    desk = Desk()
    desk.step()
    desk.snapshot = asked_for()
    assert desk.step() == ["delete"]
    assert desk.places() == set()
    assert desk.step() == []
    desk.snapshot = asked_for(*NAMES)
    assert desk.step() == ["create"]


@pytest.mark.parametrize(
    "snapshot",
    [
        pytest.param(None, id="nothing-read-yet"),
        pytest.param(factory.snapshot(), id="no-config-that-can-be-read"),
        pytest.param(asked_for("a", ""), id="an-empty-name"),
        pytest.param(asked_for(*NAMES, secret=("", "tls")), id="no-namespace"),
    ],
)
def test_mistake_takes_no_secret_away(snapshot: MeshSnapshot | None) -> None:
    desk = Desk()
    desk.step()
    desk.snapshot = snapshot
    assert desk.step() == []
    assert desk.places() == {EDGE}


def test_another_replica_goes_on_where_one_stopped() -> None:
    desk = Desk()
    desk.step()
    desk.job = desk.new_job()
    assert desk.step() == []
    desk.snapshot = asked_for()
    desk.job = desk.new_job()
    assert desk.step() == ["delete"]


def test_deleted_secret_comes_back() -> None:
    desk = Desk()
    desk.step()
    desk.writer.objects.clear()
    desk.tell()
    assert desk.step(after=MINUTE) == ["create"]


def test_source_may_tell_late() -> None:
    desk = Desk()
    desk.step(tell=False)
    assert desk.step(after=timedelta(seconds=10), tell=False) == []


def test_secret_of_another_mesh_is_left_alone() -> None:
    desk = Desk()
    desk.step()
    desk.secret()["metadata"]["labels"]["app.kubernetes.io/instance"] = "other"
    desk.tell()
    desk.snapshot = asked_for()
    assert desk.step() == []


def test_secret_that_was_there_is_taken_over() -> None:
    old = factory.raw("Secret", "edge/gateway-tls", api="v1", type="kubernetes.io/tls")
    desk = Desk(old | {"data": {"tls.key": "b2xk"}})
    assert desk.step() == ["create", "patch"]
    assert desk.files()["tls.key"] == f"key {NAMES[0]} 1\n"
    assert desk.step() == []


@pytest.mark.parametrize(
    "renewal",
    [
        pytest.param("soon", id="unreadable"),
        pytest.param("2031-01-01T00:00:00", id="without-a-zone"),
        pytest.param("0001-01-01T00:00:00Z", id="long-ago"),
    ],
)
def test_secret_that_does_not_say_when_it_is_due_is_renewed(renewal: str) -> None:
    desk = Desk()
    desk.step()
    desk.secret()["metadata"]["annotations"][RENEWAL_ANNOTATION] = renewal
    desk.tell()
    assert desk.step(after=MINUTE) == ["create", "patch"]


@pytest.mark.parametrize(
    "secret",
    [
        pytest.param(("osm-system", "osm-ca-bundle"), id="root"),
        pytest.param(("shop", f"envoy-bootstrap-config-{factory.uuid_of('shop/a')}"), id="sidecar"),
    ],
)
def test_secrets_of_the_mesh_itself_are_not_written_over(secret: tuple[str, str]) -> None:
    desk = Desk()
    desk.snapshot = asked_for(*NAMES, secret=secret)
    assert desk.step() == []


def test_failure_is_tried_again_in_a_minute() -> None:
    desk = Desk()
    desk.provider.failing = {NAMES[0]}
    assert desk.step() == []
    assert desk.provider.attempts == 1
    desk.step(after=MINUTE / 2)
    assert desk.provider.attempts == 1
    desk.provider.failing.clear()
    assert desk.step(after=MINUTE / 2) == ["create"]


def test_failed_deletion_is_tried_again() -> None:
    desk = Desk()
    desk.step()
    desk.snapshot = asked_for()
    desk.writer.failing["delete"] = KubernetesError("the API server says no")
    assert desk.step() == []
    desk.writer.failing.clear()
    assert desk.step() == ["delete"]
