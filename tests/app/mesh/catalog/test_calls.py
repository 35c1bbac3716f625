"""Settings, retries, copies and canaries by match in what clients are given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import snapshots

from app.mesh.catalog.access import Reach
from app.mesh.catalog.calls import with_retries
from app.mesh.catalog.compile import Catalog
from app.mesh.catalog.inbound import compile_inbound
from app.mesh.catalog.outbound import OutboundCompiler
from app.mesh.policies.part import Policies
from app.mesh.snapshot import MeshSnapshot
from app.objects.upstream import UpstreamTrafficSettingSpec
from xds.policy.http import HttpMatch
from xds.policy.settings import (
    PLAIN_ROUTE,
    ClusterSettings,
    Connections,
    HashKey,
    Mirror,
    RetryPolicy,
    RoutePolicy,
    Timeouts,
)
from xds.policy.traffic import Outbound, SplitRule

service, view = snapshots.service, snapshots.view
WEB = view("shop/web", "10.0.0.1", port_name="http")
V2 = view("shop/v2", "10.0.0.2")
NAMED = view(service("shop/named", 81, 81), "10.0.0.3", port_name="http")
FEED = view(service("shop/feed", 80, 9090, "tcp"), "10.0.0.4")
CHECKS = {"featureFlags": {"enableEnvoyActiveHealthChecks": True}}
RETRY = RetryPolicy(retry_on="5xx")
CANARY = (HttpMatch(path="/a"), HttpMatch(path="/a/b"))


def mesh(
    *views: Any, settings: Mapping[str, Mapping[str, Any]] | None = None, **fields: Any
) -> MeshSnapshot:
    """A snapshot with UpstreamTrafficSettings by Service; in permissive mode unless told."""
    upstreams = {
        f"shop/{name}": UpstreamTrafficSettingSpec.model_validate({"host": name, **spec})
        for name, spec in (settings or {}).items()
    }
    found = snapshots.mesh(*(views or (WEB, V2, NAMED, FEED)), **fields)
    return replace(found, policies=Policies(upstreams=upstreams))


def outbound(found: MeshSnapshot, reach: Reach = None) -> Outbound:
    return OutboundCompiler(found).compile(reach, "shop")


def route(found: Outbound, name: str = "web") -> RoutePolicy:
    (host,) = [h for port in found.http for h in port.hosts if h.rule.service.name == name]
    return host.policy


def rule(found: Outbound, name: str = "web") -> SplitRule:
    (host,) = [h for port in found.http for h in port.hosts if h.rule.service.name == name]
    return host.rule


def cluster(found: Outbound, name: str) -> ClusterSettings:
    (upstream,) = [up for up in found.upstreams if up.service.name == name]
    return upstream.settings


def names(found: Outbound) -> list[str]:
    return [upstream.service.name for upstream in found.upstreams]


def reach(*accounts: str) -> Reach:
    return frozenset(snapshots.identity(one) for one in accounts)


def test_connections_are_those_of_the_cluster_and_times_those_of_the_route() -> None:
    found = outbound(
        mesh(
            settings={
                "web": {
                    "connectionSettings": {"tcp": {"maxConnections": 1}},
                    "timeouts": {"request": "1s"},
                }
            }
        )
    )
    bound = ClusterSettings(connections=Connections(max_connections=1))
    assert cluster(found, "web") == bound
    assert route(found) == RoutePolicy(timeouts=Timeouts(request_seconds=1))
    assert cluster(found, "v2") == ClusterSettings()
    assert route(found, "v2") == PLAIN_ROUTE


def test_backend_keeps_its_own_bounds_and_the_route_is_that_of_the_root() -> None:
    found = outbound(
        mesh(
            splits=[snapshots.split("shop/web", {"v2": 1})],
            settings={
                "web": {"timeouts": {"request": "1s"}},
                "v2": {
                    "timeouts": {"request": "2s"},
                    "connectionSettings": {"http": {"maxRequests": 2}},
                },
            },
        )
    )
    assert cluster(found, "v2").connections == Connections(max_requests=2)
    assert route(found).timeouts == Timeouts(request_seconds=1)
    assert route(found, "v2").timeouts == Timeouts(request_seconds=2)


BY_USER = {"loadBalancer": {"policy": "RingHash", "hashOn": [{"header": "user"}]}}
BY_TEAM = {"loadBalancer": {"policy": "Maglev", "hashOn": [{"header": "team"}]}}


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        pytest.param({}, (), id="nobody-hashes"),
        pytest.param({"web": BY_USER, "v2": BY_TEAM}, (HashKey(header="user"),), id="root-first"),
        pytest.param({"v2": BY_TEAM}, (HashKey(header="team"),), id="else-a-backend"),
        pytest.param({"feed": BY_TEAM}, (), id="not-of-others"),
    ],
)
def test_requests_are_hashed_by_the_dialled_service_or_a_backend(
    settings: dict[str, Any], keys: tuple[HashKey, ...]
) -> None:
    splits = [snapshots.split("shop/web", {"v2": 1})]
    assert route(outbound(mesh(splits=splits, settings=settings))).hash_keys == keys


def test_checks_are_of_all_clusters_and_only_with_the_flag() -> None:
    found = outbound(mesh(settings={"web": {"timeouts": {"idle": "1s"}}}, config=CHECKS))
    assert {up.settings for up in found.upstreams} == {ClusterSettings(health_check=True)}
    assert {up.settings for up in outbound(mesh()).upstreams} == {ClusterSettings()}


@pytest.mark.parametrize(
    ("mirror", "expected"),
    [
        pytest.param({"service": "v2"}, Mirror(service=V2.service, percent=100), id="all"),
        pytest.param(
            {"service": "v2", "percentage": 0.5},
            Mirror(service=V2.service, percent=0.5),
            id="some",
        ),
        pytest.param({"service": "v2", "percentage": 0}, None, id="none"),
        pytest.param(
            {"service": "named"}, Mirror(service=NAMED.service, percent=100), id="by-port-name"
        ),
        pytest.param({"service": "feed"}, None, id="not-http"),
        pytest.param({"service": "web"}, None, id="itself"),
        pytest.param({"service": "gone"}, None, id="nobody"),
    ],
)
def test_copies_go_to_a_service_with_the_port(
    mirror: dict[str, Any], expected: Mirror | None
) -> None:
    assert route(outbound(mesh(settings={"web": {"mirror": mirror}}))).mirror == expected


@pytest.mark.parametrize(
    ("allowed", "copies", "clusters"),
    [
        pytest.param(("shop/web", "shop/v2"), True, ["v2", "web"], id="both"),
        pytest.param(("shop/web",), False, ["web"], id="not-the-mirror"),
    ],
)
def test_copies_only_where_the_client_may_call(
    allowed: tuple[str, ...], copies: bool, clusters: list[str]
) -> None:
    found = outbound(mesh(settings={"web": {"mirror": {"service": "v2"}}}), reach(*allowed))
    assert (route(found).mirror is not None, names(found)) == (copies, clusters)


def test_mirror_without_address_of_its_own_has_a_cluster() -> None:
    silent = view("shop/v2")
    found = outbound(mesh(WEB, silent, settings={"web": {"mirror": {"service": "v2"}}}))
    assert names(found) == ["v2", "web"]


def weights(upstreams: Any) -> dict[str, int]:
    return {upstream.service.name: upstream.weight for upstream in upstreams}


@pytest.mark.parametrize(
    ("allowed", "matches", "spread", "others"),
    [
        pytest.param(None, CANARY[::-1], {"v2": 9}, {"web": 100}, id="all"),
        pytest.param(
            reach("shop/web", "shop/v2"), CANARY[::-1], {"v2": 9}, {"web": 100}, id="both"
        ),
        pytest.param(reach("shop/web"), (), {"web": 100}, {}, id="root-only"),
        pytest.param(reach("shop/v2"), CANARY[::-1], {"v2": 9}, {}, id="backend-only"),
    ],
)
def test_requests_that_fit_are_spread(
    allowed: Reach,
    matches: tuple[HttpMatch, ...],
    spread: dict[str, int],
    others: dict[str, int],
) -> None:
    split = replace(snapshots.split("shop/web", {"v2": 9}), matches=CANARY)
    found = rule(outbound(mesh(WEB, V2, splits=[split]), allowed))
    assert found.matches == matches
    assert (weights(found.upstreams), weights(found.others)) == (spread, others)


def test_split_of_no_request_is_no_split() -> None:
    split = replace(snapshots.split("shop/web", {"v2": 1}), matches=())
    found = mesh(WEB, V2, splits=[split])
    assert weights(rule(outbound(found)).upstreams) == {"web": 100}
    assert outbound(found, reach("shop/v2")).http == outbound(mesh(V2), reach("shop/v2")).http


def test_connections_have_no_requests_to_match() -> None:
    db, copy = (view(service(f"shop/{n}", 80, 80, "tcp"), f"10.0.0.{n[-1]}") for n in ("d1", "d2"))
    split = replace(snapshots.split("shop/d1", {"d2": 1}), matches=CANARY)
    (first, _) = outbound(mesh(db, copy, splits=[split])).tcp
    assert weights(first.rule.upstreams) == {"d1": 100}


def test_retries_are_of_one_client_and_the_rest_is_shared() -> None:
    compiler = OutboundCompiler(mesh())
    plain = compiler.compile(None, "shop")
    retried = compiler.compile(None, "shop", (("shop/web", RETRY),))
    assert route(retried).retry == RETRY
    assert route(retried, "v2").retry is None
    assert route(plain).retry is None
    assert compiler.compile(None, "shop", (("shop/web", RETRY),)) is retried
    assert retried.upstreams is plain.upstreams
    assert [port for port in retried.http if port.port == 81] == [
        port for port in plain.http if port.port == 81
    ]
    assert with_retries(plain, (("shop/gone", RETRY),)) is plain


def test_policy_has_the_retries_of_its_identity() -> None:
    found = mesh(permissive=True)
    one = {snapshots.identity("shop/buyer"): (("shop/web", RETRY),)}
    catalog = Catalog(replace(found, policies=Policies(retries=one)))
    buyer = catalog.compile(snapshots.profile("shop/buyer")).outbound
    visitor = catalog.compile(snapshots.profile("shop/visitor")).outbound
    assert route(buyer).retry == RETRY
    assert route(visitor).retry is None
    assert catalog.compile(snapshots.profile("shop/other")).outbound is visitor


def test_server_keeps_times_of_its_routes_and_of_the_root_it_backs() -> None:
    routes = {"httpRoutes": [{"path": ".*", "timeouts": {"request": "1s"}}]}
    found = mesh(
        WEB,
        V2,
        splits=[snapshots.split("shop/web", {"v2": 1})],
        settings={"web": routes},
        permissive=True,
    )
    (port,) = compile_inbound(found, snapshots.identity("shop/v2"), [V2.service]).http
    assert {host.service.name: host.timeouts for host in port.hosts} == {
        "v2": (),
        "web": ((".*", Timeouts(request_seconds=1)),),
    }
