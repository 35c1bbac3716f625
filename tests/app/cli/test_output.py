from __future__ import annotations

import pytest

from app.cli.output import OutputFormat, emit_rows, fail

PATTERN = "GET /v[0-9]+/[a-z]+ [/x] :smile:"


def test_a_table_shows_patterns_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    emit_rows([{"requests": PATTERN}], {"requests": "REQUESTS"}, OutputFormat.TABLE)
    assert capsys.readouterr().out.splitlines()[1].rstrip() == PATTERN


def test_an_error_shows_patterns_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert fail(PATTERN, 3).exit_code == 3
    assert capsys.readouterr().err == f"error: {PATTERN}\n"
