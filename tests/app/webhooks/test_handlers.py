"""``POST /mutate-pod-creation`` from bytes to bytes, with the real decision and plan behind it."""

from __future__ import annotations

import asyncio
import copy
import json
from base64 import b64decode
from collections.abc import Callable
from typing import Any

import jsonpatch
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from injections import container, decision_of, injected, pod

from app.errors import NamespaceInjectionError
from app.inject.decide import Skip
from app.inject.patch import diff
from app.inject.plan import Injected
from app.objects.meta import RawObject
from app.webhooks import handlers
from app.webhooks.review import MAX_BODY_BYTES

PATH = "/mutate-pod-creation"
JSON = {"content-type": "application/json"}


def inject(pod: RawObject, *, namespace: str, dry_run: bool) -> Injected | Skip:
    """The chain of the real injector without certificates and Secrets."""
    assert (namespace, dry_run) == ("shop", False)
    decision = decision_of(pod)
    if isinstance(decision, Skip):
        return decision
    planned = injected(pod)
    return Injected(pod=planned.pod, patch=diff(pod, planned.pod))


def counting(answered: list[tuple[str, bool]]) -> handlers.Answered:
    return lambda kind, is_allowed: answered.append((kind, is_allowed))


def client(answered: list[tuple[str, bool]], injector: handlers.PodInjector = inject) -> TestClient:
    app = FastAPI()
    app.include_router(handlers.mutation_router(injector, counting(answered)))
    return TestClient(app)


def review(raw: Any, **request: Any) -> bytes:
    return json.dumps(
        {
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {"uid": "u-1", "namespace": "shop", "object": raw, **request},
        }
    ).encode()


def test_pod_gets_a_patch_that_leads_to_the_injected_pod() -> None:
    answered: list[tuple[str, bool]] = []
    raw = pod(container(futureField={"kept": [1, None]}))
    answer = client(answered).post(PATH, content=review(raw), headers=JSON)
    response = answer.json()["response"]
    assert (answer.status_code, response["uid"], response["allowed"]) == (200, "u-1", True)
    patched = jsonpatch.apply_patch(copy.deepcopy(raw), json.loads(b64decode(response["patch"])))
    assert patched == injected(raw).pod
    assert answered == [("Pod", True)]


def test_pod_that_is_skipped_has_no_patch() -> None:
    answered: list[tuple[str, bool]] = []
    body = review(pod(spec={"hostNetwork": True}))
    answer = client(answered).post(PATH, content=body, headers=JSON)
    assert answer.json()["response"] == {"uid": "u-1", "allowed": True}
    assert answered == [("Pod", True)]


def raising(error: Exception) -> handlers.PodInjector:
    def injector(pod: RawObject, *, namespace: str, dry_run: bool) -> Injected | Skip:
        raise error

    return injector


@pytest.mark.parametrize(
    ("error", "message"),
    [
        pytest.param(
            NamespaceInjectionError("namespace shop not found"),
            "namespace shop not found",
            id="refused",
        ),
        pytest.param(
            KeyError("secret detail"),
            "injection failed for a reason of its own; the log of the controller tells more",
            id="our-own-fault",
        ),
    ],
)
def test_error_of_the_injector_refuses_the_pod_in_words(error: Exception, message: str) -> None:
    answered: list[tuple[str, bool]] = []
    answer = client(answered, raising(error)).post(PATH, content=review(pod()), headers=JSON)
    assert (answer.status_code, answer.json()["response"]) == (
        200,
        {"uid": "u-1", "allowed": False, "status": {"message": message, "code": 400}},
    )
    assert answered == [("Pod", False)]


@pytest.mark.parametrize(
    ("body", "headers", "status", "text"),
    [
        pytest.param(
            b"{}",
            {"content-type": "text/plain"},
            415,
            "content type is 'text/plain', expected 'application/json'",
            id="content-type",
        ),
        pytest.param(b"", JSON, 400, "the admission body is empty", id="empty"),
        pytest.param(
            b" " * (MAX_BODY_BYTES + 1),
            JSON,
            413,
            "the admission body has more than 3145728 bytes",
            id="too-big",
        ),
    ],
)
def test_request_that_cannot_hold_a_review_is_an_http_error(
    body: bytes, headers: dict[str, str], status: int, text: str
) -> None:
    answered: list[tuple[str, bool]] = []
    answer = client(answered).post(PATH, content=body, headers=headers)
    assert (answer.status_code, answer.text, answered) == (status, text, [])


def test_unreadable_review_is_refused_and_counted() -> None:
    answered: list[tuple[str, bool]] = []
    answer = client(answered).post(PATH, content=b"{", headers=JSON)
    assert (answer.status_code, answer.json()["response"]["allowed"]) == (200, False)
    assert answered == [("Pod", False)]


def ask(receive: Callable[[], Any], **router: float) -> tuple[int, bytes]:
    """Status and body of the answer to a request whose body comes as ``receive`` says."""
    app = FastAPI()
    app.include_router(handlers.mutation_router(inject, **router))
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": PATH,
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], sent[1]["body"]


def test_body_that_never_ends_is_given_up() -> None:
    async def receive() -> Any:
        await asyncio.Event().wait()

    assert ask(receive, deadline_seconds=0.05) == (
        408,
        b"the admission body did not arrive within 0.05 s",
    )


def test_body_without_end_is_not_collected() -> None:
    chunks = 0

    async def receive() -> Any:
        nonlocal chunks
        chunks += 1
        return {"type": "http.request", "body": b" " * 2**20, "more_body": True}

    assert ask(receive) == (413, b"the admission body has more than 3145728 bytes")
    assert chunks == 4


def test_broken_connection_is_an_unreadable_body() -> None:
    async def receive() -> Any:
        return {"type": "http.disconnect"}

    assert ask(receive) == (500, b"the admission body broke off")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
fields = st.sampled_from(
    [
        "metadata",
        "spec",
        "containers",
        "name",
        "labels",
        "ports",
        "livenessProbe",
        "httpGet",
        "port",
    ]
)
pod_like = st.recursive(
    json_values | st.sampled_from(["app", 80, "80", "Pod"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(fields, inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=150, deadline=2000, suppress_health_check=[HealthCheck.too_slow])
@given(
    body=st.one_of(
        st.binary(max_size=100),
        json_values.map(lambda value: json.dumps(value).encode()),
        pod_like.map(lambda value: review({"kind": "Pod", "spec": value, "metadata": value})),
        pod_like.map(lambda value: review(pod(spec={"containers": [value]}))),
    )
)
def test_any_json_is_answered(body: bytes) -> None:
    answer = CLIENT.post(PATH, content=body, headers=JSON)
    assert answer.status_code in {200, 400}
    if answer.status_code == 200:
        assert isinstance(answer.json()["response"]["allowed"], bool)


CLIENT = client([])
