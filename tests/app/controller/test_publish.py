from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import factory
import pytest
from fakes.clock import FakeClock

from app import logs
from app.controller.loop import MeshState
from app.controller.publish import CurrentConfig, Publisher
from app.events import ObjectDeleted, ObjectEvent
from app.mesh.catalog.compile import Catalog
from app.mesh.refresh import LiveMesh, MeshScope
from app.mesh.snapshot import MeshSnapshot
from app.metrics import Metrics
from app.objects.meta import ObjectKey, ObjectKind, RawObject
from xds.policy.identity import Issuer, Issuers, ProxyId, ServiceIdentity
from xds.policy.proxy import KeyPair, ProxyPolicy, ProxyProfile, SecretTable, TrustBundle
from xds.resource import ResourceKind, ResourceSet
from xds.server.ports import Admission

ACCOUNTS = ("buyer", "thief", "store", "other")


def endpoints(name: str, *numbers: int) -> RawObject:
    ready = {f"{name}-{n}": f"10.1.{ACCOUNTS.index(name)}.{n}" for n in numbers}
    return factory.endpoints(f"shop/{name}", ready)


def pods(name: str, *numbers: int) -> list[RawObject]:
    return [factory.pod(f"shop/{name}-{n}", account=name, labels={"app": name}) for n in numbers]


def target(source: str, to: str) -> RawObject:
    path = f"shop/{source}-{to}"
    return factory.traffic_target(path, to=to, sources=[f"{source}.shop"], groups=["all"])


MESH = [
    factory.namespace("shop"),
    factory.mesh_config(),
    factory.route_group("shop/all", everything=".*"),
    *pods("buyer", 1, 2),
    *pods("thief", 1),
    *pods("store", 1, 2),
    *pods("other", 1),
    factory.service("shop/store"),
    factory.service("shop/other"),
    endpoints("store", 1),
    endpoints("other", 1),
    target("buyer", "store"),
    target("thief", "other"),
]


def proxy(name: str, number: int = 1) -> ProxyId:
    return ProxyId(
        uuid=factory.uuid_of(f"shop/{name}-{number}"),
        identity=ServiceIdentity(namespace="shop", service_account=name),
    )


BUYER, BUYER2, THIEF, STORE = proxy("buyer"), proxy("buyer", 2), proxy("thief"), proxy("store")


def pair(name: str, generation: int = 1) -> KeyPair:
    return KeyPair(
        certificate_chain=f"chain {name} {generation}".encode(), private_key=name.encode()
    )


def secrets(*names: str, trust: str = "roots", **generations: int) -> SecretTable:
    table = {
        ServiceIdentity(namespace="shop", service_account=name): pair(
            name, generations.get(name, 1)
        )
        for name in names
    }
    return SecretTable(trust=TrustBundle(roots=trust.encode()), workloads=table)


class Desk:
    """A publisher with a real mesh and fake streams, driven by hand."""

    def __init__(self, *objects: RawObject) -> None:
        self.clock = FakeClock()
        self.mesh = LiveMesh(MeshScope(), Issuers())
        self.current = CurrentConfig()
        self.metrics = Metrics()
        self.breaking = Breaking()
        self.publisher = Publisher(
            self.current,
            self,
            metrics=self.metrics,
            new_catalog=self.breaking,
            monotonic=self.clock.monotonic,
        )
        self.wakes = 0
        self.closed: list[tuple[ProxyId, str]] = []
        self.pairs = {name: pair(name) for name in ACCOUNTS}
        self.secrets: SecretTable | None = secrets(*ACCOUNTS)
        self.connected: frozenset[ProxyId] = frozenset()
        self.snapshot: MeshSnapshot = self.refresh(objects or MESH)

    def wake(self) -> int:
        self.wakes += 1
        return 0

    def close(self, proxy: ProxyId, reason: str) -> None:
        self.closed.append((proxy, reason))

    def refresh(self, objects: Iterable[RawObject], *events: ObjectEvent) -> MeshSnapshot:
        changed = [factory.changed(obj) for obj in objects]
        self.snapshot = self.mesh.refresh([*changed, *events])
        return self.snapshot

    def publish(self, *, anew: bool = False) -> Counter[str]:
        """What had to be built."""
        before = Counter[str]() if anew else self.publisher.cache.built.copy()
        self.publisher.publish(
            MeshState(snapshot=self.snapshot, secrets=self.secrets, connected=self.connected),
            anew=anew,
        )
        return self.publisher.cache.built - before

    def connect(self, *proxies: ProxyId) -> Counter[str]:
        self.connected |= set(proxies)
        return self.publish()

    def change(self, *objects: RawObject) -> tuple[Counter[str], dict[str, set[str]]]:
        """What was built, and per proxy whose configuration is another one, the kinds that are."""
        before = {proxy: self.current.current(proxy) for proxy in self.connected}
        self.refresh(objects)
        built = self.publish()
        return built, self.differing(before)

    def differing(self, before: dict[ProxyId, ResourceSet | None]) -> dict[str, set[str]]:
        found = {}
        for proxy, old in before.items():
            new = self.current.current(proxy)
            if new is not old and new is not None and old is not None:
                kinds = {str(k) for k in ResourceKind if new.versions[k] != old.versions[k]}
                found[proxy.identity.service_account] = kinds
        return found


