"""Limits of an UpstreamTrafficSetting are kept by real sidecars, with a real shared service."""

from collections.abc import Iterator
from typing import Any

import pytest
from e2e.policies.arbitration import HOST, NOBODY, PORT, arbiter, asked, forget
from e2e.policies.policy_mesh import REACTION_SECONDS, PolicyMesh
from e2e.policies.test_upstream_settings import many, setting

pytestmark = [pytest.mark.root, pytest.mark.envoy]

PATHS = """
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: web, namespace: shop}
spec:
  matches:
    - {name: pay, pathRegex: /pay, methods: [GET, POST]}
    - {name: open, pathRegex: /open, methods: [GET]}
    - {name: all, pathRegex: .*, methods: [GET]}
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: web, namespace: shop}
spec:
  destination: {kind: ServiceAccount, name: web-v1, namespace: shop}
  sources: [{kind: ServiceAccount, name: buyer, namespace: shop}]
  rules: [{kind: HTTPRouteGroup, name: web, matches: [pay, all]}]
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: visitors, namespace: shop}
spec:
  destination: {kind: ServiceAccount, name: web-v1, namespace: shop}
  sources: [{kind: ServiceAccount, name: visitor, namespace: shop}]
  rules: [{kind: HTTPRouteGroup, name: web, matches: [open]}]
---
"""
ONE = {"http": {"maxRequestsPerConnection": 1}}
"""Open connections keep the filters they began with until they are drained."""
STRICT = {"enablePermissiveTrafficPolicyMode": False}


@pytest.fixture(scope="module")
def shared(mesh: PolicyMesh) -> Iterator[PolicyMesh]:
    """The mesh with a shared rate-limit service."""
    with arbiter(mesh):
        yield mesh


def statuses(mesh: PolicyMesh, host: str, path: str = "/", count: int = 6, **how: str) -> list[int]:
    """What the buyer is answered, one request after the other."""
    return [status for status, _, _ in many(mesh, host, path, count, **how)]


def in_chain(mesh: PolicyMesh, workload: str, filter_name: str) -> bool:
    """True when the workload's sidecar has a filter of the name."""
    return f'"{filter_name}' in mesh.envoy(workload, "config_dump?resource=dynamic_listeners")


def local(requests: int, **more: Any) -> dict[str, Any]:
    return {"requests": requests, "unit": "hour", **more}


def test_local_limit_counts_requests_of_its_service_only(mesh: PolicyMesh) -> None:
    limit = local(
        2,
        burst=1,
        responseStatusCode=503,
        responseHeadersToAdd=[{"name": "X-Why", "value": "100% full"}],
    )
    with mesh.apply(
        setting("web-v1", connectionSettings=ONE, rateLimit={"local": {"http": limit}})
    ):
        refused = mesh.wait_for(503, "buyer", "web-v1.shop")
        assert refused.headers["x-why"] == "100% full"
        # The same Pod serves this one, on the same port.
        assert statuses(mesh, "web.shop") == [200] * 6
    mesh.wait(lambda: not in_chain(mesh, "web-v1", "envoy.filters.http.local_ratelimit"))
    assert statuses(mesh, "web-v1.shop") == [200] * 6


def test_local_limit_lets_through_as_many_as_it_says(mesh: PolicyMesh) -> None:
    limit = local(3, burst=2)
    with mesh.apply(
        setting("web-v1", connectionSettings=ONE, rateLimit={"local": {"http": limit}})
    ):
        mesh.wait(lambda: in_chain(mesh, "web-v1", "envoy.filters.http.local_ratelimit"))
        mesh.wait(lambda: "max_tokens" in mesh.envoy("web-v1", "config_dump"))
        assert statuses(mesh, "web-v1.shop", count=8) == [200] * 5 + [429] * 3


def test_limit_of_a_route_stands_instead_of_the_hosts(mesh: PolicyMesh) -> None:
    spec = {
        "rateLimit": {"local": {"http": local(2)}},
        "httpRoutes": [{"path": "/pay", "rateLimit": {"local": local(4)}}],
    }
    with (
        mesh.configured(traffic=STRICT),
        mesh.apply(PATHS + setting("web-v1", connectionSettings=ONE, **spec)),
    ):
        mesh.wait(lambda: "max_tokens" in mesh.envoy("web-v1", "config_dump"))
        mesh.wait_for(429, "buyer", "web-v1.shop", "/other")
        by_post = [mesh.ask("buyer", "web-v1.shop", "/pay", method="POST").status] * 2
        assert by_post + statuses(mesh, "web-v1.shop", "/pay", 5) == [200] * 5 + [429] * 2


def test_local_limit_counts_connections(mesh: PolicyMesh) -> None:
    limit = {"connections": 2, "unit": "hour"}
    with mesh.apply(setting("feed", rateLimit={"local": {"tcp": limit}})):
        mesh.wait(lambda: in_chain(mesh, "feed", "envoy.filters.network.local_ratelimit"))
        found = [mesh.talk("buyer", "feed.shop", 9000) for _ in range(4)]
        assert found[:2] == ["HELLO"] * 2
        assert "HELLO" not in found[2:]
    mesh.wait(lambda: mesh.talk("buyer", "feed.shop", 9000) == "HELLO")


