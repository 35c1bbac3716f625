"""The mesh as a whole over the API and the debug pages: settings in force, certificates, codes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.api.mesh import _duration
from app.controller.runtime import Runtime
from app.main import create_api, create_debug
from xds.policy.identity import ProxyId, ServiceIdentity
from xds.resource import ResourceKind


@pytest.fixture
def api(runtime: Runtime) -> TestClient:
    return TestClient(create_api(runtime), base_url="http://127.0.0.1:9091")


@pytest.fixture
def debug(runtime: Runtime) -> TestClient:
    return TestClient(create_debug(runtime), base_url="http://10.1.2.3:9092")


def test_mesh_names_its_namespaces(api: TestClient) -> None:
    mesh = api.get("/api/v1/mesh").json()
    assert (mesh["name"], mesh["namespace"], mesh["proxies"]) == ("osm", "osm-system", 0)
    assert {"bookstore", "bookbuyer"} <= set(mesh["namespaces"])


def test_config_has_every_default_as_users_write_it(api: TestClient) -> None:
    config = api.get("/api/v1/config").json()
    assert config["name"] == "osm-mesh-config"
    assert config["spec"]["certificate"]["serviceCertValidityDuration"] == "24h0m0s"
    assert config["spec"]["sidecar"]["tlsMinProtocolVersion"] == "TLSv1_2"
    assert config["spec"]["featureFlags"]["enableRetryPolicy"] is False


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        pytest.param(timedelta(0), "0s", id="zero"),
        pytest.param(timedelta(milliseconds=500), "500ms", id="below-a-second"),
        pytest.param(timedelta(seconds=90), "1m30s", id="minutes"),
        pytest.param(timedelta(hours=24), "24h0m0s", id="hours"),
        pytest.param(timedelta(seconds=1, milliseconds=500), "1.5s", id="fraction"),
    ],
)
def test_durations_are_written_as_in_yaml(duration: timedelta, text: str) -> None:
    assert _duration(duration) == text


def test_namespaces_are_those_of_the_mesh(api: TestClient) -> None:
    found = {entry["name"]: entry for entry in api.get("/api/v1/namespaces").json()}
    assert found["bookstore"] == {
        "name": "bookstore",
        "mesh": "osm",
        "injection": "enabled",
        "metrics": "enabled",
        "ignored": False,
    }


def test_certificates_tell_all_but_the_key(api: TestClient) -> None:
    answer = api.get("/api/v1/certificates")
    ads = next(entry for entry in answer.json() if entry["name"] == "ads")
    assert "ads.cluster.local" in ads["dns_names"]
    assert len({ads["sha256"], ads["chain_sha256"], ads["trusted_sha256"]}) == 3
    assert "PRIVATE" not in answer.text


def test_injections_are_told_the_newest_first(api: TestClient, runtime: Runtime) -> None:
    for name, namespace in (("old", "bookstore"), ("new", "bookstore"), ("far", "default")):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": f"{name}-"}}
        pod["spec"] = {"hostNetwork": True, "containers": [{"name": "a", "image": "a"}]}
        runtime.injector.inject(pod, namespace=namespace, dry_run=True)
    query = "/api/v1/injections?namespace=bookstore"
    (newest, older) = api.get(query).json()
    assert (newest["pod"], older["pod"]) == ("new-*", "old-*")
    assert (newest["outcome"], newest["dry_run"]) == ("skipped", True)
    assert "network of its host" in newest["reason"]
    assert [entry["pod"] for entry in api.get(f"{query}&limit=1").json()] == ["new-*"]
    assert api.get("/api/v1/injections?limit=501").status_code == 422


def test_sources_tell_how_fresh_they_are(api: TestClient, runtime: Runtime) -> None:
    assert api.get("/api/v1/sources").json() == []
    alone = runtime.compute
    runtime.compute = replace(alone, source=_Stale())
    found = api.get("/api/v1/sources").json()
    runtime.compute = alone
    assert found == [
        {"kind": "Pod", "stale_seconds": 0.5},
        {"kind": "Service", "stale_seconds": 70.0},
    ]


class _Stale:
    """Implements ``ObjectSource`` and ``AgingSource``."""

    def start(self, post: Any, kinds: Any) -> None: ...

    def stop(self) -> None: ...

    def staleness_seconds(self) -> dict[str, float]:
        return {"Service": 70.0, "Pod": 0.5}


def test_no_conflict_is_told_where_there_is_none(api: TestClient) -> None:
    assert api.get("/api/v1/conflicts?namespace=bookstore").json() == []


def test_smi_versions_are_those_of_the_original(api: TestClient) -> None:
    assert api.get("/smi/version").json() == {
        "TrafficTarget": "access.smi-spec.io/v1alpha3",
        "HTTPRouteGroup": "specs.smi-spec.io/v1alpha4",
        "TCPRoute": "specs.smi-spec.io/v1alpha4",
        "TrafficSplit": "split.smi-spec.io/v1alpha2",
    }


@pytest.mark.parametrize(
    ("code", "status"),
    [
        pytest.param("E3003", 200, id="known"),
        pytest.param("E9999", 404, id="unknown"),
        pytest.param("3003", 400, id="without-letter"),
        pytest.param("E30033", 400, id="too-long"),
        pytest.param("E３００３", 400, id="digits-of-another-script"),
    ],
)
def test_error_code_is_explained(api: TestClient, code: str, status: int) -> None:
    assert api.get(f"/api/v1/errors/{code}").status_code == status


def test_error_codes_are_listed(api: TestClient) -> None:
    found = [entry["code"] for entry in api.get("/api/v1/errors").json()]
    assert found == sorted(found)
    assert {"E1000", "E2007", "E6112"} <= set(found)


@pytest.mark.parametrize(
    ("path", "kind", "words"),
    [
        pytest.param("/debug", "text/html", "/debug/xds", id="index"),
        pytest.param("/debug/certs", "text/plain", "---[ ads ]---", id="certs"),
        pytest.param("/debug/xds", "text/plain", "", id="xds"),
        pytest.param("/debug/proxy", "text/html", "0 connected", id="proxy"),
        pytest.param("/debug/namespaces", "application/json", '"bookstore"', id="namespaces"),
        pytest.param("/debug/feature-flags", "application/json", "enableWASMStats", id="flags"),
        pytest.param("/debug/stacks", "text/plain", "---[ loop ]---", id="stacks"),
    ],
)
def test_debug_page(debug: TestClient, path: str, kind: str, words: str) -> None:
    answer = debug.get(path)
    assert answer.headers["content-type"].startswith(kind)
    assert words in answer.text
    assert "PRIVATE" not in answer.text


@pytest.mark.parametrize(
    ("query", "status"),
    [
        pytest.param("stream-id=x", 400, id="no-number"),
        pytest.param("stream-id=", 400, id="empty"),
        pytest.param("stream-id=²", 400, id="digit-of-another-kind"),
        pytest.param("stream-id=7", 404, id="unknown"),
    ],
)
def test_debug_stream_is_named_by_its_number(debug: TestClient, query: str, status: int) -> None:
    assert debug.get(f"/debug/proxy?{query}").status_code == status


def test_debug_stream_tells_what_was_sent_and_taken(debug: TestClient, runtime: Runtime) -> None:
    proxy = ProxyId(uuid="1-2-3", identity=ServiceIdentity(namespace="shop", service_account="<b>"))
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    kind = ResourceKind.CDS
    runtime.ledger.opened(proxy, 7, peer="10.0.0.1:5", now=moment)
    runtime.ledger.sent(proxy, 7, kind=kind, version="v1", now=moment)
    stream = debug.get("/debug/proxy?stream-id=7").json()
    resources = debug.get("/debug/proxy?stream-id=7&cfg=true").json()
    table, text = debug.get("/debug/proxy").text, debug.get("/debug/xds").text
    runtime.ledger.closed(proxy, 7, now=moment)
    assert (stream["kinds"][kind]["sent"], stream["kinds"][kind]["acknowledged"]) == ("v1", None)
    assert resources["resources"] == {kind: [] if kind == "SDS" else {} for kind in ResourceKind}
    assert "stream-id=7" in table
    assert "<b>" not in table
    assert '"sent": "v1"' in text


LISTENERS: dict[str, Any] = {"api": create_api, "debug": create_debug}


@pytest.mark.parametrize("listener", sorted(LISTENERS))
@pytest.mark.parametrize(
    ("path", "served_by"),
    [
        pytest.param("/debug", "debug", id="debug"),
        pytest.param("/api/v1/mesh", "api", id="admin"),
        pytest.param("/metrics", "api", id="metrics"),
        pytest.param("/openapi.json", "api", id="document"),
        pytest.param("/mutate-pod-creation", "", id="injection"),
        pytest.param("/validate", "", id="validation"),
    ],
)
def test_listener_serves_its_own_routes_only(
    runtime: Runtime, listener: str, path: str, served_by: str
) -> None:
    client = TestClient(LISTENERS[listener](runtime), base_url="http://127.0.0.1:1")
    assert (client.get(path).status_code == 200) == (served_by == listener)
