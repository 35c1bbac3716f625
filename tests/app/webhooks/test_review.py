"""Bytes to a question, an outcome to an answer: the table of kubernetes-surface 3.1."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from injections import pod

from app.webhooks.review import (
    MAX_BODY_BYTES,
    MAX_DEPTH,
    MAX_VALUES,
    Allowed,
    HttpRefusal,
    PodReview,
    Refused,
    Review,
    check_content_type,
    decode,
    encode,
    pod_of,
)


def review(**request: Any) -> dict[str, Any]:
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {"uid": "u-1", "namespace": "shop", "object": pod(), **request},
    }


def question(content: Any) -> PodReview | HttpRefusal | Refused:
    """What the injection webhook makes of a body."""
    found = decode(content if isinstance(content, bytes) else json.dumps(content).encode())
    return pod_of(found) if isinstance(found, Review) else found


def nested(levels: int) -> Any:
    value: Any = "deep"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;",
    ],
)
def test_json_is_accepted(content_type: str) -> None:
    assert check_content_type(content_type) is None


@pytest.mark.parametrize(
    ("content_type", "named"),
    [
        (None, "'missing'"),
        ("", "'missing'"),
        ("text/plain", "'text/plain'"),
        ("application/json-patch+json", "'application/json-patch+json'"),
        ("application/json; version=1", "'application/json; version=1'"),
    ],
)
def test_other_content_is_refused(content_type: str | None, named: str) -> None:
    assert check_content_type(content_type) == HttpRefusal(
        status=415, text=f"content type is {named}, expected 'application/json'", code="E6105"
    )


@pytest.mark.parametrize(
    ("request_fields", "namespace", "is_dry_run"),
    [
        pytest.param({}, "shop", False, id="plain"),
        pytest.param({"dryRun": True}, "shop", True, id="dry-run"),
        pytest.param({"dryRun": "true"}, "shop", False, id="dry-run-is-a-boolean"),
        pytest.param({"namespace": ""}, "default", False, id="no-namespace"),
        pytest.param({"namespace": 7}, "default", False, id="namespace-is-no-text"),
    ],
)
def test_question_is_read(request_fields: Any, namespace: str, is_dry_run: bool) -> None:
    assert question(review(**request_fields)) == PodReview(
        uid="u-1", namespace=namespace, pod=pod(), is_dry_run=is_dry_run
    )


def test_question_about_any_object_has_both_forms_of_it() -> None:
    content = review(operation="UPDATE", object={"kind": "X"}, oldObject=[1], namespace=None)
    assert decode(json.dumps(content).encode()) == Review(
        uid="u-1",
        operation="UPDATE",
        namespace="",
        object={"kind": "X"},
        old_object=[1],
        is_dry_run=False,
    )


def test_namespace_of_the_pod_is_the_second_choice() -> None:
    found = question(review(namespace=None, object=pod(namespace="own")))
    assert isinstance(found, PodReview)
    assert found.namespace == "own"


def test_pod_without_metadata_is_for_the_injector_to_judge() -> None:
    assert question(review(namespace="", object={"kind": "Pod"})) == PodReview(
        uid="u-1", namespace="default", pod={"kind": "Pod"}, is_dry_run=False
    )


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        pytest.param(
            b"",
            HttpRefusal(status=400, text="the admission body is empty", code="E6112"),
            id="empty",
        ),
        pytest.param(
            b" " * (MAX_BODY_BYTES + 1),
            HttpRefusal(
                status=413, text="the admission body has more than 3145728 bytes", code="E6111"
            ),
            id="too-big",
        ),
    ],
)
def test_body_that_cannot_hold_a_review_is_an_http_error(body: bytes, refusal: HttpRefusal) -> None:
    assert decode(body) == refusal


@pytest.mark.parametrize(
    ("content", "uid", "code", "message"),
    [
        pytest.param(b"{", "", "E6103", "the admission body is not JSON: Expecting", id="no-json"),
        pytest.param(b"\xff", "", "E6103", "the admission body is not JSON: ", id="no-text"),
        pytest.param(b"NaN", "", "E6103", "the admission body is not JSON: NaN", id="nan"),
        pytest.param(b"[" * 100_000, "", "E6103", "the admission body is not JSON", id="abyss"),
        pytest.param(b"9" * 5000, "", "E6103", "the admission body is not JSON", id="huge-number"),
        pytest.param(
            b'{"a": 1, "b": 2, "a": 3}',
            "",
            "E6103",
            "the admission body is not JSON: the key 'a' is written twice",
            id="duplicate-key",
        ),
        pytest.param(
            [0] * (MAX_VALUES + 1),
            "",
            "E6103",
            f"the admission body has more than {MAX_VALUES} values",
            id="too-many-values",
        ),
        pytest.param(
            {str(n): 0 for n in range(MAX_VALUES // 2 + 1)},
            "",
            "E6103",
            f"the admission body has more than {MAX_VALUES} values",
            id="too-many-keys",
        ),
        pytest.param([], "", "E6103", "the admission body is not an AdmissionReview", id="list"),
        pytest.param(
            {**review(), "kind": "Pod"},
            "u-1",
            "E6103",
            "kind of the admission body is 'Pod', expected 'AdmissionReview'",
            id="wrong-kind",
        ),
        pytest.param(
            {**review(), "apiVersion": "admission.k8s.io/v1beta1"},
            "u-1",
            "E6103",
            "apiVersion of the admission body is 'admission.k8s.io/v1beta1', "
            "expected 'admission.k8s.io/v1'",
            id="wrong-version",
        ),
        pytest.param(
            {**review(), "request": None}, "", "E6107", "nil admission request", id="no-request"
        ),
        pytest.param(
            {**review(), "request": []},
            "",
            "E6103",
            "the admission request has no uid",
            id="request-is-a-list",
        ),
        pytest.param(
            review(uid=""), "", "E6103", "the admission request has no uid", id="empty-uid"
        ),
        pytest.param(review(uid=7), "", "E6103", "the admission request has no uid", id="odd-uid"),
        pytest.param(
            review(object=None), "u-1", "E3002", "request.object is not a Pod", id="no-object"
        ),
        pytest.param(
            review(object={"kind": "Service"}),
            "u-1",
            "E3002",
            "request.object is not a Pod",
            id="other-object",
        ),
        pytest.param(
            review(object={**pod(), "deep": nested(MAX_DEPTH)}),
            "u-1",
            "E6103",
            f"the admission body is nested more than {MAX_DEPTH} levels deep",
            id="too-deep",
        ),
        pytest.param(
            review(object={**pod(), "\ud800": 1}),
            "u-1",
            "E6103",
            "the admission body has a text that is not Unicode",
            id="lone-surrogate",
        ),
    ],
)
def test_what_is_no_review_of_a_pod_is_refused_in_words(
    content: Any, uid: str, code: str, message: str
) -> None:
    refused = question(content)
    assert isinstance(refused, Refused)
    assert (refused.uid, refused.code) == (uid, code)
    assert refused.message.startswith(message)


def test_refusal_carries_uid_and_message() -> None:
    refused = Refused(uid="u-1", message="no:\n\ud800", code="E6108", warnings=("a\tb",))
    assert json.loads(encode(refused)) == {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {
            "uid": "u-1",
            "allowed": False,
            "warnings": ["a\ufffdb"],
            "status": {"message": "no:\ufffd\ufffd", "code": 400},
        },
    }


@pytest.mark.parametrize(
    ("written", "answered"),
    [
        pytest.param("admission.k8s.io/v1beta1", "admission.k8s.io/v1beta1", id="old"),
        pytest.param("admission.k8s.io/v9", "admission.k8s.io/v1", id="unknown"),
        pytest.param(["x"], "admission.k8s.io/v1", id="no-text"),
    ],
)
def test_other_version_is_refused_in_one_that_its_author_reads(written: Any, answered: str) -> None:
    refused = question({**review(), "apiVersion": written})
    assert isinstance(refused, Refused)
    assert json.loads(encode(refused))["apiVersion"] == answered


@pytest.mark.parametrize("patch", [None, []], ids=["skipped", "nothing-to-change"])
def test_allowed_without_change_has_no_patch(patch: list[Any] | None) -> None:
    assert json.loads(encode(Allowed(uid="u-1", patch=patch)))["response"] == {
        "uid": "u-1",
        "allowed": True,
    }


def test_patch_is_base64_of_json() -> None:
    patch = [{"op": "add", "path": "/a", "value": "ü"}]
    response = json.loads(encode(Allowed(uid="u-1", patch=patch)))["response"]
    assert json.loads(b64decode(response.pop("patch"))) == patch
    assert response == {"uid": "u-1", "allowed": True, "patchType": "JSONPatch"}


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_to_a_value(body: bytes) -> None:
    assert isinstance(question(body), PodReview | HttpRefusal | Refused)
