"""Upkeep on a real API server: owners, garbage collection, renewal by patch, the Lease."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from urllib.error import HTTPError

import factory
import pytest
from fakes.clock import FakeClock
from fakes.provider import FakeProvider
from kube_server import KubeServer

from app.certs.manager import Certificates
from app.compute.kube_client import KubeClient
from app.compute.kube_objects import KubeWriter
from app.compute.kube_watch import KubeSource
from app.controller.injector import issue_credentials
from app.controller.lease import LeaseKeeper, lease_ref
from app.controller.orphans import OrphanSweep, removal_in
from app.controller.ownership import Ownership
from app.controller.renewal import Renewal
from app.controller.runtime import SystemClock
from app.controller.secrets import BootstrapSecrets
from app.events import Event, ObjectChanged
from app.inject.secret import bootstrap_key, bootstrap_secret
from app.metrics import Metrics
from app.objects.meta import ObjectKey, ObjectKind, RawObject
from xds.policy.identity import ProxyId, ServiceIdentity

pytestmark = pytest.mark.kube

SECONDS = 30
OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "keeper"}


def test_secret_goes_with_the_last_of_its_owners(kube: KubeServer) -> None:
    with desk(kube, "d-owners") as made:
        keeper = made.create("ConfigMap", "keeper")
        made.create_secret(ownerReferences=[{**OWNER, "uid": keeper["metadata"]["uid"]}])
        pod = made.create_pod()
        made.wait_for(lambda: bool(made.secrets.unowned()))
        Ownership(made.secrets, made.client, SystemClock()).step(lambda: True)
        made.wait_for(lambda: not made.secrets.unowned())
        owners = made.secret()["metadata"]["ownerReferences"]
        assert {owner["uid"] for owner in owners} == {
            keeper["metadata"]["uid"],
            pod["metadata"]["uid"],
        }
        made.delete("configmaps/keeper")
        made.delete("pods/cart")
        made.wait_for(lambda: made.secrets.all() == ())


def test_secret_of_a_pod_that_was_never_made_is_swept(kube: KubeServer) -> None:
    with desk(kube, "d-orphans") as made:
        made.create_secret()
        made.wait_for(lambda: len(made.secrets.all()) == 1 and made.secrets.synced)
        clock = FakeClock(SystemClock().now())
        sweep = OrphanSweep(
            made.secrets,
            clock,
            mesh_name="d-orphans",
            remove=removal_in(made.client),
            monotonic=clock.monotonic,
        )
        for pause in (timedelta(0), timedelta(hours=1, minutes=1), timedelta(minutes=2)):
            clock.advance(pause)
            made.secret()
            sweep.step(lambda: True)
        made.wait_for(lambda: made.secrets.all() == ())


def test_renewal_is_a_patch_that_the_watch_shows_without_keys(kube: KubeServer) -> None:
    with desk(kube, "d-renewal") as made:
        # As the original wrote it: nothing but data and labels.
        made.create_secret(annotations={})
        before = made.secret()
        snapshot = factory.snapshot(
            factory.namespace(made.namespace), factory.pod(f"{made.namespace}/cart")
        )
        renewal = Renewal(
            made.secrets,
            made.certificates,
            made.clock,
            patch=KubeWriter(made.client).patch,
            snapshot=lambda: snapshot,
        )
        made.wait_for(lambda: len(made.secrets.all()) == 1)
        renewal.step(lambda: True)
        made.wait_for(lambda: made.secrets.all()[0].stamp.expiry == "2030-01-31T12:00:00Z")
        after = made.secret()
        changed = {name for name in after["data"] if after["data"][name] != before["data"][name]}
        assert changed == {"sds_cert.pem", "sds_key.pem"}
        version = after["metadata"]["resourceVersion"]
        renewal.step(lambda: True)
        assert made.secret()["metadata"]["resourceVersion"] == version
        seen = [event for event in made.events if isinstance(event, ObjectChanged)]
        assert not any(after["data"]["sds_key.pem"] in repr(event) for event in seen)


def test_one_of_three_holds_the_lease_whatever_happens(kube: KubeServer) -> None:
    namespace = kube.new_namespace("d-lease")
    lease = lease_ref(namespace)
    clients = [KubeClient.from_kubeconfig(kube.kubeconfig()) for _ in range(3)]
    keepers = [
        LeaseKeeper(client, SystemClock(), ref=lease, me=f"replica-{number}")
        for number, client in enumerate(clients)
    ]

    def compete() -> list[int]:
        """All ask at once; who holds the Lease then."""
        asking = [threading.Thread(target=keeper.step) for keeper in keepers]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
        return [number for number, keeper in enumerate(keepers) if keeper.held]

    for _ in range(10):
        assert len(compete()) == 1
    (holder,) = compete()
    keepers[holder].stop()
    keepers[holder] = LeaseKeeper(clients[holder], SystemClock(), ref=lease, me="again")
    assert len(compete()) == 1
    spec = clients[0].read(lease)
    assert spec is not None
    assert spec["spec"]["leaseTransitions"] == 1
    for keeper in keepers:
        keeper.stop()


class Desk:
    """A namespace, the mesh's view of its Secrets and Pods, and a Secret for the Pod ``cart``."""

    def __init__(self, kube: KubeServer, namespace: str) -> None:
        self.kube = kube
        self.namespace = namespace
        self.client = KubeClient.from_kubeconfig(kube.kubeconfig())
        self.clock = FakeClock()
        self.certificates = Certificates(
            FakeProvider(self.clock), self.clock, post=lambda _: None, metrics=Metrics()
        )
        self.uuid = factory.uuid_of(f"{namespace}/cart")
        self.secrets = BootstrapSecrets(Metrics())
        self.events: list[Event] = []
        self.changed = threading.Condition()

    def take(self, event: Event) -> None:
        key = getattr(event, "key", ObjectKey(kind=ObjectKind.POD, namespace="", name=""))
        if key.namespace in ("", self.namespace):
            with self.changed:
                self.secrets.take(event)
                self.events.append(event)
                self.changed.notify_all()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, SECONDS)

    def create(self, kind: str, name: str, **fields: Any) -> RawObject:
        return self.client.create(factory.raw(kind, f"{self.namespace}/{name}", **fields))

    def create_secret(self, **metadata: Any) -> None:
        identity = ServiceIdentity(namespace=self.namespace, service_account="cart")
        raw = bootstrap_secret(
            bootstrap_key(self.namespace, self.uuid),
            {"bootstrap.yaml": "{}"},
            credentials=issue_credentials(
                self.certificates, ProxyId(uuid=self.uuid, identity=identity)
            ),
            labels={
                "app.kubernetes.io/name": "openservicemesh.io",
                "app.kubernetes.io/instance": self.namespace,
            },
        )
        raw["metadata"] |= metadata
        self.client.create(raw)

    def create_pod(self) -> RawObject:
        self.create("ServiceAccount", "cart")
        # Without a token the account need not have one yet.
        containers = [{"name": "app", "image": "cart:1"}]
        spec = {"containers": containers, "automountServiceAccountToken": False}
        pod = factory.pod(f"{self.namespace}/cart", spec=spec)
        del pod["status"]
        return self.client.create(pod)

    def delete(self, path: str) -> None:
        # No kubelet confirms the end of a Pod.
        now = {"gracePeriodSeconds": 0}
        self.kube.call("DELETE", f"/api/v1/namespaces/{self.namespace}/{path}", now)

    def secret(self) -> RawObject:
        name = bootstrap_key(self.namespace, self.uuid).name
        path = f"/api/v1/namespaces/{self.namespace}/secrets/{name}"
        try:
            found: RawObject = self.kube.call("GET", path)
        except HTTPError as error:
            raise AssertionError(f"{path}: {error}") from error
        return found


@contextmanager
def desk(kube: KubeServer, namespace: str) -> Iterator[Desk]:
    made = Desk(kube, kube.new_namespace(namespace))
    source = KubeSource(
        made.client, Metrics(), osm_namespace="osm-system", config_name="osm-mesh-config"
    )
    source.start(made.take, {ObjectKind.SECRET, ObjectKind.POD})
    try:
        yield made
    finally:
        source.stop()
