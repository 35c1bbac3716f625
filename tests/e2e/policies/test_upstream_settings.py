"""An UpstreamTrafficSetting is kept by real sidecars: times, bounds, balancing, copies."""

import json
from collections import Counter
from typing import Any

import pytest
import yaml
from e2e.policies.policy_mesh import PolicyMesh

pytestmark = [pytest.mark.root, pytest.mark.envoy]

MANY = """
import http.client, json, sys, threading
host, path, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
headers = json.loads(sys.argv[4])
answers = []
def ask():
    connection = http.client.HTTPConnection(host, 8000, timeout=10)
    connection.request("GET", path, headers={"connection": "close", **headers})
    answer = connection.getresponse()
    answers.append([answer.status, answer.headers.get("version"), answer.headers.get("set-cookie")])
threads = [threading.Thread(target=ask) for _ in range(count)]
for thread in threads:
    thread.start()
    if sys.argv[5] == "one":
        thread.join()
for thread in threads:
    thread.join()
print(json.dumps(answers))
"""


def setting(service: str, **spec: Any) -> str:
    """An UpstreamTrafficSetting of the Service, as YAML."""
    return yaml.safe_dump(
        {
            "apiVersion": "policy.openservicemesh.io/v1alpha1",
            "kind": "UpstreamTrafficSetting",
            "metadata": {"name": service, "namespace": "shop"},
            "spec": {"host": f"{service}.shop.svc.cluster.local", **spec},
        }
    )


def many(
    mesh: PolicyMesh,
    host: str,
    path: str = "/",
    count: int = 8,
    *,
    together: bool = False,
    **headers: str,
) -> list[tuple[int, str | None, str | None]]:
    """Status, version and cookie of each answer to requests of the buyer."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    words = ["python3", "-c", MANY, host, path, str(count), json.dumps(named)]
    found = json.loads(mesh.exec("buyer", *words, "all" if together else "one"))
    return [tuple(one) for one in found]


def versions(mesh: PolicyMesh, host: str, path: str = "/", **headers: str) -> set[str | None]:
    """Who answers eight requests."""
    return {version for _, version, _ in many(mesh, host, path, **headers)}


def cluster(mesh: PolicyMesh, service: str) -> dict[str, Any]:
    """The cluster of the Service as the buyer's sidecar has it."""
    dump = json.loads(mesh.envoy("buyer", "config_dump?resource=dynamic_active_clusters"))
    (found,) = [
        one["cluster"]
        for one in dump["configs"]
        if one["cluster"]["name"] == f"shop/{service}|{9090 if service == 'feed' else 8080}"
    ]
    return dict(found)


