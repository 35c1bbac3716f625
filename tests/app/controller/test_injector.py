from __future__ import annotations

from typing import Any

import factory
import pytest
from fakes.clock import FakeClock
from fakes.provider import FakeProvider
from fakes.writer import FakeWriter

from app.certs.manager import Certificates
from app.controller.decisions import Decision, DecisionLog, Outcome
from app.controller.injector import InjectionScope, Injector
from app.errors import CertificateError, InjectionError, UnreachableError
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
SWITCH = "openservicemesh.io/sidecar-injection"
ENABLED, DISABLED = {SWITCH: "enabled"}, {SWITCH: "disabled"}
OPTIONS = InjectionOptions(
    mesh_name="osm",
    product_version="2.0.0",
    ads=AdsServer(host="10.0.0.1", server_name="controller", certificate_names=("ads",)),
    envoy_image="envoy:1",
    init_container_image="osm:2",
    native=True,
)
SCOPE = InjectionScope(osm_namespace="osm-system", config_name="osm-mesh-config", options=OPTIONS)


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
        self.metrics = Metrics()
        self.provider = FakeProvider(self.clock)
        self.writer = FakeWriter(*written)
        self.snapshot: MeshSnapshot | None = factory.snapshot(*objects)
        certificates = Certificates(
            self.provider, self.clock, post=lambda _: None, metrics=self.metrics
        )
        self.injector = Injector(
            certificates,
            self.writer,
            snapshot=lambda: self.snapshot,
            scope=SCOPE,
            decisions=DecisionLog(self.clock, self.metrics),
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
    desk = Desk(in_mesh())
    found = desk.inject(bare_pod(**DISABLED))
    assert found == Skip(reason=f"the Pod's annotation {SWITCH} is disabled")
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


@pytest.mark.parametrize(
    ("shown", "written", "outcome"),
    [
        pytest.param({}, ENABLED, Injected, id="enabled-a-moment-ago"),
        pytest.param(DISABLED, ENABLED, Injected, id="no-longer-disabled"),
        pytest.param({SWITCH: "maybe"}, ENABLED, Injected, id="mistake-mended"),
        pytest.param(DISABLED, DISABLED, Skip, id="disabled"),
    ],
)
def test_no_of_a_monitored_namespace_is_confirmed_by_the_api_server(
    shown: dict[str, str], written: dict[str, str], outcome: type[object]
) -> None:
    desk = Desk(
        factory.namespace("shop", annotations=shown),
        written=(factory.namespace("shop", annotations=written),),
    )
    assert isinstance(desk.inject(), outcome)


def test_label_taken_off_a_moment_ago_does_not_keep_a_pod_bare() -> None:
    ignored = factory.namespace(
        "shop", labels={"openservicemesh.io/ignore": "true"}, annotations=ENABLED
    )
    assert isinstance(Desk(ignored, written=(in_mesh(),)).inject(), Injected)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(factory.mesh_config(sidecar={"mode": "native"}), id="with-settings"),
        pytest.param(factory.mesh_config(), id="all-defaults"),
    ],
)
def test_yes_of_the_snapshot_costs_no_read(config: RawObject) -> None:
    desk = Desk(in_mesh(), config)
    desk.writer.failing = {"read": UnreachableError("no API server")}
    assert isinstance(desk.inject(), Injected)


@pytest.mark.parametrize(
    ("objects", "verb", "message"),
    [
        pytest.param((), "read", "Namespace shop cannot be read now; try again", id="namespace"),
        pytest.param(
            (in_mesh(),),
            "read",
            "MeshConfig osm-system/osm-mesh-config cannot be read now; try again",
            id="mesh-config",
        ),
        pytest.param(
            (in_mesh(),),
            "create",
            "the sidecar's Secret cannot be created now; try again",
            id="secret",
        ),
    ],
)
def test_pod_is_refused_while_the_api_server_does_not_answer(
    objects: tuple[RawObject, ...], verb: str, message: str
) -> None:
    desk = Desk(*objects)
    desk.writer.failing = {verb: UnreachableError("no API server")}
    with pytest.raises(InjectionError) as error:
        desk.inject()
    assert str(error.value) == f"{message} (no API server)"


def test_decisions_are_kept_and_counted() -> None:
    desk = Desk(in_mesh())
    desk.inject()
    unnamed = bare_pod(**DISABLED)
    unnamed["metadata"] |= {"name": "", "generateName": "buyer-"}
    desk.inject(unnamed, dry_run=True)
    with pytest.raises(InjectionError):
        desk.inject(bare_pod(**{SWITCH: "maybe"}))
    decision = {"at": desk.clock.now(), "namespace": "shop"}
    assert desk.injector.recent() == (
        Decision(
            **decision,
            pod="buyer-1",
            outcome=Outcome.INJECTED,
            reason="runs as buyer.shop",
            uuid=UUID,
        ),
        Decision(
            **decision,
            pod="buyer-*",
            outcome=Outcome.SKIPPED,
            reason=f"the Pod's annotation {SWITCH} is disabled",
            dry_run=True,
        ),
        Decision(
            **decision,
            pod="buyer-1",
            outcome=Outcome.REFUSED,
            reason=f"Pod annotation {SWITCH}: 'maybe' is unknown; write enabled or disabled",
        ),
    )
    assert [desk.metrics.injections.get(str(one)) for one in Outcome] == [1, 1, 1]


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


def test_copy_without_labels_starts_from_the_secret_of_its_volume() -> None:
    desk = Desk(in_mesh())
    first = desk.inject()
    assert isinstance(first, Injected)
    del first.pod["metadata"]["labels"]
    again = desk.inject(first.pod)
    assert isinstance(again, Injected)
    assert again.pod["metadata"]["labels"] == {"osm-proxy-uuid": SECOND_UUID}
    (volume,) = again.pod["spec"]["volumes"]
    assert volume["secret"]["secretName"] == f"envoy-bootstrap-config-{SECOND_UUID}"


def test_copy_of_a_pod_whose_secret_is_gone_is_an_error() -> None:
    desk = Desk(in_mesh())
    first = desk.inject()
    assert isinstance(first, Injected)
    desk.writer.objects.clear()
    with pytest.raises(InjectionError, match="is gone"):
        desk.inject(first.pod)
