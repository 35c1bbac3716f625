"""One question before something is lost."""

from __future__ import annotations

import io

import pytest

from app.cli.prompt import confirm


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        pytest.param("y\n", True, id="yes"),
        pytest.param("YES\n", True, id="yes-in-full"),
        pytest.param("n\n", False, id="no"),
        pytest.param("\n\ny\n", True, id="empty-is-asked-again"),
        pytest.param("what\ny\n", True, id="other-text-is-asked-again"),
        pytest.param("\n\n\ny\n", False, id="three-tries"),
        pytest.param("", False, id="end-of-input"),
    ],
)
def test_a_question_is_answered(monkeypatch: pytest.MonkeyPatch, typed: str, answer: bool) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert confirm("Sure?") is answer
