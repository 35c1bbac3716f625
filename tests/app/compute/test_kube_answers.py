"""Answers of an API server become our errors, with its words."""

from __future__ import annotations

import json

import pytest

from app.compute.kube_answers import Answer, accepted
from app.errors import (
    AppError,
    ForbiddenError,
    KubernetesError,
    NotFoundError,
    UnauthenticatedError,
    UnreachableError,
    WriteConflict,
)


def status(message: str) -> bytes:
    return json.dumps({"kind": "Status", "status": "Failure", "message": message}).encode()


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        pytest.param(
            Answer(status=401, body=status("Unauthorized")),
            UnauthenticatedError,
            "create Pod a/b: Unauthorized",
            id="401",
        ),
        pytest.param(
            Answer(status=403, body=status('pods is forbidden: User "u" cannot create')),
            ForbiddenError,
            'not allowed to create Pod a/b: pods is forbidden: User "u" cannot create',
            id="403-names-verb-and-object",
        ),
        pytest.param(
            Answer(status=404, body=status('pods "b" not found')),
            NotFoundError,
            'create Pod a/b: pods "b" not found',
            id="404",
        ),
        pytest.param(
            Answer(status=409, body=status("exists")),
            WriteConflict,
            "create Pod a/b: exists",
            id="409",
        ),
        pytest.param(
            Answer(status=422, body=status("spec.x: Invalid value")),
            KubernetesError,
            "create Pod a/b: spec.x: Invalid value",
            id="422-has-the-servers-words",
        ),
        pytest.param(
            Answer(status=429, body=b"slow down"),
            UnreachableError,
            "create Pod a/b: HTTP status 429: slow down",
            id="429-text",
        ),
        pytest.param(
            Answer(status=503, body=b""),
            UnreachableError,
            "create Pod a/b: HTTP status 503",
            id="503-empty",
        ),
        pytest.param(
            Answer(status=500, body=b"[1]"),
            KubernetesError,
            "create Pod a/b: HTTP status 500: [1]",
            id="500-no-status-object",
        ),
        pytest.param(
            Answer(status=302, body=b""),
            KubernetesError,
            "create Pod a/b: HTTP status 302",
            id="redirect-is-not-followed",
        ),
        pytest.param(
            Answer(status=200, body=b"<html>"),
            KubernetesError,
            "create Pod a/b: the answer is no JSON object; is this an API server?",
            id="a-login-page",
        ),
    ],
)
def test_refusals(answer: Answer, error: type[AppError], message: str) -> None:
    with pytest.raises(AppError) as caught:
        accepted(answer, "create Pod a/b")
    assert (type(caught.value), str(caught.value)) == (error, message)


def test_long_words_are_cut() -> None:
    with pytest.raises(KubernetesError) as caught:
        accepted(Answer(status=400, body=b"x" * 100_000), "x")
    assert len(str(caught.value)) < 2100


def test_good_answer_is_its_object() -> None:
    assert accepted(Answer(status=201, body=b'{"kind": "Pod"}'), "create") == {"kind": "Pod"}