def built_resources(built: Counter[str]) -> dict[str, int]:
    return {name: count for name, count in built.items() if name.startswith("build_")}


def test_nothing_is_sent_before_the_certificate_exists() -> None:
    desk = Desk()
    desk.secrets = None
    desk.connect(BUYER)
    assert desk.current.current(BUYER) is None
    desk.secrets = secrets("store")
    desk.publish()
    assert desk.current.current(BUYER) is None
    desk.secrets = secrets("buyer")
    desk.publish()
    found = desk.current.current(BUYER)
    assert found is not None
    assert set(found.names(ResourceKind.EDS)) == {"shop/store|8080"}
    assert desk.wakes == 3


def test_replicas_share_one_set_and_only_connected_profiles_are_built() -> None:
    desk = Desk()
    desk.connect(BUYER, BUYER2)
    assert desk.current.current(BUYER) is desk.current.current(BUYER2)
    assert desk.current.current(THIEF) is None
    assert built_resources(desk.connect()) == {}


def test_second_replica_builds_nothing() -> None:
    desk = Desk()
    desk.connect(BUYER)
    assert desk.connect(BUYER2) == Counter()
    assert desk.current.current(BUYER2) is desk.current.current(BUYER)


def test_endpoint_change_builds_one_resource_and_concerns_its_callers_only() -> None:
    desk = Desk()
    desk.connect(BUYER, THIEF, STORE)
    built, differing = desk.change(endpoints("store", 1, 2))
    assert built_resources(built) == {"build_load_assignment": 1}
    assert differing == {"buyer": {"EDS"}}


def test_new_certificate_concerns_its_identity_only() -> None:
    desk = Desk()
    desk.connect(BUYER, THIEF, STORE)
    before = {proxy: desk.current.current(proxy) for proxy in desk.connected}
    old = desk.secrets
    assert old is not None
    who = BUYER.identity
    desk.secrets = SecretTable(
        trust=old.trust, workloads={**old.workloads, who: pair("buyer", generation=2)}
    )
    built = desk.publish()
    assert built_resources(built) == {"build_service_certificate": 1}
    assert desk.differing(before) == {"buyer": {"SDS"}}


def test_new_roots_concern_all() -> None:
    desk = Desk()
    desk.connect(BUYER, THIEF)
    before = {proxy: desk.current.current(proxy) for proxy in desk.connected}
    old = desk.secrets
    assert old is not None
    desk.secrets = SecretTable(trust=TrustBundle(roots=b"two"), workloads=old.workloads)
    desk.publish()
    assert desk.differing(before) == {"buyer": {"SDS"}, "thief": {"SDS"}}


def test_policy_change_concerns_those_it_names() -> None:
    desk = Desk()
    desk.connect(BUYER, THIEF, STORE)
    _, differing = desk.change(target("thief", "store"))
    assert differing == {"thief": {"LDS", "RDS", "CDS", "EDS", "SDS"}, "store": {"RDS"}}


RETRIES = factory.mesh_config(featureFlags={"enableRetryPolicy": True})
BOUND = {"connectionSettings": {"http": {"maxRequests": 1}}}


def setting(**spec: Any) -> RawObject:
    return factory.traffic_setting("shop/s", host="store.shop.svc", **spec)


@pytest.mark.parametrize(
    ("changed", "differing"),
    [
        pytest.param(setting(**BOUND), {"buyer": {"CDS"}}, id="bounds-of-connections"),
        pytest.param(setting(timeouts={"request": "1s"}), {"buyer": {"RDS"}}, id="times"),
        pytest.param(
            setting(httpRoutes=[{"path": ".*", "timeouts": {"request": "1s"}}]),
            {"store": {"RDS"}},
            id="times-of-a-route",
        ),
        pytest.param(
            setting(loadBalancer={"policy": "Maglev", "hashOn": [{"header": "a"}]}),
            {"buyer": {"CDS", "RDS"}},
            id="balancing",
        ),
        pytest.param(setting(mirror={"service": "other"}), {}, id="copies-to-whom-nobody-may-call"),
        pytest.param(
            factory.traffic_setting("shop/s", host="outside.example", **BOUND), {}, id="no-service"
        ),
        pytest.param(
            factory.retry("shop/r", to={"name": "store"}, source="buyer"),
            {"buyer": {"RDS"}},
            id="retry",
        ),
        pytest.param(
            factory.retry("shop/r", to={"name": "store"}, source="thief"), {}, id="retry-of-nothing"
        ),
    ],
)
def test_policy_changes_what_it_speaks_of(
    changed: RawObject, differing: dict[str, set[str]]
) -> None:
    desk = Desk(*MESH, RETRIES)
    desk.connect(BUYER, THIEF, STORE)
    assert desk.change(changed)[1] == differing


