from __future__ import annotations

from typing import Any

import factory
import pytest
from fakes.clock import FakeClock
from fakes.provider import FakeProvider
from fakes.writer import FakeWriter

from app.certs.manager import Certificates
from app.controller.injector import InjectionScope, Injector
from app.errors import CertificateError, InjectionError
from app.inject.decide import Skip
from app.inject.plan import Injected, InjectionOptions
from app.inject.secret import bootstrap_key
from app.mesh.snapshot import MeshSnapshot
from app.metrics import Metrics
from app.objects.meta import RawObject
from xds.policy.bootstrap import AdsServer

UUID = "11111111-2222-4333-8444-555555555555"
SECOND_UUID = UUID.replace("1", "9")
NAME = f"{UUID}.sidecar.buyer.shop.cluster.local"
ENABLED = {"openservicemesh.io/sidecar-injection": "enabled"}
OPTIONS = InjectionOptions(
    mesh_name="osm",
    product_version="2.0.0",
    ads=AdsServer(host="10.0.0.1", server_name="controller", certificate_names=("ads",)),
    envoy_image="envoy:1",
    init_container_image="osm:2",
    native=True,
)
SCOPE = InjectionScope(mesh_name="osm", osm_namespace="osm-system", config_name="osm-mesh-config")


def bare_pod(**annotations: str) -> RawObject:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "buyer-1", "namespace": "shop", "annotations": annotations},
        "spec": {
            "serviceAccountName": "buyer",
            "containers": [{"name": "app", "image": "buyer:1"}],
        },
    }


class Desk:
    def __init__(self, *objects: RawObject, written: tuple[RawObject, ...] = ()) -> None:
        self.clock = FakeClock()
        self.provider = FakeProvider(self.clock)
        self.writer = FakeWriter(*written)
        self.snapshot: MeshSnapshot | None = factory.snapshot(*objects)
        certificates = Certificates(
            self.provider, self.clock, post=lambda _: None, metrics=Metrics()
        )
        self.injector = Injector(
            certificates,
            self.writer,
            snapshot=lambda: self.snapshot,
            scope=SCOPE,
            options=OPTIONS,
            new_uuid=iter([UUID, SECOND_UUID]).__next__,
        )

    def inject(self, pod: RawObject | None = None, **more: Any) -> Injected | Skip:
        return self.injector.inject(pod or bare_pod(), namespace="shop", **more)


def in_mesh() -> RawObject:
    return factory.namespace("shop", annotations=ENABLED)


def test_pod_gets_a_sidecar_and_its_secret_exists() -> None:
    desk = Desk(in_mesh())
    found = desk.inject()
    assert isinstance(found, Injected)
    assert found.pod["metadata"]["labels"] == {"osm-proxy-uuid": UUID}
    assert [c["name"] for c in found.pod["spec"]["initContainers"]] == ["osm-init", "envoy"]
    assert found.patch != []
    assert desk.writer.calls == [("create", f"Secret shop/envoy-bootstrap-config-{UUID}")]
    secret = desk.writer.objects[bootstrap_key("shop", UUID)]
    assert secret["metadata"]["annotations"] == {
        "openservicemesh.io/signing-issuer-id": "legacy-compat",
        "openservicemesh.io/validating-issuer-id": "legacy-compat",
        "openservicemesh.io/xds-certificate-expiry": "2030-01-31T12:00:00Z",
    }
    assert [request.dns_names for request in desk.provider.requests] == [(NAME,)]


def test_dry_run_writes_nothing() -> None:
    desk = Desk(in_mesh())
    assert isinstance(desk.inject(dry_run=True), Injected)
    assert desk.writer.calls == []


def test_skipped_pod_costs_no_certificate() -> None:
    desk = Desk(factory.namespace("shop"))
    found = desk.inject()
    assert found == Skip(reason="sidecar injection is not enabled by annotation")
    assert (desk.provider.requests, desk.writer.calls) == ([], [])


@pytest.mark.parametrize(
    ("written", "outcome"),
    [
        pytest.param(in_mesh(), Injected, id="monitored-since-just-now"),
        pytest.param(factory.namespace("shop", monitored=False), Skip, id="not-monitored"),
    ],
)
def test_namespace_unknown_to_the_snapshot_is_read(
    written: RawObject, outcome: type[object]
) -> None:
    desk = Desk(written=(written,))
    assert isinstance(desk.inject(), outcome)


def test_namespace_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(InjectionError, match="namespace shop not found"):
        Desk().inject()


def test_nothing_is_injected_before_objects_are_read() -> None:
    desk = Desk(in_mesh())
    desk.snapshot = None
    with pytest.raises(InjectionError, match="still reading objects"):
        desk.inject()


@pytest.mark.parametrize(
    ("mode", "init", "containers"),
    [
        pytest.param("auto", ["osm-init", "envoy"], ["app"], id="platform-decides"),
        pytest.param("native", ["osm-init", "envoy"], ["app"], id="native"),
        pytest.param("container", ["osm-init"], ["app", "envoy"], id="container"),
    ],
)
def test_layout_is_as_mesh_config_says(mode: str, init: list[str], containers: list[str]) -> None:
    desk = Desk(in_mesh(), factory.mesh_config(sidecar={"mode": mode}))
    found = desk.inject()
    assert isinstance(found, Injected)
    spec = found.pod["spec"]
    assert [c["name"] for c in spec["initContainers"]] == init
    assert [c["name"] for c in spec["containers"]] == containers


@pytest.mark.parametrize(
    ("written", "image"),
    [
        pytest.param((), "envoy:1", id="none"),
        pytest.param(
            (factory.mesh_config(sidecar={"envoyImage": "envoy:new"}),), "envoy:new", id="new"
        ),
        pytest.param(
            (factory.mesh_config(sidecar={"concurrency": "many"}),), "envoy:1", id="refused"
        ),
    ],
)
def test_mesh_config_unknown_to_the_snapshot_is_read(
    written: tuple[RawObject, ...], image: str
) -> None:
    desk = Desk(in_mesh(), written=written)
    found = desk.inject()
    assert isinstance(found, Injected)
    assert found.pod["spec"]["initContainers"][-1]["image"] == image


def test_failure_to_issue_writes_nothing() -> None:
    desk = Desk(in_mesh())
    desk.provider.failing = {NAME}
    with pytest.raises(CertificateError):
        desk.inject()
    assert desk.writer.calls == []


def test_copy_of_a_pod_starts_from_a_copy_of_its_secret() -> None:
    desk = Desk(in_mesh())
    first = desk.inject()
    assert isinstance(first, Injected)
    again = desk.inject(first.pod)
    assert isinstance(again, Injected)
    assert again.pod["metadata"]["labels"]["osm-proxy-uuid"] == SECOND_UUID
    assert len(desk.writer.objects) == 2


def test_copy_of_a_pod_whose_secret_is_gone_is_an_error() -> None:
    desk = Desk(in_mesh())
    first = desk.inject()
    assert isinstance(first, Injected)
    desk.writer.objects.clear()
    with pytest.raises(InjectionError, match="is gone"):
        desk.inject(first.pod)
