"""Who may ask the admin API of a cluster, and what is written with whose rights."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from fakes.cluster import FakeCluster
from fastapi.testclient import TestClient

from app.controller.runtime import Runtime
from app.main import create_api

MESH = "openservicemesh.io/monitored-by"
SHOP = "/api/v1/namespaces/shop"


@pytest.fixture
def api(in_cluster: Runtime) -> TestClient:
    return TestClient(create_api(in_cluster), base_url="http://10.1.2.3:9091")


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    ("headers", "method", "path", "status", "words"),
    [
        pytest.param({}, "GET", "/api/v1/mesh", 401, "Authorization: Bearer", id="no-token"),
        pytest.param(
            {"authorization": "Basic cmVhZGVy"}, "GET", "/api/v1/mesh", 401, "Bearer", id="basic"
        ),
        pytest.param(
            {"authorization": "Bearer "}, "GET", "/api/v1/mesh", 401, "Bearer", id="empty-token"
        ),
        pytest.param(bearer("nobody"), "GET", "/api/v1/mesh", 401, "not known", id="unknown-token"),
        pytest.param(bearer("reader"), "GET", "/api/v1/mesh", 200, "osm-system", id="read"),
        pytest.param(
            bearer("reader"), "PUT", f"{SHOP}/ignore", 403, "may not update", id="read-only"
        ),
        pytest.param(bearer("writer"), "PUT", f"{SHOP}/ignore", 200, "shop", id="write"),
        pytest.param(
            bearer("api-server-is-gone"),
            "GET",
            "/api/v1/mesh",
            503,
            "cannot be checked now",
            id="api-server-is-gone",
        ),
    ],
)
def test_caller_must_show_a_token_that_allows_it(
    api: TestClient, headers: dict[str, str], method: str, path: str, status: int, words: str
) -> None:
    answer = api.request(method, path, headers=headers)
    assert (answer.status_code, words in answer.text) == (status, True), answer.text
    assert answer.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)


def test_every_path_of_the_admin_api_asks_for_a_token(api: TestClient) -> None:
    document = api.get("/openapi.json").json()
    open_ones = set()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            answer = api.request(method, path.replace("{name}", "shop"))
            assert (answer.status_code == 401) == bool(operation.get("security")), path
            if answer.status_code != 401:
                open_ones.add(path)
    health = {"/health/alive", "/health/ready", "/healthz"}
    assert open_ones == {*health, "/version", "/smi/version", "/metrics"}
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"


def test_no_log_line_has_a_token(
    api: TestClient, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG):
        for token in ("secret-token", "api-server-is-gone"):
            api.get("/api/v1/mesh", headers=bearer(token))
    printed = capsys.readouterr()
    texts = [caplog.text, printed.out, printed.err]
    assert not [text for text in texts if "secret-token" in text]


def test_other_hosts_are_welcome_with_a_token(api: TestClient) -> None:
    headers = {**bearer("reader"), "host": "osm-controller.osm-system.svc:9091"}
    assert api.get("/api/v1/mesh", headers=headers).status_code == 200


def labels(cluster: FakeCluster, name: str) -> Any:
    raw = cluster.get("Namespace", name)
    return (raw or {})["metadata"].get("labels") or {}


def test_namespace_joins_and_leaves(api: TestClient, cluster: FakeCluster) -> None:
    path, headers = f"{SHOP}/membership", bearer("writer")
    joined = api.put(path, headers=headers).json()
    assert (joined["changed"], labels(cluster, "shop")) == (True, {MESH: "osm"})
    assert api.put(path, headers=headers).json()["changed"] is False
    assert api.delete(path, headers=headers).json()["changed"] is True
    assert labels(cluster, "shop") == {}


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        pytest.param("taken/membership", 409, "belongs to mesh [other]", id="another-mesh"),
        pytest.param("taken/membership?force=true", 200, "added", id="by-force"),
        pytest.param("osm-system/membership", 409, "holds a control plane", id="control-plane"),
        pytest.param("nowhere/membership", 404, "no namespace nowhere", id="unknown"),
        pytest.param("shop/metrics", 409, "add it before", id="metrics-outside"),
        pytest.param("A%2F..%2Fb/membership", 404, "Not Found", id="path"),
        pytest.param("Shop/membership", 422, "pattern", id="no-name"),
    ],
)
def test_wish_about_a_namespace_is_answered_in_words(
    api: TestClient, path: str, status: int, words: str
) -> None:
    answer = api.put(f"/api/v1/namespaces/{path}", headers=bearer("writer"))
    assert (answer.status_code, words in answer.text) == (status, True), answer.text


def test_namespace_of_another_control_plane_does_not_join(
    api: TestClient, cluster: FakeCluster
) -> None:
    cluster.put(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {
                "name": "osm-controller",
                "namespace": "shop",
                "labels": {"app": "osm-controller"},
            },
        }
    )
    answer = api.put(f"{SHOP}/membership", headers=bearer("writer"))
    assert (answer.status_code, labels(cluster, "shop")) == (409, {})


def test_metrics_reach_pods_that_run(api: TestClient, cluster: FakeCluster) -> None:
    headers = bearer("writer")
    api.put(f"{SHOP}/membership", headers=headers)
    for name, own in (("app", {"osm-proxy-uuid": "1"}), ("other", {})):
        metadata = {"name": name, "namespace": "shop", "labels": own}
        cluster.put({"apiVersion": "v1", "kind": "Pod", "metadata": metadata})
    expected = {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "15010",
        "prometheus.io/path": "/stats/prometheus",
    }
    for method, wanted in (("PUT", expected), ("DELETE", {})):
        assert api.request(method, f"{SHOP}/metrics", headers=headers).status_code == 200
        found = (cluster.get("Pod", "app", "shop") or {})["metadata"].get("annotations") or {}
        assert found == wanted
    untouched = (cluster.get("Pod", "other", "shop") or {})["metadata"]
    assert not untouched.get("annotations")
