"""The real gRPC server over mutual TLS, and scripted Envoys on the same machine."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import grpc
import pytest
from fakes.envoy import Ended, FakeEnvoy, Keys
from fakes.mesh_view import FakeIdentity, FakeReader, Notebook
from fakes.script_client import CDS, EDS, LDS, MESH, RDS, SDS

from app.certs.x509 import SigningRoot, new_root
from app.ports import CertificateRequest
from xds.policy.identity import Issuer, Issuers, ProxyId, ServiceIdentity
from xds.resource import Layer, Resource, ResourceKind, ResourceSet
from xds.server.hub import Hub, Patience
from xds.server.ports import Admission, ServerIdentity
from xds.server.serve import AdsServer, ListenError
from xds.stream.wire import Protocol

NOW = datetime.now(UTC)
BOTH = pytest.mark.parametrize("protocol", list(Protocol), ids=lambda p: p.name)
CART = ServiceIdentity(namespace="shop", service_account="cart")
SERVER_NAME = "ads.cluster.local"


def root() -> SigningRoot:
    return SigningRoot.parse(new_root(now=NOW), now=NOW, where="test")


def keys(signer: SigningRoot, *dns_names: str, uris: tuple[str, ...] = ()) -> Keys:
    request = CertificateRequest(
        common_name=None, dns_names=dns_names, uris=uris, lifetime=timedelta(hours=1)
    )
    pair = signer.issue(request, now=NOW).key_pair
    return Keys(roots=signer.certificate_pem, chain=pair.certificate_chain, key=pair.private_key)


def server_identity(signer: SigningRoot) -> ServerIdentity:
    made = keys(signer, SERVER_NAME)
    assert made.chain is not None
    assert made.key is not None
    return ServerIdentity(certificate_chain=made.chain, private_key=made.key, roots=made.roots)


ROOT = root()


def proxy(number: int) -> ProxyId:
    return ProxyId(uuid=str(UUID(int=number)), identity=CART)


A, B, C = proxy(1), proxy(2), proxy(3)
KEYS = {p.uuid: keys(ROOT, Issuer().proxy_dns_name(p)) for p in (A, B, C)}


def config(**bodies: dict[str, str]) -> ResourceSet:
    """As in the scripts, but bodies start with the name: state of the world shows no other."""
    return ResourceSet(
        [
            Layer(
                Resource.of(ResourceKind(k), n, f"{n}{b if b != '1' else ''}".encode())
                for k, named in bodies.items()
                for n, b in named.items()
            )
        ]
    )


@dataclass
class World:
    reader: FakeReader
    notes: Notebook
    identity: FakeIdentity
    hub: Hub
    server: AdsServer
    port: int

    def publish(self, target: ResourceSet, *proxies: ProxyId) -> int:
        self.reader.sets |= {p.uuid: target for p in proxies or (A, B, C)}
        return self.hub.wake()

    def envoy(self, who: ProxyId = A, **more: object) -> FakeEnvoy:
        client = KEYS[who.uuid]
        return FakeEnvoy(self.port, client, node_id=who.uuid, **more)  # type: ignore[arg-type]


Start = Callable[..., World]


@pytest.fixture
def start() -> Iterator[Start]:
    servers: list[AdsServer] = []

    def start(pool_size: int = 8, **more: float) -> World:
        reader, notes, identity = FakeReader(), Notebook(), FakeIdentity(server_identity(ROOT))
        hub = Hub(reader, notes, patience=Patience(**more))
        server = AdsServer(hub, identity, host="127.0.0.1", port=0, pool_size=pool_size)
        servers.append(server)
        return World(reader, notes, identity, hub, server, server.start())

    yield start
    for server in servers:
        server.stop(0)


@pytest.fixture
def world(start: Start) -> World:
    world = start()
    world.reader.sets |= {p.uuid: config(**MESH) for p in (A, B, C)}
    return world


def connect(envoy: FakeEnvoy) -> None:
    """Ask for all that the mesh has and accept it."""
    for kind in (CDS, EDS, SDS, LDS, RDS):
        envoy.subscribe(kind, *(() if kind.is_wildcard else MESH[kind]))
        assert envoy.take().bodies.keys() == MESH[kind].keys()


# Serving ------------------------------------------------------------------------------------------


@BOTH
def test_a_proxy_is_served_what_is_current_and_then_what_changes(
    world: World, protocol: Protocol
) -> None:
    with world.envoy(protocol=protocol) as envoy:
        connect(envoy)
        assert world.hub.wait_until_settled(10)
        changed = config(**{**MESH, "RDS": {"r": "2"}})
        assert world.publish(changed) == 1
        response = envoy.take()
        assert (response.kind, response.version) == (RDS, changed.versions[RDS])
        assert world.hub.wait_until_settled(10)
        (status,) = world.hub.ledger.statuses()
        assert {k: s.acked_version for k, s in status.kinds.items()} == changed.versions
        assert {k: s.sent_version for k, s in status.kinds.items()} == changed.versions


def test_equal_content_wakes_and_sends_nothing(world: World) -> None:
    with world.envoy() as envoy:
        connect(envoy)
        world.notes.wait_for("requested", A.uuid, RDS, times=2)
        assert world.publish(config(**MESH)) == 0
        assert envoy.is_silent()


def test_only_the_proxies_that_a_change_concerns_are_woken(world: World) -> None:
    with world.envoy(A) as first, world.envoy(B) as second:
        connect(first)
        connect(second)
        assert world.hub.wait_until_settled(10)
        assert world.publish(config(**{**MESH, "EDS": {"a": "2", "b": "1"}}), B) == 1
        assert second.take().bodies == {"a": b"a2"}
        assert first.is_silent()


def test_a_change_taken_back_while_a_stream_looks_at_it_reaches_the_stream(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, changed = config(**MESH), config(**{**MESH, "RDS": {"r": "2"}})
    world.publish(before)
    with world.envoy() as envoy:
        connect(envoy)
        assert world.hub.wait_until_settled(10)
        current = world.reader.current

        def look(proxy: ProxyId) -> ResourceSet | None:
            found = current(proxy)
            if threading.current_thread().name.startswith("xds-stream"):
                monkeypatch.undo()
                assert world.publish(before) == 1
            return found

        monkeypatch.setattr(world.reader, "current", look)
        world.publish(changed)
        assert [envoy.take().bodies, envoy.take().bodies] == [{"r": b"r2"}, {"r": b"r"}]


def test_nothing_is_sent_before_the_configuration_is_complete(start: Start) -> None:
    world = start()
    with world.envoy() as envoy:
        envoy.subscribe(CDS)
        world.notes.wait_for("requested", A.uuid, CDS)
        assert world.hub.lagging() == world.hub.connected()
        assert not world.hub.wait_until_settled(0)
        world.publish(config(**MESH))
        assert envoy.take().bodies.keys() == MESH["CDS"].keys()
        assert world.hub.wait_until_settled(10)


def test_a_delta_reconnect_with_what_is_current_sends_nothing(world: World) -> None:
    target = config(**MESH)
    with world.envoy() as envoy:
        for kind in (CDS, EDS, LDS, RDS, SDS):
            held = {r.name: r.version for r in target.resources(kind)}
            envoy.subscribe(kind, *(() if kind.is_wildcard else MESH[kind]), held=held)
        assert envoy.is_silent()
        assert world.hub.wait_until_settled(10)
        (status,) = world.hub.ledger.statuses()
        assert {k: s.acked_version for k, s in status.kinds.items()} == target.versions


def test_a_refusal_is_kept_and_not_sent_again(world: World) -> None:
    with world.envoy() as envoy:
        connect(envoy)
        bad = config(**{**MESH, "LDS": {"in": "2", "out": "1"}})
        world.publish(bad)
        envoy.answer(envoy.next(), "no such filter")
        world.notes.wait_for("nacked", A.uuid, LDS, bad.versions[LDS], "no such filter")
        world.publish(config(**{**MESH, "LDS": {"in": "2", "out": "1"}}))
        assert envoy.is_silent()
        (status,) = world.hub.ledger.statuses()
        assert status.kinds[LDS].rejected_version == bad.versions[LDS]
        assert status.kinds[LDS].rejected_detail == "no such filter"
        assert status.kinds[LDS].acked_version == config(**MESH).versions[LDS]
        assert [info.proxy for info in world.hub.lagging()] == [A]


@BOTH
def test_secrets_come_alone_over_their_own_service(world: World, protocol: Protocol) -> None:
    with world.envoy(protocol=protocol, service="SDS") as envoy:
        envoy.subscribe(SDS, "service-cert", "somebody-elses-cert")
        response = envoy.take()
        assert response.bodies == {"service-cert": b"service-cert"}
        envoy.subscribe(CDS)
        world.publish(config(**{**MESH, "SDS": {"service-cert": "2"}}))
        assert list(envoy.take().bodies.values()) == [b"service-cert2"]
        assert world.hub.connected() == ()
        assert world.hub.ledger.statuses() == ()


# Admission ----------------------------------------------------------------------------------------


def refused(world: World, envoy: FakeEnvoy, *, ask: bool = True) -> Ended:
    with envoy:
        if ask:
            envoy.subscribe(CDS)
        return envoy.ended()


def test_a_certificate_of_another_root_is_refused(world: World) -> None:
    stranger = replace(keys(root(), Issuer().proxy_dns_name(A)), roots=ROOT.certificate_pem)
    ended = refused(world, FakeEnvoy(world.port, stranger, node_id=A.uuid))
    assert ended.code is grpc.StatusCode.UNAVAILABLE


def test_a_client_without_certificate_is_refused(world: World) -> None:
    nobody = Keys(roots=ROOT.certificate_pem)
    ended = refused(world, FakeEnvoy(world.port, nobody, node_id=A.uuid))
    assert ended.code is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("cart.shop.cluster.local", id="a-workload-certificate"),
        pytest.param("not-a-uuid.sidecar.cart.shop.cluster.local", id="no-uuid"),
        pytest.param(f"{A.uuid}.gateway.cart.shop.cluster.local", id="another-kind"),
        pytest.param(f"{A.uuid}.sidecar.cart.shop.other.domain", id="another-trust-domain"),
    ],
)
def test_a_certificate_that_names_no_sidecar_is_refused(world: World, name: str) -> None:
    ended = refused(world, FakeEnvoy(world.port, keys(ROOT, name), node_id=A.uuid))
    assert ended.code is grpc.StatusCode.PERMISSION_DENIED
    world.notes.wait_for("refused", ended.details, "E5001")


def test_a_certificate_without_names_is_refused(world: World) -> None:
    client = keys(ROOT, uris=("spiffe://cluster.local/cart/shop",))
    ended = refused(world, FakeEnvoy(world.port, client, node_id=A.uuid))
    assert ended.code is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("uris", "code"),
    [
        pytest.param((Issuer().proxy_uri(A),), None, id="agrees"),
        pytest.param((Issuer().proxy_uri(B),), grpc.StatusCode.PERMISSION_DENIED, id="another"),
        pytest.param((), grpc.StatusCode.PERMISSION_DENIED, id="missing"),
    ],
)
def test_with_spiffe_the_uri_must_name_the_same_proxy(
    world: World, uris: tuple[str, ...], code: grpc.StatusCode | None
) -> None:
    issuer = Issuer(spiffe=True)
    world.reader.trusted = Issuers(signing=issuer, validating=issuer)
    client = keys(ROOT, issuer.proxy_dns_name(A), uris=uris)
    with FakeEnvoy(world.port, client, node_id=A.uuid) as envoy:
        envoy.subscribe(CDS)
        if code is None:
            assert envoy.take().kind is CDS
        else:
            assert envoy.ended().code is code


def test_a_proxy_that_calls_itself_by_another_uuid_is_refused(world: World) -> None:
    ended = refused(world, FakeEnvoy(world.port, KEYS[A.uuid], node_id=B.uuid))
    assert ended.code is grpc.StatusCode.PERMISSION_DENIED
    assert B.uuid in ended.details
    assert ("connected", A.uuid) not in world.notes.notes


def test_bytes_that_are_no_request_end_the_stream(world: World) -> None:
    with world.envoy() as envoy:
        envoy.send_bytes(b"\xff\xff")
        assert envoy.ended().code is grpc.StatusCode.INVALID_ARGUMENT
    with world.envoy() as envoy:
        connect(envoy)
        envoy.send_bytes(b"\xff\xff")
        assert envoy.ended().code is grpc.StatusCode.INVALID_ARGUMENT


def test_a_client_that_asks_for_nothing_is_sent_away(start: Start) -> None:
    ended = refused(world := start(first_request_seconds=0.05), world.envoy(), ask=False)
    assert ended.code is grpc.StatusCode.UNAVAILABLE
    assert "asked for nothing" in ended.details


def test_news_do_not_prolong_the_wait_for_a_first_request(start: Start) -> None:
    world = start(first_request_seconds=0.3)
    with world.envoy() as envoy:
        deadline = time.monotonic() + 5
        while not world.hub.wake():
            assert time.monotonic() < deadline
        while world.hub.wake():
            assert time.monotonic() < deadline
        assert envoy.ended().code is grpc.StatusCode.UNAVAILABLE


def test_a_sidecar_quicker_than_the_news_of_its_pod_waits(world: World) -> None:
    world.reader.admissions[A.uuid] = Admission.UNKNOWN_POD
    with world.envoy() as envoy:
        envoy.subscribe(CDS)
        envoy.subscribe(LDS)
        while not world.hub.wake():
            pass
        assert world.hub.connected() == ()
        world.reader.admissions[A.uuid] = Admission.ADMITTED
        world.hub.wake()
        assert [envoy.take().kind, envoy.take().kind] == [CDS, LDS]


def test_a_sidecar_whose_pod_never_comes_may_try_again(start: Start) -> None:
    world = start(pod_seconds=0.05)
    world.reader.admissions[A.uuid] = Admission.UNKNOWN_POD
    ended = refused(world, world.envoy())
    assert ended.code is grpc.StatusCode.UNAVAILABLE
    world.notes.wait_for("refused", ended.details, "E5002")


def test_a_pod_of_another_account_is_refused(world: World) -> None:
    world.reader.admissions[A.uuid] = Admission.WRONG_ACCOUNT
    ended = refused(world, world.envoy())
    assert ended.code is grpc.StatusCode.PERMISSION_DENIED
    world.notes.wait_for("refused", ended.details, "E5010")


def test_no_more_proxies_than_allowed_are_let_in(world: World) -> None:
    world.reader.most = 1
    with world.envoy(A) as envoy:
        connect(envoy)
        ended = refused(world, world.envoy(B))
        assert ended.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        with world.envoy(A) as again:
            connect(again)
    world.notes.wait_for("gone", A.uuid, times=2)
    with world.envoy(B) as envoy:
        connect(envoy)


def test_a_refused_stream_gives_its_place_back(world: World) -> None:
    world.reader.most = 1
    world.reader.admissions[A.uuid] = Admission.WRONG_ACCOUNT
    refused(world, world.envoy(A))
    with world.envoy(B) as envoy:
        connect(envoy)


def test_one_stream_too_many_for_the_pool_fails_at_once(start: Start) -> None:
    world = start(pool_size=2)
    world.reader.sets |= {p.uuid: config(**MESH) for p in (A, B, C)}
    with world.envoy(A) as first, world.envoy(B) as second:
        connect(first)
        connect(second)
        assert refused(world, world.envoy(C)).code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_one_proxy_does_not_take_the_pool_from_all(start: Start) -> None:
    world = start(pool_size=20)
    world.reader.sets |= {p.uuid: config(**MESH) for p in (A, B, C)}
    with ExitStack() as streams:
        for _ in range(16):
            streams.enter_context(world.envoy(A))
        while world.hub.wake() < 16:
            pass
        ended = refused(world, world.envoy(A))
        assert ended.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "16 streams already" in ended.details
        connect(streams.enter_context(world.envoy(B)))


# Ends ---------------------------------------------------------------------------------------------


def test_a_proxy_that_leaves_is_reported_gone(world: World) -> None:
    with world.envoy() as envoy:
        connect(envoy)
        assert [info.proxy for info in world.hub.connected()] == [A]
    world.notes.wait_for("gone", A.uuid)
    assert world.hub.connected() == ()
    assert world.hub.ledger.statuses()[0].gone_at is not None


def test_the_older_stream_of_a_proxy_ends_after_the_first_request_of_the_newer(
    world: World,
) -> None:
    with world.envoy() as old, world.envoy(service="SDS") as secrets:
        connect(old)
        secrets.subscribe(SDS, "service-cert")
        secrets.take()
        new = world.envoy()
        connect(new)
        ended = old.ended()
        assert ended.code is grpc.StatusCode.ABORTED
        assert "newer" in ended.details
        world.publish(config(**{**MESH, "SDS": {"service-cert": "2"}}))
        assert [new.take().kind, secrets.take().kind] == [SDS, SDS]
        new.close()


def test_streams_end_when_their_pod_goes(world: World) -> None:
    with world.envoy(A) as one, world.envoy(B) as other:
        connect(one)
        connect(other)
        world.hub.close(A, "its Pod was deleted")
        assert one.ended() == Ended(grpc.StatusCode.ABORTED, "its Pod was deleted")
        assert other.is_silent()


def test_draining_ends_all_streams_and_lets_none_in(world: World) -> None:
    with world.envoy(A) as envoy:
        connect(envoy)
        world.hub.drain()
        assert envoy.ended().code is grpc.StatusCode.UNAVAILABLE
    assert refused(world, world.envoy(B)).code is grpc.StatusCode.UNAVAILABLE


def test_a_failure_of_ours_ends_the_stream_and_is_logged(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with world.envoy() as envoy:
        connect(envoy)
        world.reader.sets[A.uuid] = object()  # type: ignore[assignment]
        with pytest.raises(AttributeError):
            world.hub.wake()
        world.hub._list()[0].mailbox.wake()
        assert envoy.ended() == Ended(grpc.StatusCode.INTERNAL, "the control plane failed")
    assert "a stream failed" in caplog.text


def test_a_port_that_is_taken_is_a_clear_error(world: World) -> None:
    second = AdsServer(world.hub, world.identity, host="127.0.0.1", port=world.port, pool_size=1)
    with pytest.raises(ListenError, match=f"cannot listen for proxies on 127.0.0.1:{world.port}"):
        second.start()


# Rotation -----------------------------------------------------------------------------------------


def test_a_new_root_is_used_without_a_restart(world: World) -> None:
    other = root()
    with world.envoy() as old:
        connect(old)
        world.identity.identity = server_identity(other)
        client = keys(other, Issuer().proxy_dns_name(B))
        with FakeEnvoy(world.port, client, node_id=B.uuid) as new:
            connect(new)
            assert old.is_silent()


def test_large_configurations_pass(world: World) -> None:
    clusters = {f"c{n}": "x" * 1_000_000 for n in range(10)}
    world.publish(config(CDS=clusters))
    with world.envoy(protocol=Protocol.SOTW) as envoy:
        envoy.subscribe(CDS)
        assert sum(map(sys.getsizeof, envoy.take().bodies.values())) > 10_000_000
