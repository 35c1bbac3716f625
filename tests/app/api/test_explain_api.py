"""GET /explain: a call explained with the places of the objects that decide."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from fastapi.testclient import TestClient

from app.controller.runtime import Runtime
from app.main import create_api

BUYER, STORE = "bookbuyer/bookbuyer", "bookstore/bookstore"


@pytest.fixture
def api(runtime: Runtime) -> TestClient:
    return TestClient(create_api(runtime), base_url="http://127.0.0.1:9091")


def query(source: str, to: str, *more: tuple[str, str]) -> str:
    return f"/api/v1/explain?{urlencode([('from', source), ('to', to), *more])}"


def test_step_names_the_file_of_what_decided(api: TestClient) -> None:
    asked = query(BUYER, STORE, ("path", "/books-bought"), ("header", "user-agent: a"))
    found = api.get(asked).json()
    steps = {step["what"]: step for step in found["steps"]}
    assert steps["identity"]["check"] == "unknown"  # no Pod runs here
    (service,) = steps["destination"]["objects"]
    assert (service["kind"], service["name"]) == ("Service", "bookstore")
    assert "bookstore.yaml:" in service["where"]
    assert (found["outcome"], found["seen"]) == ("unreachable", "connection closed")
    assert found["remedy"].startswith("have a Pod with a sidecar")


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        pytest.param(query("bookbuyer/bookbuyr", STORE), 404, "bookbuyer", id="workload"),
        pytest.param(query(BUYER, "bookstore/bookstor"), 404, "bookstore", id="service"),
        pytest.param(query("bookbuyer", STORE), 422, "from", id="no-namespace"),
        pytest.param(query(BUYER, "example.com"), 404, "host:port", id="no-port"),
        pytest.param(query(BUYER, STORE, ("header", "x")), 422, "header", id="header"),
        pytest.param("/api/v1/explain", 422, "from", id="nothing-asked"),
        pytest.param(query(BUYER, STORE, ("port", "0")), 422, "port", id="port"),
    ],
)
def test_question_that_cannot_be_answered(
    api: TestClient, path: str, status: int, words: str
) -> None:
    answer = api.get(path)
    assert (answer.status_code, words in answer.text) == (status, True), answer.text


@pytest.mark.parametrize(
    ("source", "to", "targets"),
    [
        pytest.param(BUYER, "bookstore/bookstore-v1", True, id="let-in"),
        pytest.param("bookstore/bookstore-v1", BUYER, False, id="not-let-in"),
    ],
)
def test_pods_that_may_call_each_other(
    api: TestClient, source: str, to: str, *, targets: bool
) -> None:
    asked = urlencode({"from": source, "to": to})
    found = api.get(f"/api/v1/explain/pods?{asked}").json()
    assert (found["permissive"], found["allowed"], bool(found["targets"])) == (
        False,
        targets,
        targets,
    )
