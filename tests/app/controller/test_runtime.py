from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import factory
import pytest
from fakes.clock import START, FakeClock
from fakes.source import FakeSource
from fakes.writer import FakeWriter

from app import logs
from app.certs.builtin import ca_secret_key
from app.certs.x509 import describe, new_root
from app.controller.runtime import Runtime, SidecarPlatform
from app.errors import CaError, UnreachableError
from app.inject.plan import Injected
from app.inject.secret import secret_files
from app.metrics import parse_samples
from app.objects.meta import ObjectKind, RawObject
from app.ports import Compute
from app.settings import Settings
from xds.policy.identity import ProxyId, ServiceIdentity
from xds.resource import ResourceKind
from xds.server.serve import ListenError

CA = ca_secret_key("osm-system", "osm-ca-bundle")
OBJECTS = (
    factory.namespace("shop", annotations={"openservicemesh.io/sidecar-injection": "enabled"}),
    factory.pod("shop/store"),
    factory.service("shop/store"),
)


def settings(**changes: Any) -> Settings:
    values: dict[str, Any] = {"ads_host": "127.0.0.1", "ads_port": 0, "stream_pool_size": 4}
    return Settings(**(values | changes))


def compute(*objects: RawObject, silent: tuple[ObjectKind, ...] = ()) -> Compute:
    source = FakeSource(*objects, silent=silent)
    return Compute(source=source, writer=FakeWriter(), envoy_admin=None)


@contextmanager
def running(made: Compute, **changes: Any) -> Iterator[Runtime]:
    runtime = Runtime(
        settings(**changes), made, platform=SidecarPlatform(ads_host="10.0.0.1"), clock=FakeClock()
    )
    try:
        runtime.start(timeout_seconds=5)
        yield runtime
    finally:
        runtime.stop()


def mesh_threads() -> set[str]:
    names = {thread.name for thread in threading.enumerate()}
    return {name for name in names if name in {"loop", "certs", "upkeep"} or "xds" in name}


def test_started_runtime_is_ready_and_a_stopped_one_leaves_nothing_running() -> None:
    made = compute(*OBJECTS)
    with running(made) as runtime:
        assert runtime.not_ready() == ()
        assert runtime.snapshot is not None
        assert [view.service.name for view in runtime.snapshot.services.views] == ["store"]
        assert runtime.ads_port > 0
        assert mesh_threads() >= {"loop", "certs", "upkeep"}
    assert runtime.not_ready() == ("the control plane has stopped",)
    assert mesh_threads() == set()
    assert isinstance(made.source, FakeSource)
    assert made.source.stopped
    runtime.stop()


def test_nothing_is_served_before_the_start() -> None:
    runtime = Runtime(settings(), compute())
    assert runtime.not_ready() == ("the control plane has not been started",)
    assert (runtime.snapshot, runtime.certificates(), runtime.connected()) == (None, (), ())
    with pytest.raises(UnreachableError, match="has not been started"):
        _ = runtime.injector
    with pytest.raises(UnreachableError, match="has not been started"):
        _ = runtime.ads_port
    runtime.stop()


def test_objects_that_do_not_come_are_named() -> None:
    made = compute(silent=(ObjectKind.SERVICE, ObjectKind.POD))
    runtime = Runtime(settings(), made)
    with pytest.raises(UnreachableError, match=r"after 0\.05 s: Pod, Service"):
        runtime.start(timeout_seconds=0.05)
    assert runtime.not_ready() == (
        "objects are being read",
        "the certificates of the control plane are not issued",
        "ADS is not served",
    )
    runtime.stop()
    assert mesh_threads() == set()


def test_damaged_root_stops_the_start() -> None:
    made = compute(*OBJECTS)
    damaged = {"kind": "Secret", "metadata": {"namespace": CA.namespace, "name": CA.name}}
    made.writer.create(damaged)
    with pytest.raises(CaError, match=r"has no ca\.crt"), running(made):
        pass
    assert mesh_threads() == set()


def test_port_that_is_taken_stops_the_start() -> None:
    with (
        running(compute()) as first,
        pytest.raises(ListenError, match=str(first.ads_port)),
        running(compute(), ads_port=first.ads_port),
    ):
        pass


def test_certificates_exist_for_the_server_and_for_identities_with_pods() -> None:
    made = compute(*OBJECTS)
    with running(made) as runtime:
        wait_for(lambda: len(runtime.certificates()) == 2)
        facts = {
            record.name: describe(record.certificate_chain).dns_names
            for record in runtime.certificates()
        }
    assert facts == {
        "ads": ("ads.cluster.local", "osm-controller.osm-system.svc.cluster.local"),
        "store.shop": ("store.shop.cluster.local",),
    }