def service(port: int = PORT, domain: str = "three", **more: Any) -> dict[str, Any]:
    """The shared service, patient enough for a slow machine."""
    server = {"host": HOST, "port": port}
    return {"rateLimitService": server, "domain": domain, "timeout": "5s", **more}


def counted(key: str, value: str) -> dict[str, Any]:
    return {"entries": [{"genericKey": {"key": key, "value": value}}]}


def test_shared_limit_counts_by_descriptors(shared: PolicyMesh) -> None:
    header = {"name": "x-tier", "prefix": "gold"}
    descriptors = [
        {
            "entries": [
                {"genericKey": {"value": "100%"}},
                {"requestHeader": {"name": "X-User", "key": "user"}},
                {"remoteAddress": {}},
            ]
        },
        {"entries": [{"headerValueMatch": {"value": "yes", "key": "gold", "headers": [header]}}]},
    ]
    limit = service(descriptors=descriptors, enableXRateLimitHeaders=True, responseStatusCode=503)
    forget(shared)
    with shared.apply(
        setting("web-v1", connectionSettings=ONE, rateLimit={"global": {"http": limit}})
    ):
        refused = shared.wait_for(503, "buyer", "web-v1.shop", headers={"x-user": "ann"})
        assert refused.headers["x-ratelimit-remaining"] == "0"
        # Another user has a count of her own; without the header nothing is counted.
        assert statuses(shared, "web-v1.shop", count=4, x_user="bea") == [200] * 3 + [503]
        assert statuses(shared, "web-v1.shop", count=5) == [200] * 5
        assert statuses(shared, "web-v1.shop", count=4, x_tier="golden") == [200] * 3 + [503]
        assert statuses(shared, "web.shop", count=5, x_user="ann") == [200] * 5
        seen = [one["entries"] for one in asked(shared)]
        assert seen[-1] == [["gold", "yes"]]
        (generic, user, remote) = seen[0]
        assert (generic, user) == (["generic_key", "100%"], ["user", "ann"])
        assert remote[0] == "remote_address"


def test_descriptors_of_a_route_stand_instead_of_the_hosts(shared: PolicyMesh) -> None:
    spec = {
        "rateLimit": {"global": {"http": service(descriptors=[counted("at", "host")])}},
        "httpRoutes": [
            {"path": "/pay", "rateLimit": {"global": {"descriptors": [counted("at", "pay")]}}}
        ],
    }
    with (
        shared.configured(traffic=STRICT),
        shared.apply(PATHS + setting("web-v1", connectionSettings=ONE, **spec)),
    ):
        shared.wait(lambda: in_chain(shared, "web-v1", "envoy.filters.http.ratelimit"))
        shared.wait_for(429, "buyer", "web-v1.shop", "/other")
        assert statuses(shared, "web-v1.shop", "/pay", 5) == [200] * 3 + [429] * 2
        assert {str(one["entries"]) for one in asked(shared)} >= {"[['at', 'pay']]"}


@pytest.mark.parametrize(
    ("fail_open", "status"),
    [pytest.param(True, 200, id="open"), pytest.param(False, 500, id="closed")],
)
def test_requests_while_the_shared_service_is_down(
    shared: PolicyMesh, fail_open: bool, status: int
) -> None:
    limit = service(NOBODY, descriptors=[counted("a", "b")], failOpen=fail_open)
    with shared.apply(
        setting("web-v1", connectionSettings=ONE, rateLimit={"global": {"http": limit}})
    ):
        shared.wait(lambda: in_chain(shared, "web-v1", "envoy.filters.http.ratelimit"))
        shared.wait_for(status, "buyer", "web-v1.shop")
        errors = "ratelimit.shop_web-v1.error"
        shared.wait(lambda: count(shared, "web-v1", errors) > 0, REACTION_SECONDS)
        assert statuses(shared, "web-v1.shop", count=3) == [status] * 3


def count(mesh: PolicyMesh, workload: str, name: str) -> int:
    """The sum of all counters whose name ends so."""
    lines = mesh.envoy(workload, "stats").splitlines()
    pairs = [line.rpartition(": ") for line in lines]
    return sum(int(value) for found, _, value in pairs if found.endswith(name))


@pytest.mark.parametrize(
    ("port", "fail_open", "heard"),
    [
        pytest.param(PORT, True, 3, id="up"),
        pytest.param(NOBODY, True, 5, id="down-and-open"),
        pytest.param(NOBODY, False, 0, id="down-and-closed"),
    ],
)
def test_shared_limit_counts_connections(
    shared: PolicyMesh, port: int, fail_open: bool, heard: int
) -> None:
    forget(shared)
    descriptors = [{"entries": [{"key": "to", "value": "feed"}]}]
    limit = service(port, descriptors=descriptors, failOpen=fail_open)
    with shared.apply(setting("feed", rateLimit={"global": {"tcp": limit}})):
        shared.wait(lambda: in_chain(shared, "feed", "envoy.filters.network.ratelimit"))
        found = [shared.talk("buyer", "feed.shop", 9000) for _ in range(5)]
        assert found.count("HELLO") == heard
    shared.wait(lambda: shared.talk("buyer", "feed.shop", 9000) == "HELLO")
