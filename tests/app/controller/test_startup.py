from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import factory
import pytest
from fakes.clock import FakeClock
from fakes.cluster import FakeCluster
from fakes.registration import FakeRegistration
from fakes.source import FakeSource
from fakes.writer import FakeWriter

from app.certs.x509 import describe
from app.controller.readiness import Step
from app.controller.runtime import Runtime, SidecarPlatform
from app.controller.serving import Webhook
from app.errors import UnreachableError
from app.events import ObjectEvent
from app.objects.meta import ObjectKind, RawObject
from app.ports import Compute
from app.settings import Settings

NAMESPACE = factory.namespace("shop")


class RecordingSource(FakeSource):
    """Says when it is started, and what for."""

    def __init__(self, calls: list[str]) -> None:
        super().__init__(NAMESPACE)
        self.calls = calls
        self.kinds: frozenset[ObjectKind] = frozenset()

    def start(self, post: Callable[[ObjectEvent], None], kinds: Iterable[ObjectKind]) -> None:
        self.calls.append("source")
        self.kinds = frozenset(kinds)
        super().start(post, self.kinds)


class World:
    """A cluster's control plane whose steps are written into one list."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.source = RecordingSource(self.calls)
        self.registration = FakeRegistration(self.calls)
        self.clock = FakeClock()
        self.cluster = FakeCluster()
        self.runtime = Runtime(
            Settings(ads_host="127.0.0.1", ads_port=0, stream_pool_size=4),
            Compute(
                source=self.source,
                writer=FakeWriter(),
                envoy_admin=None,
                cluster=self.cluster,
            ),
            platform=SidecarPlatform(ads_host="10.0.0.1", pod_name="osm-controller-1"),
            clock=self.clock,
            registration=self.registration,
        )


@contextmanager
def world() -> Iterator[World]:
    made = World()
    try:
        yield made
    finally:
        made.runtime.stop()


def test_steps_of_a_cluster_come_in_their_order() -> None:
    with world() as made:
        made.runtime.start(timeout_seconds=5)
        assert made.calls == ["prepare", "source"]
        assert made.runtime.not_ready() == ("the webhook configurations are not written",)
        made.runtime.register()
        assert made.calls == ["prepare", "source", "register", "start", "set_ready"]
        assert made.runtime.not_ready() == ()
        made.runtime.stop()
        assert made.calls[5:] == ["stop"]
        assert made.runtime.not_ready() == ("the control plane has stopped",)


def test_all_kinds_are_watched_and_secrets_too() -> None:
    with world() as made:
        made.runtime.start(timeout_seconds=5)
        assert made.source.kinds == frozenset(ObjectKind)


def test_nothing_is_read_before_the_kinds_exist() -> None:
    with world() as made:
        made.registration.failing["prepare"] = UnreachableError("no API server")
        with pytest.raises(UnreachableError, match="no API server"):
            made.runtime.start(timeout_seconds=5)
        assert made.calls == ["prepare"]
        assert made.runtime.not_ready() == tuple(step.value for step in Step)


def test_registration_that_failed_is_tried_again() -> None:
    with world() as made:
        made.runtime.start(timeout_seconds=5)
        made.registration.failing["register"] = UnreachableError("no API server")
        with pytest.raises(UnreachableError):
            made.runtime.register()
        assert made.runtime.not_ready() == ("the webhook configurations are not written",)
        made.registration.failing.clear()
        made.runtime.register()
        assert made.runtime.not_ready() == ()


def test_validation_that_cannot_be_required_yet_keeps_nobody_waiting() -> None:
    with world() as made:
        made.runtime.start(timeout_seconds=5)
        made.registration.failing["set_ready"] = UnreachableError("no API server")
        with pytest.raises(UnreachableError):
            made.runtime.register()
        assert made.runtime.not_ready() == ()


def test_what_cannot_be_registered_is_a_problem() -> None:
    with world() as made:
        assert made.runtime.problems == ("the webhook configuration cannot be written",)


def test_webhooks_have_certificates_for_the_names_of_their_services() -> None:
    with world() as made:
        made.runtime.start(timeout_seconds=5)
        identity = made.runtime.webhook_identity(Webhook.VALIDATOR)
        facts = describe(identity.certificate_chain)
        assert describe(made.runtime.trusted_roots()).subject == facts.issuer
    assert facts.dns_names == (
        "osm-validator.osm-system.svc",
        "osm-validator.osm-system.svc.cluster.local",
        "osm-validator.osm-system",
        "osm-validator",
    )


def test_webhook_has_no_certificate_before_the_start() -> None:
    made = World()
    for ask in (
        lambda: made.runtime.webhook_identity(Webhook.INJECTOR),
        made.runtime.trusted_roots,
    ):
        with pytest.raises(UnreachableError, match="has not been started"):
            ask()
    made.runtime.stop()


def test_machine_without_an_api_server_has_nothing_to_register() -> None:
    source = RecordingSource([])
    runtime = Runtime(
        Settings(ads_host="127.0.0.1", ads_port=0, stream_pool_size=4),
        Compute(source=source, writer=FakeWriter(), envoy_admin=None),
        clock=FakeClock(),
    )
    runtime.start(timeout_seconds=5)
    assert runtime.not_ready() == ()
    runtime.register()
    with pytest.raises(UnreachableError, match="there is no API server"):
        runtime.webhook_identity(Webhook.INJECTOR)
    runtime.stop()


def test_trouble_is_told_as_events_of_the_own_pod() -> None:
    with world() as made:
        made.runtime.start(timeout_seconds=5)
        told = threading.Event()
        made.cluster.watch("v1", "Event", lambda _: told.set())
        made.runtime._tell_full(3)
        assert told.wait(5)
        (event,) = made.cluster.list("v1", "Event")
    assert (event["involvedObject"]["name"], event["reason"]) == (
        "osm-controller-1",
        "MaxDataPlaneConnectionsReached",
    )


def test_periodic_jobs_are_those_of_the_holder_of_the_lease() -> None:
    made = World()
    held = threading.Event()
    made.cluster.watch("coordination.k8s.io/v1", "Lease", lambda _: held.set())
    made.runtime.start(timeout_seconds=5)
    assert held.wait(5)
    lease = made.cluster.get("Lease", "osm-controller", "osm-system")
    assert lease is not None
    assert lease["spec"]["holderIdentity"].startswith("osm-controller-1_")
    made.runtime.stop()
    lease = made.cluster.get("Lease", "osm-controller", "osm-system")
    assert lease is not None
    assert lease["spec"]["holderIdentity"] == ""


def test_secret_of_a_known_pod_gets_its_owner() -> None:
    with world() as made:
        made.runtime.start(timeout_seconds=5)
        name = f"envoy-bootstrap-config-{factory.uuid_of('shop/cart')}"
        secret = factory.raw("Secret", f"shop/{name}")
        made.cluster.put(secret)
        owned = threading.Event()
        made.cluster.watch("v1", "Secret", lambda raw: _is_owned(raw) and owned.set())
        made.source.put(secret, factory.pod("shop/cart", meta={"uid": "pod-1"}))
        assert owned.wait(10)


def _is_owned(raw: RawObject | None) -> bool:
    return raw is not None and bool(raw["metadata"].get("ownerReferences"))