def counter(mesh: PolicyMesh, workload: str, name: str) -> int:
    """A counter of the workload's sidecar; 0 while it has none of the name."""
    lines = mesh.envoy(workload, "stats").splitlines()
    return sum(int(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name}: "))


@pytest.mark.parametrize(
    "timeouts",
    [
        pytest.param({"request": "300ms"}, id="request"),
        pytest.param({"idle": "300ms"}, id="idle"),
    ],
)
def test_client_gives_up_on_a_slow_host(mesh: PolicyMesh, timeouts: dict[str, str]) -> None:
    assert mesh.ask("buyer", "web-v1.shop", "/?sleep=0.6").status == 200
    with mesh.apply(setting("web-v1", timeouts=timeouts)):
        mesh.wait_for(504, "buyer", "web-v1.shop", "/?sleep=0.6")
        assert mesh.ask("buyer", "web-v1.shop", "/").status == 200
        assert mesh.ask("buyer", "web-v2.shop", "/?sleep=0.6").status == 200
    mesh.wait_for(200, "buyer", "web-v1.shop", "/?sleep=0.6")


SLOW_ONLY = """
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: web, namespace: shop}
spec:
  matches:
    - {name: slow, pathRegex: /slow}
    - {name: patient, pathRegex: /patient}
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: web, namespace: shop}
spec:
  destination: {kind: ServiceAccount, name: web-v1, namespace: shop}
  sources: [{kind: ServiceAccount, name: buyer, namespace: shop}]
  rules: [{kind: HTTPRouteGroup, name: web}]
"""


def test_server_ends_slow_requests_of_one_route(mesh: PolicyMesh) -> None:
    slow = setting("web-v1", httpRoutes=[{"path": "/slow", "timeouts": {"request": "300ms"}}])
    with (
        mesh.configured(traffic={"enablePermissiveTrafficPolicyMode": False}),
        mesh.apply(f"{SLOW_ONLY}---\n{slow}"),
    ):
        mesh.wait_for(504, "buyer", "web-v1.shop", "/slow?sleep=0.6")
        assert mesh.ask("buyer", "web-v1.shop", "/slow").status == 200
        assert mesh.ask("buyer", "web-v1.shop", "/patient?sleep=0.6").status == 200


def test_requests_beyond_the_bound_are_refused_at_once(mesh: PolicyMesh) -> None:
    bound = setting("web-v1", connectionSettings={"http": {"maxRequests": 1}})
    with mesh.apply(bound):
        mesh.wait(
            lambda: (
                {s for s, _, _ in many(mesh, "web-v1.shop", "/?sleep=0.5", 4, together=True)}
                == {200, 503}
            )
        )
    mesh.wait(
        lambda: (
            {s for s, _, _ in many(mesh, "web-v1.shop", "/?sleep=0.5", 4, together=True)} == {200}
        )
    )


def test_connection_settings_are_those_of_the_cluster(mesh: PolicyMesh) -> None:
    settings = {
        "tcp": {"maxConnections": 11, "connectTimeout": "250ms"},
        "http": {
            "maxRequests": 12,
            "maxPendingRequests": 13,
            "maxRetries": 14,
            "maxRequestsPerConnection": 1,
        },
    }
    with mesh.apply(setting("web-v2", connectionSettings=settings)):
        mesh.wait(lambda: cluster(mesh, "web-v2")["connect_timeout"] == "0.250s")
        bounds = cluster(mesh, "web-v2")["circuit_breakers"]["thresholds"][0]
        assert bounds == {
            "max_connections": 11,
            "max_requests": 12,
            "max_pending_requests": 13,
            "max_retries": 14,
            "track_remaining": True,
        }
        assert cluster(mesh, "web-v1")["connect_timeout"] == "5s"
        versions(mesh, "web-v2.shop")
        assert counter(mesh, "buyer", "cluster.shop/web-v2|8080.upstream_cx_max_requests") >= 8


def test_endpoint_that_fails_is_left_alone(mesh: PolicyMesh) -> None:
    rule = {
        "consecutiveErrors": 3,
        "interval": "1s",
        "baseEjectionTime": "60s",
        "maxEjectionPercent": 50,
    }
    assert versions(mesh, "web.shop") == {"v1", "v2"}
    with mesh.apply(setting("web", outlierDetection=rule)):
        mesh.wait(lambda: "outlier_detection" in cluster(mesh, "web"))
        mesh.wait(lambda: Counter(many(mesh, "web.shop", "/?fail=v1"))[503, "v1", None] == 0)
        assert versions(mesh, "web.shop") == {"v2"}
    mesh.wait(lambda: versions(mesh, "web.shop") == {"v1", "v2"})


def test_endpoints_are_used_again_where_none_is_left(mesh: PolicyMesh) -> None:
    rule = {"consecutiveErrors": 1, "interval": "1s", "baseEjectionTime": "60s"}
    ejected = "cluster.shop/web-v1|8080.outlier_detection.ejections_active"
    with mesh.apply(setting("web-v1", outlierDetection=rule)):
        mesh.wait(lambda: "outlier_detection" in cluster(mesh, "web-v1"))
        assert mesh.ask("buyer", "web-v1.shop", "/?fail=v1").status == 503
        mesh.wait(lambda: counter(mesh, "buyer", ejected) == 1)
        assert mesh.ask("buyer", "web-v1.shop").status == 200


@pytest.mark.parametrize("policy", ["RingHash", "Maglev"])
def test_equal_requests_go_to_one_endpoint(mesh: PolicyMesh, policy: str) -> None:
    balanced = setting("web", loadBalancer={"policy": policy, "hashOn": [{"header": "X-User"}]})
    with mesh.apply(balanced):
        mesh.wait(lambda: len(versions(mesh, "web.shop", x_user="ann")) == 1)
        of_user = {user: versions(mesh, "web.shop", x_user=user) for user in "abcdefghijkl"}
        assert {len(found) for found in of_user.values()} == {1}
        assert set.union(*of_user.values()) == {"v1", "v2"}


def test_client_is_sent_the_cookie_it_is_known_by(mesh: PolicyMesh) -> None:
    cookie = {"cookie": {"name": "session", "ttl": "1h"}}
    balanced = setting("web", loadBalancer={"policy": "RingHash", "hashOn": [cookie]})
    with mesh.apply(balanced):
        mesh.wait(lambda: all(sent for _, _, sent in many(mesh, "web.shop")))
        (_, version, sent) = many(mesh, "web.shop", count=1)[0]
        assert sent is not None
        assert "Max-Age=3600" in sent
        assert versions(mesh, "web.shop", cookie=sent.partition(";")[0]) == {version}


def test_requests_of_one_pod_go_to_one_endpoint(mesh: PolicyMesh) -> None:
    source = setting("web", loadBalancer={"policy": "Maglev", "hashOn": [{"sourceIP": True}]})
    with mesh.apply(source):
        mesh.wait(lambda: len(versions(mesh, "web.shop")) == 1)


@pytest.mark.parametrize(
    ("policy", "named"),
    [
        pytest.param("LeastRequest", "LEAST_REQUEST", id="least-request"),
        pytest.param("Random", "RANDOM", id="random"),
    ],
)
def test_balancing_without_hash(mesh: PolicyMesh, policy: str, named: str) -> None:
    with mesh.apply(setting("web", loadBalancer={"policy": policy})):
        mesh.wait(lambda: cluster(mesh, "web").get("lb_policy") == named)
        mesh.wait(lambda: versions(mesh, "web.shop") == {"v1", "v2"})


def logged(mesh: PolicyMesh, workload: str, path: str) -> int:
    """How many requests with the path the workload has seen."""
    pod = mesh.pod(workload)
    text = mesh.osm("standalone", "logs", "-n", pod.namespace, pod.name)
    return text.count(f"GET {path} ")


def test_copies_go_to_the_mirror_and_their_answers_nowhere(mesh: PolicyMesh) -> None:
    with mesh.apply(setting("web-v1", mirror={"service": "web-v2"})):

        def copied() -> bool:
            answer = mesh.ask("buyer", "web-v1.shop", "/copied?fail=v2")
            assert (answer.status, answer.headers["version"]) == (200, "v1")
            return logged(mesh, "web-v2", "/copied?fail=v2") > 0

        mesh.wait(copied)
    mesh.wait(lambda: "request_mirror" not in mesh.envoy("buyer", "config_dump"))


def test_client_that_may_not_call_the_mirror_copies_nothing(mesh: PolicyMesh) -> None:
    mirrored = setting("web-v1", mirror={"service": "web-v2"}, timeouts={"request": "7s"})
    with (
        mesh.configured(traffic={"enablePermissiveTrafficPolicyMode": False}),
        mesh.apply(f"{SLOW_ONLY}---\n{mirrored}"),
    ):
        mesh.wait(lambda: '"timeout": "7s"' in mesh.envoy("buyer", "config_dump"))
        mesh.wait_for(200, "buyer", "web-v1.shop", "/slow")
        assert "request_mirror" not in mesh.envoy("buyer", "config_dump")


def test_setting_in_short_form_counts_and_the_younger_is_told_of(mesh: PolicyMesh) -> None:
    first = setting("web-v1", timeouts={"request": "300ms"})
    second = (
        first.replace("name: web-v1", "name: z")
        .replace("300ms", "9s")
        .replace("host: web-v1.shop.svc.cluster.local", "host: web-v1.shop")
    )
    with mesh.apply(second):
        mesh.wait(lambda: '"timeout": "9s"' in mesh.envoy("buyer", "config_dump"))
        with mesh.apply(first, "first.yaml"):
            mesh.wait_for(504, "buyer", "web-v1.shop", "/?sleep=0.6")
            told = str(mesh.api("/api/v1/rejected"))
            assert "has UpstreamTrafficSetting shop/web-v1 already" in told


def test_sidecars_check_one_another_also_where_nobody_may_call(mesh: PolicyMesh) -> None:
    flags = {"enableEnvoyActiveHealthChecks": True}
    with mesh.configured(featureFlags=flags):
        for service in ("web-v1|8080", "feed|9090"):
            checked = f"cluster.shop/{service}.health_check.success"
            mesh.wait(lambda checked=checked: counter(mesh, "buyer", checked) > 0)
        assert mesh.ask("buyer", "web-v1.shop").status == 200
        assert mesh.talk("buyer", "feed.shop", 9000) == "HELLO"
        assert logged(mesh, "web-v1", "/healthz/osm") == 0
        pod = mesh.pod("web-v1")
        envoy_log = mesh.osm("standalone", "logs", "-n", "shop", "-c", "envoy", pod.name)
        assert "/healthz/osm" not in envoy_log
    with (
        mesh.configured(featureFlags=flags, traffic={"enablePermissiveTrafficPolicyMode": False}),
        mesh.apply(SLOW_ONLY),
    ):
        mesh.wait_for(200, "buyer", "web-v1.shop", "/slow")
        assert counter(mesh, "buyer", "cluster.shop/web-v1|8080.membership_healthy") == 1
        assert counter(mesh, "buyer", "cluster.shop/web-v1|8080.health_check.failure") == 0
