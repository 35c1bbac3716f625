"""From a changed object to what sidecars are sent: real loop, CA, hub and gRPC server over mTLS."""

from __future__ import annotations

import queue
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import factory
import grpc
import pytest
from fakes.source import FakeSource
from fakes.writer import FakeWriter

from app.controller.runtime import Runtime, SidecarPlatform
from app.events import SourceChecked
from app.inject.plan import Injected
from app.inject.secret import bootstrap_key, secret_files
from app.objects.meta import ObjectKind, RawObject, Rejected
from app.ports import Compute
from app.settings import Settings
from xds.policy.identity import ProxyId, ServiceIdentity
from xds.protos import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from xds.resource import ResourceKind

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
ENABLED = {"openservicemesh.io/sidecar-injection": "enabled"}
NAMED = (ResourceKind.EDS, ResourceKind.RDS, ResourceKind.SDS)
SECONDS = 10.0


@dataclass
class Seen:
    """One response, as far as tests look at it."""

    kind: str
    names: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass
class Sidecar:
    """A delta ADS client that takes everything, unless it is told to refuse a kind."""

    proxy: ProxyId
    files: Mapping[str, bytes]
    held: dict[ResourceKind, dict[str, str]] = field(default_factory=dict)
    """Versions it holds, by kind and name: they outlive a stream."""
    seen: list[Seen] = field(default_factory=list)
    refuse: ResourceKind | None = None
    status: Any = None
    """How the stream ended."""

    def connect(self, port: int, names: Mapping[ResourceKind, Iterable[str]]) -> None:
        """All kinds are subscribed to; by name what it holds, at first ``names``."""
        credentials = grpc.ssl_channel_credentials(
            self.files["cacert.pem"], self.files["sds_key.pem"], self.files["sds_cert.pem"]
        )
        # A subchannel of another test to the same port would pass its back-off on.
        options = [
            ("grpc.ssl_target_name_override", "ads.cluster.local"),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        self._channel = grpc.secure_channel(f"127.0.0.1:{port}", credentials, options)
        self._requests: queue.SimpleQueue[DeltaDiscoveryRequest | None] = queue.SimpleQueue()
        for kind in (ResourceKind.CDS, ResourceKind.LDS, *NAMED):
            wanted = self.held.get(kind, names[kind]) if kind in NAMED else ()
            held = self.held.setdefault(kind, {})
            first = DeltaDiscoveryRequest(
                type_url=kind.type_url,
                initial_resource_versions=held,
                resource_names_subscribe=sorted(wanted),
            )
            first.node.id = self.proxy.uuid
            self._requests.put(first)
        stream = self._channel.stream_stream(
            METHOD,
            request_serializer=DeltaDiscoveryRequest.SerializeToString,
            response_deserializer=DeltaDiscoveryResponse.FromString,
        )
        self._call = stream(iter(self._requests.get, None))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._call.cancel()
        self._requests.put(None)
        self._thread.join()
        self._channel.close()

    def ended(self) -> Any:
        """The status code, once the server has ended the stream."""
        self._thread.join(SECONDS)
        return self.status

    def take_seen(self) -> list[Seen]:
        found, self.seen = self.seen, []
        return found

    def _read(self) -> None:
        try:
            for response in self._call:
                self._answer(response)
        except grpc.RpcError as error:
            self.status = error.code()  # type: ignore[attr-defined]

    def _answer(self, response: DeltaDiscoveryResponse) -> None:
        kind = ResourceKind.from_type_url(response.type_url)
        assert kind is not None
        names = tuple(resource.name for resource in response.resources)
        self.seen.append(Seen(str(kind), names, tuple(response.removed_resources)))
        answer = DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
        if kind is self.refuse:
            answer.error_detail.message = "it displeases me"
        else:
            self.held[kind] |= {one.name: one.version for one in response.resources}
        self._requests.put(answer)


class World:
    """A running control plane, its objects, and sidecars connected to it."""

    def __init__(self) -> None:
        self.writer = FakeWriter()
        self.objects: dict[str, RawObject] = {}
        self.sidecars: dict[str, Sidecar] = {}
        self.keep(
            factory.namespace("shop", annotations=ENABLED),
            factory.route_group("shop/all", everything=".*"),
            *(factory.account(f"shop/{who}") for who in ("buyer", "thief", "store", "other")),
            *(factory.service(f"shop/{name}") for name in ("store", "other")),
            *(backend(name, n) for name in ("store", "other") for n in (1, 2)),
            *(endpoints(name, 1) for name in ("store", "other")),
            target("buyer", "store"),
            target("thief", "other"),
        )
        self.port = 0
        self.start()

    def keep(self, *objects: RawObject) -> None:
        for raw in objects:
            self.objects[f"{raw['kind']} {raw['metadata']['name']}"] = raw

    def start(self) -> None:
        self.source = FakeSource(*self.objects.values())
        compute = Compute(source=self.source, writer=self.writer, envoy_admin=None)
        settings = Settings(ads_host="127.0.0.1", ads_port=self.port, stream_pool_size=8)
        self.runtime = Runtime(settings, compute, platform=SidecarPlatform(ads_host="127.0.0.1"))
        self.runtime.start()
        self.port = self.runtime.ads_port

    def restart(self) -> None:
        """A new control plane with the same objects takes over the port."""
        for sidecar in self.sidecars.values():
            sidecar.close()
        self.runtime.stop()
        self.start()
        for sidecar in self.sidecars.values():
            self.connect(sidecar)

    def stop(self) -> None:
        for sidecar in self.sidecars.values():
            sidecar.close()
        self.runtime.stop()

    def put(self, *objects: RawObject) -> None:
        """The objects are as given, and every sidecar has taken what follows from it."""
        self.keep(*objects)
        self.source.put(*objects)
        self.settle()

    def settle(self) -> None:
        assert self.runtime.wait_until_settled(SECONDS)

    def run(self, name: str) -> Sidecar:
        """A new Pod of the account runs, and its sidecar is connected and configured."""
        raw = factory.pod(f"shop/{name}-new", account=name, labels={"app": name}, sidecar=False)
        raw["spec"]["containers"][0]["image"] = "app:1"
        injected = self.runtime.injector.inject(raw, namespace="shop")
        assert isinstance(injected, Injected)
        self.keep(injected.pod)
        self.source.put(injected.pod)
        uuid = injected.pod["metadata"]["labels"]["osm-proxy-uuid"]
        identity = ServiceIdentity(namespace="shop", service_account=name)
        sidecar = Sidecar(
            proxy=ProxyId(uuid=uuid, identity=identity),
            files=secret_files(self.writer.objects[bootstrap_key("shop", uuid)]),
        )
        self.sidecars[name] = sidecar
        assert self.runtime._loop.catch_up(SECONDS)
        self.connect(sidecar)
        return sidecar

    def connect(self, sidecar: Sidecar) -> None:
        sidecar.connect(self.port, WANTED)
        self.wait_for_stream(sidecar)
        self.settle()

    def wait_for_stream(self, sidecar: Sidecar) -> None:
        """The sidecar has asked for every kind and taken what it wants of each."""
        moment = threading.Event()
        for _ in range(int(SECONDS * 100)):
            status = self.runtime.ledger.get(sidecar.proxy.uuid)
            kinds = status.kinds if status is not None else {}
            if {kind for kind, one in kinds.items() if one.acked_version} == set(ResourceKind):
                return
            moment.wait(0.01)
        raise AssertionError(f"{sidecar.proxy} was not served: {sidecar.status}")

    def seen(self) -> dict[str, list[Seen]]:
        """What each sidecar that was sent anything was sent since the last call."""
        self.settle()
        found = {name: sidecar.take_seen() for name, sidecar in self.sidecars.items()}
        return {name: responses for name, responses in found.items() if responses}


WANTED = {
    ResourceKind.EDS: ["shop/store|8080", "shop/other|8080"],
    ResourceKind.RDS: ["rds-inbound.8080", "rds-outbound.80"],
    ResourceKind.SDS: ["service-cert", "root-cert-for-mtls-inbound"],
}


def endpoints(name: str, *numbers: int) -> RawObject:
    return factory.endpoints(
        f"shop/{name}", {f"{name}-{n}": f"10.9.{len(name)}.{n}" for n in numbers}
    )


def backend(name: str, number: int) -> RawObject:
    """A Pod whose sidecar is not connected here."""
    return factory.pod(f"shop/{name}-{number}", account=name, labels={"app": name})


def target(source: str, to: str) -> RawObject:
    path = f"shop/{source}-{to}"
    return factory.traffic_target(path, to=to, sources=[f"{source}.shop"], groups=["all"])


@pytest.fixture
def world() -> Iterator[World]:
    with ExitStack() as stack:
        found = World()
        stack.callback(found.stop)
        yield found


def test_sidecar_is_configured_completely(world: World) -> None:
    buyer = world.run("buyer")
    assert set(buyer.held[ResourceKind.LDS]) >= {"outbound-listener"}
    assert "shop/store|8080" in buyer.held[ResourceKind.CDS]
    assert set(buyer.held[ResourceKind.EDS]) == {"shop/store|8080"}
    assert set(buyer.held[ResourceKind.RDS]) == {"rds-outbound.80"}
    assert set(buyer.held[ResourceKind.SDS]) == {"service-cert", "root-cert-for-mtls-inbound"}
    status = world.runtime.ledger.get(buyer.proxy.uuid)
    assert status is not None
    assert all(kind.acked_version == kind.sent_version for kind in status.kinds.values())


def test_endpoint_change_is_one_resource_for_those_who_call(world: World) -> None:
    for name in ("buyer", "thief", "store"):
        world.run(name)
    world.seen()
    before = world.runtime.publisher.cache.built.copy()
    world.put(endpoints("store", 1, 2))
    built = world.runtime.publisher.cache.built - before
    assert {name: n for name, n in built.items() if name.startswith("build_")} == {
        "build_load_assignment": 1
    }
    assert world.seen() == {"buyer": [Seen("EDS", ("shop/store|8080",), ())]}


def test_what_nobody_reads_is_not_sent(world: World) -> None:
    world.run("buyer")
    world.run("store")
    world.seen()
    service = factory.service("shop/store", meta={"annotations": {"note": "new"}})
    world.put(service | {"status": {"loadBalancer": {}}})
    world.put(factory.namespace("shop", annotations=ENABLED | {"note": "new"}))
    assert world.seen() == {}


def test_bad_object_keeps_what_was_good(world: World) -> None:
    world.run("buyer")
    world.seen()
    bad = Rejected(where="mesh.yaml:7", field="spec.ports", reason="no number", code="E3002")
    world.source._post(SourceChecked(source="mesh.yaml", rejected=(bad,)))
    assert world.seen() == {}
    assert world.runtime.snapshot is not None
    assert bad in world.runtime.snapshot.rejected
    assert b"osm_rejected_objects 1.0" in world.runtime.metrics.render()


def test_restart_sends_nothing_but_new_certificates(world: World) -> None:
    for name in ("buyer", "thief", "store"):
        world.run(name)
    world.seen()
    world.restart()
    certificates = [Seen("SDS", ("service-cert",), ())]
    assert world.seen() == {
        "buyer": certificates,
        "thief": certificates,
        "store": certificates,
    }


def test_revoked_access_takes_routes_and_clusters_away(world: World) -> None:
    buyer = world.run("buyer")
    world.run("store")
    world.seen()
    world.source.delete(ObjectKind.TRAFFIC_TARGET, "shop", "buyer-store")
    seen = world.seen()["buyer"]
    assert [(one.kind, one.removed) for one in seen if one.removed] == [
        ("LDS", ("outbound-listener",)),
        ("CDS", ("shop/store|8080",)),
    ]
    assert buyer.status is None


def test_refusal_is_in_the_book_and_not_repeated(world: World) -> None:
    buyer = world.run("buyer")
    world.seen()
    buyer.refuse = ResourceKind.EDS
    world.source.put(endpoints("store", 1, 2))
    assert not world.runtime.wait_until_settled(0.5)
    status = world.runtime.ledger.get(buyer.proxy.uuid)
    assert status is not None
    assert status.kinds[ResourceKind.EDS].rejected_detail == "it displeases me"
    assert [one.kind for one in buyer.take_seen()] == ["EDS"]
    page = world.runtime.metrics.render()
    assert b"osm_proxies_rejecting 1.0" in page
    buyer.refuse = None
    world.put(endpoints("store", 1))
    assert b"osm_proxies_rejecting 0.0" in world.runtime.metrics.render()


def test_stream_of_a_deleted_pod_is_closed(world: World) -> None:
    buyer = world.run("buyer")
    world.source.delete(ObjectKind.POD, "shop", "buyer-new")
    assert buyer.ended() is grpc.StatusCode.ABORTED
    assert world.runtime._loop.catch_up(SECONDS)
    assert world.runtime.connected() == ()


def offered_certificate(world: World, sidecar: Sidecar, folder: Path) -> bytes:
    """What the server shows to a new connection of the sidecar."""
    for name in ("sds_cert.pem", "sds_key.pem"):
        (folder / name).write_bytes(sidecar.files[name])
    context = ssl.create_default_context(cadata=sidecar.files["cacert.pem"].decode())
    context.load_cert_chain(folder / "sds_cert.pem", folder / "sds_key.pem")
    context.set_alpn_protocols(["h2"])
    address = ("127.0.0.1", world.port)
    with (
        socket.create_connection(address, timeout=SECONDS) as plain,
        context.wrap_socket(plain, server_hostname="ads.cluster.local") as secured,
    ):
        found = secured.getpeercert(binary_form=True)
    assert found is not None
    return found


def test_new_server_certificate_is_offered_without_a_restart(world: World, tmp_path: Path) -> None:
    buyer = world.run("buyer")
    before = offered_certificate(world, buyer, tmp_path)
    assert offered_certificate(world, buyer, tmp_path) == before
    certificates = world.runtime._certification.certificates
    assert certificates is not None
    certificates.hold("ads", dns_names=("ads.cluster.local",))
    assert offered_certificate(world, buyer, tmp_path) != before
    world.put(endpoints("store", 1, 2))
    assert buyer.status is None


def test_stopping_ends_streams_as_unavailable(world: World) -> None:
    buyer = world.run("buyer")
    world.runtime.stop()
    assert buyer.ended() is grpc.StatusCode.UNAVAILABLE
