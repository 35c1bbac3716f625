"""The admin API over a real runtime that read the bookstore: answers, refusals, no secrets."""

import json

import pytest
from fastapi.testclient import TestClient

from app.controller.runtime import Runtime
from app.main import create_api


@pytest.fixture
def api(runtime: Runtime) -> TestClient:
    return TestClient(create_api(runtime), base_url="http://127.0.0.1:9091")


def test_ready_once_objects_are_read(api: TestClient) -> None:
    answer = api.get("/health/ready")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready", "reasons": []})


@pytest.mark.parametrize("path", ["/health/alive", "/healthz"])
def test_alive(api: TestClient, path: str) -> None:
    assert api.get(path).json() == {"status": "alive", "reasons": []}


def test_version_names_the_mesh(api: TestClient) -> None:
    assert api.get("/version").json()["mesh_name"] == "osm"


def test_metrics_are_prometheus_text(api: TestClient) -> None:
    answer = api.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert "osm_version_info{" in answer.text


def test_answers_are_counted_by_route_and_never_by_raw_path(api: TestClient) -> None:
    api.get("/api/v1/proxies/no-such-proxy")
    api.get("/no/such/route")
    page = api.get("/metrics").text
    path = "/api/v1/proxies/{uuid}"
    assert f'osm_http_response_total{{code="404",method="GET",path="{path}"}}' in page
    assert f'osm_http_response_duration_count{{code="404",method="GET",path="{path}"}}' in page
    assert 'osm_http_response_total{code="404",method="GET",path=""}' in page
    assert "such" not in page


def test_services_tell_protocol_and_target(api: TestClient) -> None:
    services = {(s["namespace"], s["name"]): s for s in api.get("/api/v1/services").json()}
    redis = services["bookwarehouse", "redis"]
    assert (redis["protocol"], redis["port"], redis["target"]) == ("tcp", 6379, 6379)
    assert ("bookstore", "bookstore") in services


def test_policies_tell_who_may_do_what(api: TestClient) -> None:
    policies = api.get("/api/v1/policies").json()
    assert (policies["permissive"], policies["egress"]) == (False, False)
    access = {rule["name"]: rule for rule in policies["access"]}
    assert access["bookwarehouse"]["requests"] == ["POST /restock"]
    assert access["redis"]["ports"] == ["6379"]
    assert policies["splits"] == [
        {
            "kind": "TrafficSplit",
            "namespace": "bookstore",
            "name": "bookstore",
            "root": "bookstore",
            "backends": [
                {"service": "bookstore-v1", "weight": 90},
                {"service": "bookstore-v2", "weight": 10},
            ],
            "requests": None,
        }
    ]


def test_rejected_names_file_line_and_field(api: TestClient) -> None:
    (rejected,) = api.get("/api/v1/rejected").json()
    assert rejected["where"].endswith("bad.yaml:7")
    assert rejected["field"] == "spec.backends[0].weight"


def test_no_proxy_is_connected(api: TestClient) -> None:
    assert api.get("/api/v1/proxies").json() == []


def test_unknown_proxy_says_where_to_look(api: TestClient) -> None:
    answer = api.get("/api/v1/proxies/11111111-2222-3333-4444-555555555555")
    assert answer.status_code == 404
    assert "/api/v1/proxies lists" in answer.json()["detail"]


def test_every_path_is_documented(api: TestClient) -> None:
    paths = api.get("/openapi.json").json()["paths"]
    assert {
        "/health/alive",
        "/health/ready",
        "/version",
        "/metrics",
        "/api/v1/proxies",
        "/api/v1/proxies/{uuid}",
        "/api/v1/proxies/{uuid}/resources",
        "/api/v1/services",
        "/api/v1/policies",
        "/api/v1/rejected",
    } <= paths.keys()
    assert api.get("/docs").status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({}, 200, id="loopback"),
        pytest.param({"host": "localhost:9091"}, 200, id="localhost"),
        pytest.param({"host": "[::1]:9091"}, 200, id="loopback-ipv6"),
        pytest.param({"host": "mesh.example.com"}, 421, id="foreign-host"),
        pytest.param({"host": "127.0.0.1.example.com"}, 421, id="host-that-begins-like-loopback"),
        pytest.param({"origin": "http://127.0.0.1:9091"}, 200, id="own-origin"),
        pytest.param({"origin": "http://example.com"}, 403, id="foreign-origin"),
        pytest.param({"origin": "http://127.0.0.1:8000"}, 403, id="origin-of-another-port"),
        pytest.param({"origin": "null"}, 403, id="opaque-origin"),
    ],
)
def test_only_pages_of_this_listener_may_ask(
    api: TestClient, headers: dict[str, str], status: int
) -> None:
    assert api.get("/api/v1/services", headers=headers).status_code == status


def test_no_answer_shows_a_key(api: TestClient) -> None:
    paths = ["/api/v1/proxies", "/api/v1/services", "/api/v1/policies", "/metrics"]
    texts = [api.get(path).text for path in paths]
    assert not [text for text in texts if "PRIVATE KEY" in json.dumps(text)]
