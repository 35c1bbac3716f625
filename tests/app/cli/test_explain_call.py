"""``osm explain`` and ``osm policy check-pods|check-conflicts``: what they print and end with."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Self

import pytest
from typer.testing import CliRunner

from app.cli import explain_call
from app.cli.explain_call import lines, pod_lines, with_namespace
from app.cli.main import app
from app.errors import SettingError

RUNNER = CliRunner()
FOUND: dict[str, Any] = {
    "source": "shop/ann",
    "to": "shop/web",
    "request": "GET /",
    "outcome": "denied",
    "seen": "404",
    "decided_by": [],
    "steps": [
        {
            "what": "rules",
            "check": "failed",
            "sentence": "no rule names it",
            "objects": [
                {"kind": "TrafficTarget", "namespace": "a", "name": "b", "where": "smi/t.yaml:3"},
                {"kind": "Pod", "namespace": "a", "name": "p", "where": "Pod a/p"},
            ],
        }
    ],
    "remedy": "add a match",
}
Answer = Callable[[Any], list[str]]


class FakeAdmin:
    """The part of ``AdminClient`` that is asked."""

    def __init__(self, answer: Any, asked: list[str]) -> None:
        self._answer = answer
        self._asked = asked

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None: ...

    def get(self, path: str) -> Any:
        self._asked.append(path)
        return self._answer


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Has the admin API answer; the paths it is asked come back."""

    def answers(value: Any) -> list[str]:
        asked: list[str] = []
        monkeypatch.setattr(explain_call, "open_admin", lambda *_: FakeAdmin(value, asked))
        return asked

    return answers


def test_walk_is_told_line_by_line() -> None:
    assert list(lines(FOUND)) == [
        "shop/ann → shop/web: GET /",
        "  ✗ rules: no rule names it",
        "      smi/t.yaml:3",
        "denied: the client sees 404",
        "to change that: add a match",
    ]


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        pytest.param("allowed", 0, id="allowed"),
        pytest.param("would be denied", 0, id="audited"),
        pytest.param("denied", 2, id="denied"),
        pytest.param("partly allowed", 2, id="partly"),
        pytest.param("unreachable", 2, id="unreachable"),
    ],
)
def test_status_tells_the_outcome(answer: Answer, outcome: str, status: int) -> None:
    asked = answer({**FOUND, "outcome": outcome})
    words = [
        "explain",
        "shop/ann",
        "shop/web",
        "-p",
        "80",
        "-X",
        "PUT",
        "-H",
        "a:b c",
        "-o",
        "json",
    ]
    ended = RUNNER.invoke(app, words)
    assert (ended.exit_code, json.loads(ended.stdout)["outcome"]) == (status, outcome)
    assert asked == [
        "/api/v1/explain?from=shop%2Fann&to=shop%2Fweb&method=PUT&path=%2F&header=a%3Ab+c&port=80"
    ]


TARGET = {"kind": "TrafficTarget", "namespace": "shop", "name": "t", "where": ""}


@pytest.mark.parametrize(
    ("found", "status", "words"),
    [
        pytest.param({"permissive": True, "targets": []}, 0, "in permissive mode", id="permissive"),
        pytest.param(
            {"permissive": False, "targets": [TARGET]}, 0, "policy [t] in namespace [shop]", id="t"
        ),
        pytest.param({"permissive": False, "targets": []}, 2, "is not allowed", id="none"),
    ],
)
def test_check_pods(answer: Answer, found: dict[str, Any], status: int, words: str) -> None:
    asked = answer({**found, "allowed": status == 0})
    ended = RUNNER.invoke(app, ["policy", "check-pods", "ann", "shop/web"])
    assert (ended.exit_code, words in ended.stdout) == (status, True)
    assert asked == ["/api/v1/explain/pods?from=default%2Fann&to=shop%2Fweb"]
    assert list(pod_lines(found, "default/ann", "shop/web")) == [ended.stdout.strip()]


@pytest.mark.parametrize("pod", ["", "/a", "a/", "a/b/c"])
def test_pod_that_is_not_named_right(pod: str) -> None:
    with pytest.raises(SettingError, match="NAMESPACE/POD"):
        with_namespace(pod)


def conflict(kind: str) -> dict[str, Any]:
    return {"first": {"kind": kind}, "message": f"{kind} a conflicts with b"}


@pytest.mark.parametrize(
    ("conflicts", "said"),
    [
        pytest.param([], "No conflicts among IngressBackend objects in namespace shop", id="none"),
        pytest.param(
            [conflict("Telemetry"), conflict("IngressBackend")],
            "IngressBackend a conflicts with b",
            id="one",
        ),
    ],
)
def test_check_conflicts(answer: Answer, conflicts: list[dict[str, Any]], said: str) -> None:
    asked = answer(conflicts)
    ended = RUNNER.invoke(app, ["policy", "check-conflicts", "IngressBackend", "-n", "shop"])
    assert (ended.exit_code, ended.stdout.strip()) == (0, said)
    assert asked == ["/api/v1/conflicts?namespace=shop"]


def test_other_kinds_are_not_checked() -> None:
    ended = RUNNER.invoke(app, ["policy", "check-conflicts", "Pod", "-n", "shop"])
    assert isinstance(ended.exception, SettingError)