def test_mesh_config_decides_the_kind_of_keys() -> None:
    config = factory.mesh_config(certificate={"certKeyBitSize": 2048})
    made = compute(config)
    with running(made):
        stored = made.writer.read(CA)
    assert stored is not None
    facts = describe(secret_files(stored)["ca.crt"])
    assert "RSA" in facts.signature_algorithm


def test_mesh_config_decides_how_long_certificates_live() -> None:
    config = factory.mesh_config(certificate={"serviceCertValidityDuration": "2h"})
    with running(compute(*OBJECTS, config)) as runtime:
        wait_for(lambda: len(runtime.certificates()) == 2)
        (store,) = [one for one in runtime.certificates() if one.name == "store.shop"]
    # A certificate is valid from a little before it was issued.
    assert timedelta(hours=2) <= store.not_after - store.not_before < timedelta(hours=3)


def test_pods_are_injected_with_the_address_of_the_server() -> None:
    made = compute(*OBJECTS)
    pod = factory.pod("shop/new", sidecar=False)
    pod["spec"]["containers"][0]["image"] = "new:1"
    with running(made) as runtime:
        injected = runtime.injector.inject(pod, namespace="shop")
        assert isinstance(injected, Injected)
        uuid = injected.pod["metadata"]["labels"]["osm-proxy-uuid"]
        (secret,) = [raw for raw in made.writer.objects.values() if uuid in raw["metadata"]["name"]]
        bootstrap = secret_files(secret)["bootstrap.yaml"].decode()
        assert "10.0.0.1" in bootstrap
        assert str(runtime.ads_port) in bootstrap


def test_metrics_tell_what_runs() -> None:
    with running(compute(*OBJECTS)) as runtime:
        page = runtime.metrics.render().decode()
    assert 'osm_version_info{build_date="",git_commit="",version="' in page
    assert "osm_proxies_rejecting 0.0" in page
    assert "osm_proxies_lagging 0.0" in page
    assert "osm_resource_namespace_count 1.0" in page


def test_proxy_that_does_not_answer_for_half_a_minute_lags() -> None:
    clock = FakeClock()
    runtime = Runtime(settings(), compute(), clock=clock)
    identity = ServiceIdentity(namespace="shop", service_account="store")
    proxy = ProxyId(uuid=factory.uuid_of("shop/store"), identity=identity)
    runtime.ledger.opened(proxy, 1, peer="peer", now=clock.now())
    runtime.ledger.sent(proxy, 1, kind=ResourceKind.CDS, version="v1", now=clock.now())
    lagging = []
    for seconds in (30, 1):
        clock.advance(timedelta(seconds=seconds))
        lagging.append(b"osm_proxies_lagging 1.0" in runtime.metrics.render())
    runtime.ledger.acked(proxy, 1, kind=ResourceKind.CDS, version="v1", now=clock.now())
    lagging.append(b"osm_proxies_lagging 1.0" in runtime.metrics.render())
    assert lagging == [False, True, False]


def test_root_that_ends_soon_is_told() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    root = new_root(now=START - timedelta(days=3500))
    data = {"ca.crt": root.certificate_chain, "private.key": root.private_key}
    secret = {
        "kind": "Secret",
        "metadata": {"namespace": CA.namespace, "name": CA.name},
        "data": {name: base64.b64encode(pem).decode() for name, pem in data.items()},
    }
    made = compute()
    made.writer.create(secret)
    with running(made) as runtime:
        page = runtime.metrics.render().decode()
    messages = [json.loads(line)["message"] for line in stream.getvalue().splitlines()]
    assert "the mesh's root expires soon; replace it" in messages
    (ratio,) = [s.value for s in parse_samples(page) if s.name == "osm_root_cert_remaining_ratio"]
    assert 0 < ratio < 0.1


@pytest.mark.parametrize("on", [True, False])
def test_objects_are_logged_where_that_is_asked_for(on: bool) -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    made = compute(*OBJECTS, factory.mesh_config(observability={"osmLogLevel": "debug"}))
    logs.set_level("debug")
    with running(made, log_kubernetes_events=on):
        pass
    heard = [json.loads(line).get("object") for line in stream.getvalue().splitlines()]
    assert ("Service shop/store" in heard) is on


def wait_for(condition: Any) -> None:
    """The condition holds within a few seconds; asked again and again."""
    moment = threading.Event()
    for _ in range(500):
        if condition():
            return
        moment.wait(0.01)
    raise AssertionError("the condition did not come true")
