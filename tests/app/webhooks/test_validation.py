"""``POST /validate`` from bytes to bytes, with the real rules behind it."""

from __future__ import annotations

import json
import time
from typing import Any

import factory
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.errors import UnreachableError
from app.objects.meta import RawObject
from app.validate.check import Operation, check
from app.validate.verdict import Verdict
from app.webhooks import handlers
from app.webhooks.review import MAX_BODY_BYTES

PATH = "/validate"
JSON = {"content-type": "application/json"}
SNAPSHOT = factory.snapshot(
    factory.namespace("shop"),
    factory.service("shop/web"),
    factory.account("shop/web"),
    factory.ingress_backend("shop/first"),
    factory.permissive(),
)


def validate(new: RawObject | None, old: RawObject | None, operation: Operation) -> Verdict:
    return check(new, old, operation, snapshot=SNAPSHOT, osm_namespace="osm-system")


def client(
    answered: list[tuple[str, bool]], validator: handlers.Validator = validate
) -> TestClient:
    app = FastAPI()
    app.include_router(
        handlers.validation_router(validator, lambda kind, ok: answered.append((kind, ok)))
    )
    return TestClient(app)


def review(raw: Any, operation: Any = "CREATE", **request: Any) -> bytes:
    fields = {"uid": "u-1", "namespace": "shop", "operation": operation, "object": raw, **request}
    return json.dumps(
        {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": fields}
    ).encode()


def asked(body: bytes) -> tuple[dict[str, Any], list[tuple[str, bool]]]:
    """The response, and what was counted."""
    answered: list[tuple[str, bool]] = []
    answer = client(answered).post(PATH, content=body, headers=JSON)
    assert answer.status_code == 200
    return answer.json()["response"], answered


TWICE = factory.ingress_backend("shop/second")
CONFLICT = (
    "spec.backends: IngressBackend shop/second conflicts with shop/first over web:8080: "
    "keep these in one of them"
)


def test_good_object_is_allowed() -> None:
    good = factory.egress("shop/e", sources=["web.shop"])
    assert asked(review(good)) == ({"uid": "u-1", "allowed": True}, [("Egress", True)])


def test_warnings_go_with_an_allowed_object() -> None:
    response, answered = asked(review(factory.traffic_split("shop/web", {"gone": 1})))
    assert (response["allowed"], answered) == (True, [("TrafficSplit", True)])
    assert response["warnings"] == [
        (
            "spec.backends[0].service: 'gone' is not a Service of the mesh in this namespace, "
            "so it gets no traffic"
        )
    ]


def test_refusal_says_why_and_warnings_go_with_it() -> None:
    response, answered = asked(review(TWICE))
    assert (response["allowed"], answered) == (False, [("IngressBackend", False)])
    assert response["status"] == {"message": CONFLICT, "code": 400}
    assert response["warnings"][0].startswith("spec: has no effect until")


def test_namespace_of_the_request_is_that_of_the_object() -> None:
    bare = {**TWICE, "metadata": {"name": "second"}}
    assert asked(review(bare))[0]["status"]["message"] == CONFLICT


def test_deletion_is_judged_by_the_old_object() -> None:
    old = factory.root_certificate("osm-system/r")
    body = review(None, "DELETE", oldObject=old, namespace="osm-system")
    response, answered = asked(body)
    assert (response["allowed"], answered) == (False, [("MeshRootCertificate", False)])
    assert response["status"]["message"].startswith("spec.role: is active")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(review(TWICE, "CONNECT"), "request.operation must be one of", id="operation"),
        pytest.param(review(TWICE, ["x"]), "request.operation must be one of", id="no-operation"),
        pytest.param(review(factory.pod("shop/p")), "unknown gvk: 'v1', kind 'Pod'", id="pod"),
        pytest.param(review(None), "unknown gvk: nothing, kind nothing", id="no-object"),
        pytest.param(review([1]), "unknown gvk: nothing, kind nothing", id="list"),
        pytest.param(review({**TWICE, "kind": {}}), "unknown gvk: ", id="kind-is-an-object"),
        pytest.param(b"{", "the admission body is not JSON", id="no-json"),
        pytest.param(
            json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}).encode(),
            "nil admission request",
            id="no-request",
        ),
    ],
)
def test_question_that_cannot_be_answered_is_refused_in_words(body: bytes, message: str) -> None:
    response, answered = asked(body)
    assert response["allowed"] is False
    assert response["status"]["message"].startswith(message)
    assert [ok for _, ok in answered] == [False]