def test_checks_concern_clients_only() -> None:
    desk = Desk()
    desk.connect(BUYER, THIEF, STORE)
    checks = factory.mesh_config(featureFlags={"enableEnvoyActiveHealthChecks": True})
    assert desk.change(checks)[1] == {"buyer": {"CDS"}, "thief": {"CDS"}}


def test_equal_policy_keeps_the_very_same_set() -> None:
    desk = Desk()
    desk.connect(BUYER, STORE)
    built, differing = desk.change(
        target("thief", "other") | {"metadata": {"name": "b", "namespace": "shop"}}
    )
    assert (built_resources(built), differing) == ({}, {})


def test_same_objects_give_same_versions_after_a_restart() -> None:
    first, second = Desk(), Desk(*reversed(MESH))
    first.connect(BUYER, STORE)
    second.connect(STORE, BUYER)
    for one in (BUYER, STORE):
        mine, theirs = first.current.current(one), second.current.current(one)
        assert mine is not None
        assert theirs is not None
        assert mine.versions == theirs.versions


def test_stranger_is_closed_and_gets_nothing() -> None:
    desk = Desk()
    desk.connect(BUYER)
    key = ObjectKey(kind=ObjectKind.POD, namespace="shop", name="buyer-1")
    desk.refresh([], ObjectDeleted(key=key))
    desk.publish()
    assert desk.closed == [(BUYER, "no Pod of the mesh carries its UUID")]
    assert desk.current.current(BUYER) is None


def test_namespace_that_leaves_the_mesh_takes_its_proxies_along() -> None:
    desk = Desk()
    desk.connect(BUYER, STORE)
    desk.refresh([factory.namespace("shop", monitored=False)])
    desk.publish()
    assert {proxy for proxy, _ in desk.closed} == {BUYER, STORE}


@pytest.mark.parametrize(
    ("who", "admission"),
    [
        pytest.param(BUYER, Admission.ADMITTED, id="pod-known"),
        pytest.param(proxy("buyer", 9), Admission.UNKNOWN_POD, id="pod-unknown"),
        pytest.param(
            ProxyId(uuid=BUYER.uuid, identity=THIEF.identity),
            Admission.WRONG_ACCOUNT,
            id="account-differs",
        ),
    ],
)
def test_admission_asks_for_the_pod(who: ProxyId, admission: Admission) -> None:
    desk = Desk()
    assert desk.current.admit(who) is Admission.UNKNOWN_POD
    desk.publish()
    assert desk.current.admit(who) is admission


def test_reader_answers_before_anything_is_published() -> None:
    current = CurrentConfig()
    assert current.issuers() == Issuers()
    assert (current.current(BUYER), current.max_connections()) == (None, 0)


def test_reader_tells_issuers_and_bound_of_the_snapshot() -> None:
    desk = Desk()
    issuers = Issuers(signing=Issuer(trust_domain="td"), validating=Issuer(trust_domain="td"))
    desk.mesh = LiveMesh(MeshScope(), issuers)
    desk.refresh([factory.mesh_config(sidecar={"maxDataPlaneConnections": 7})])
    desk.publish()
    assert (desk.current.issuers(), desk.current.max_connections()) == (issuers, 7)


class Breaking:
    """Makes compiling fail for the buyer while ``on``, or its policy unsound."""

    def __init__(self) -> None:
        self.on = False
        self.unsound = False
        self.calls = 0

    def __call__(self, snapshot: MeshSnapshot) -> Catalog:
        breaking = self

        class BreakingCatalog(Catalog):
            def compile(self, profile: ProxyProfile) -> ProxyPolicy:
                if breaking.on and profile.identity == BUYER.identity:
                    breaking.calls += 1
                    raise KeyError("a fault of ours")
                policy = super().compile(profile)
                return with_bad_port(policy) if breaking.unsound else policy

        return BreakingCatalog(snapshot)


def test_profile_that_cannot_be_built_keeps_its_last_good_set() -> None:
    desk = Desk()
    desk.connect(BUYER, THIEF)
    good = desk.current.current(BUYER)
    desk.breaking.on = True
    _, differing = desk.change(target("buyer", "other"), target("thief", "store"))
    assert set(differing) == {"thief"}
    assert desk.current.current(BUYER) is good
    assert desk.publisher.problems == ("buyer.shop keeps an old configuration: 'a fault of ours'",)
    assert b"osm_profiles_failing 1.0" in desk.metrics.render()
    desk.breaking.on = False
    desk.publish()
    found = desk.current.current(BUYER)
    assert found is not None
    assert set(found.names(ResourceKind.EDS)) == {"shop/other|8080", "shop/store|8080"}
    assert desk.publisher.problems == ()


def with_bad_port(policy: ProxyPolicy) -> ProxyPolicy:
    (port,) = policy.outbound.http
    outbound = replace(policy.outbound, http=(port, replace(port, port=70_000)))
    return replace(policy, outbound=outbound)


def test_unsound_part_is_left_out_and_told() -> None:
    desk = Desk()
    desk.breaking.unsound = True
    desk.connect(BUYER)
    found = desk.current.current(BUYER)
    assert found is not None
    assert set(found.names(ResourceKind.RDS)) == {"rds-outbound.80"}
    assert desk.publisher.problems == (
        "buyer.shop lacks outbound_70000_http: port 70000 is not between 1 and 65535",
    )
    desk.breaking.unsound = False
    desk.change(target("buyer", "other"))
    assert desk.publisher.problems == ()


def test_same_failure_is_logged_once() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    desk = Desk()
    desk.breaking.on = True
    desk.connect(BUYER)
    desk.publish()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["identity"], line["error_code"]) for line in lines] == [("buyer.shop", "E5007")]
    assert desk.breaking.calls == 2


def test_pod_whose_new_profile_cannot_be_built_keeps_what_it_had() -> None:
    desk = Desk()
    desk.connect(BUYER)
    good = desk.current.current(BUYER)
    desk.breaking.on = True
    desk.change(factory.service("shop/front", selector={"app": "buyer"}), endpoints("buyer", 1))
    assert desk.breaking.calls > 0
    assert desk.current.current(BUYER) is good


def test_profile_is_kept_while_its_proxy_reconnects() -> None:
    desk = Desk()
    desk.connect(BUYER, THIEF)
    good = desk.current.current(BUYER)
    desk.connected = frozenset([THIEF])
    desk.publish()
    assert desk.current.current(BUYER) is None
    desk.clock.advance(timedelta(seconds=59))
    desk.publish()
    assert built_resources(desk.connect(BUYER)) == {}
    assert desk.current.current(BUYER) is good


def test_profile_is_forgotten_a_minute_after_its_last_proxy() -> None:
    desk = Desk()
    desk.connect(BUYER, THIEF)
    desk.connected = frozenset([THIEF])
    desk.publish()
    desk.clock.advance(timedelta(seconds=60))
    desk.publish()
    assert built_resources(desk.connect(BUYER)) != {}


def test_profile_that_was_idle_catches_up() -> None:
    desk = Desk()
    desk.connect(BUYER, THIEF)
    desk.connected = frozenset([THIEF])
    desk.publish()
    desk.refresh([endpoints("store", 1, 2)])
    desk.publish()
    built = desk.connect(BUYER)
    assert built_resources(built) == {"build_load_assignment": 1}


def test_building_is_timed_by_what_changed() -> None:
    desk = Desk()
    desk.connect(BUYER, THIEF)
    desk.change(endpoints("store", 1, 2))
    page = desk.metrics.render().decode()
    counts = {
        kind: f'osm_proxy_config_update_time_count{{resource_type="{kind}",success="true"}}'
        for kind in ("all", "EDS")
    }
    assert f"{counts['all']} 2.0" in page
    assert f"{counts['EDS']} 1.0" in page


def test_all_that_is_built_anew_is_the_same() -> None:
    desk = Desk()
    first = desk.connect(BUYER, STORE)
    before = {proxy: desk.current.current(proxy) for proxy in desk.connected}
    assert desk.publish() == Counter()
    assert built_resources(desk.publish(anew=True)) == built_resources(first)
    assert desk.differing(before) == {"buyer": set(), "store": set()}
    assert desk.publish() == Counter()


def test_profile_that_cannot_be_built_anew_keeps_what_it_has() -> None:
    desk = Desk()
    desk.connect(BUYER, THIEF)
    before = {proxy: desk.current.current(proxy) for proxy in desk.connected}
    desk.breaking.on = True
    desk.publish(anew=True)
    assert desk.current.current(BUYER) is before[BUYER]
    assert desk.differing(before) == {"thief": set()}