def test_kind_that_callers_made_up_is_not_counted_as_such() -> None:
    assert asked(review(factory.raw("TeaParty", "shop/x")))[1] == [("unknown", False)]
    assert asked(b"{")[1] == [("unknown", False)]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        pytest.param(UnreachableError("not read yet"), "not read yet", id="refused"),
        pytest.param(
            KeyError("secret detail"),
            "validation failed for a reason of its own; the log of the controller tells more",
            id="our-own-fault",
        ),
    ],
)
def test_error_of_the_validator_refuses_in_words(error: Exception, message: str) -> None:
    def failing(new: RawObject | None, old: RawObject | None, operation: Operation) -> Verdict:
        raise error

    answered: list[tuple[str, bool]] = []
    answer = client(answered, failing).post(PATH, content=review(TWICE), headers=JSON)
    assert answer.json()["response"] == {
        "uid": "u-1",
        "allowed": False,
        "status": {"message": message, "code": 400},
    }
    assert answered == [("IngressBackend", False)]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        pytest.param(b"{}", {"content-type": "text/plain"}, 415, id="content-type"),
        pytest.param(b"", JSON, 400, id="empty"),
        pytest.param(b" " * (MAX_BODY_BYTES + 1), JSON, 413, id="too-big"),
    ],
)
def test_request_that_cannot_hold_a_review_is_an_http_error(
    body: bytes, headers: dict[str, str], status: int
) -> None:
    answered: list[tuple[str, bool]] = []
    answer = client(answered).post(PATH, content=body, headers=headers)
    assert (answer.status_code, answered) == (status, [])


KINDS = (
    TWICE,
    factory.egress("shop/e", matches=[("specs.smi-spec.io", "HTTPRouteGroup", "g")]),
    factory.traffic_setting(
        "shop/u",
        connectionSettings={"tcp": {"connectTimeout": "1s"}},
        rateLimit={"local": {"http": {"requests": 1, "unit": "second"}}},
        httpRoutes=[{"path": "/", "rateLimit": {"global": {"descriptors": [{"entries": []}]}}}],
    ),
    factory.retry("shop/r"),
    factory.telemetry("shop/t", accessLog={"format": "{"}),
    factory.extension_service("shop/x"),
    factory.root_certificate("osm-system/r"),
    factory.mesh_config(observability={"tracing": {"enable": True}}),
    factory.traffic_target("shop/t", to="web", sources=["x.shop"], groups=["g"]),
    factory.route_group("shop/g", {"name": "a", "pathRegex": "x", "headers": [{"a": "b"}]}),
    factory.tcp_route("shop/r", 80),
    factory.traffic_split("shop/web", {"web": 1}),
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["(", "\\d{99}", "10.0.0.0/8", "1h", "http", "active", "\ud800", "{", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, inner in entries:
        found.append((*path, key))
        if isinstance(inner, dict | list):
            found += places(inner, (*path, key))
    return found


@st.composite
def altered(draw: st.DrawFn) -> RawObject:
    """An object of some kind with anything in some place."""
    raw: RawObject = json.loads(json.dumps(draw(st.sampled_from(KINDS))))
    *way, last = draw(st.sampled_from(places(raw)))
    inner: Any = raw
    for key in way:
        inner = inner[key]
    inner[last] = draw(json_values)
    return raw


OPERATIONS = st.sampled_from(["CREATE", "UPDATE", "DELETE", "", None])


@settings(max_examples=400, deadline=2000, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.one_of(
        st.binary(max_size=100),
        json_values.map(lambda value: json.dumps(value).encode()),
        st.builds(
            lambda new, old, operation: review(new, operation, oldObject=old),
            altered() | json_values,
            altered() | st.none() | json_values,
            OPERATIONS,
        ),
    )
)
def test_anything_is_answered_in_words(body: bytes) -> None:
    answer = CLIENT.post(PATH, content=body, headers=JSON)
    assert answer.status_code in {200, 400}
    if answer.status_code == 200:
        response = answer.json()["response"]
        assert response["allowed"] or response["status"]["message"]
        assert "reason of its own" not in json.dumps(response)


CLIENT = client([])


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(
            factory.route_group(
                "shop/g",
                *(
                    {"name": f"m{n}", "pathRegex": f"/{n}(a{{999}})?" + "x" * 900}
                    for n in range(3000)
                ),
            ),
            id="patterns",
        ),
        pytest.param(
            factory.ingress_backend("shop/b", *((f"web{n % 900}", 80) for n in range(1000))),
            id="repeated-backends",
        ),
        pytest.param(
            factory.egress(
                "shop/e",
                matches=(("x", "y", "z"),) * 1000,
                hosts=["h"] * 1000,
                ports=dict.fromkeys(range(1, 1001), "x"),
            ),
            id="matches",
        ),
        pytest.param(
            factory.telemetry("shop/t", accessLog={"format": "{" * 1_000_000}), id="abyss-in-text"
        ),
    ],
)
def test_huge_object_is_answered_soon_and_shortly(raw: RawObject) -> None:
    body = review(raw)
    assert len(body) <= MAX_BODY_BYTES
    began = time.monotonic()
    answer = CLIENT.post(PATH, content=body, headers=JSON)
    assert time.monotonic() - began < 5  # seconds; alone on a machine it is far below one
    assert (answer.status_code, len(answer.content) < 10_000) == (200, True)
