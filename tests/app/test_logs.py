from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import datetime

import pytest

from app import logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    found = io.StringIO()
    yield found
    logs.configure()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_line_is_one_json_object(stream: io.StringIO) -> None:
    logs.configure(stream=stream)
    logs.logger("loop").info("proxy connected", proxy="a")
    (line,) = lines(stream)
    time = line.pop("time")
    assert line == {
        "component": "loop",
        "level": "info",
        "message": "proxy connected",
        "proxy": "a",
    }
    assert isinstance(time, str)
    assert datetime.fromisoformat(time).tzinfo is not None


def test_exception_is_part_of_the_line(stream: io.StringIO) -> None:
    logs.configure(stream=stream)
    try:
        int("broken")
    except ValueError:
        logs.logger("loop").exception("failed", error_code="E5000")
    (line,) = lines(stream)
    assert "ValueError: invalid literal" in str(line["exception"])


@pytest.mark.parametrize("human", [False, True])
def test_exception_shows_no_value_of_a_variable(stream: io.StringIO, *, human: bool) -> None:
    logs.configure(stream=stream, human=human)
    token = "-".join(["swordfish"] * 2)
    try:
        int("broken")
    except ValueError:
        logs.logger("loop").exception("failed", error_code="E5000")
    assert "ValueError: invalid literal" in stream.getvalue()
    assert token not in stream.getvalue()


def test_error_codes_are_counted(stream: io.StringIO) -> None:
    counted: list[str] = []
    logs.configure(stream=stream, count_error=counted.append)
    logs.logger("loop").error("failed", error_code="E5000")
    logs.logger("loop").error("failed")
    assert counted == ["E5000"]


@pytest.mark.parametrize(
    ("level", "kept"),
    [
        pytest.param("debug", ["debug", "info", "error"], id="debug"),
        pytest.param("TRACE", ["debug", "info", "error"], id="case-does-not-matter"),
        pytest.param("info", ["info", "error"], id="info"),
        pytest.param("warn", ["error"], id="warn"),
        pytest.param("fatal", [], id="fatal"),
        pytest.param("disabled", [], id="disabled"),
    ],
)
def test_lines_below_the_level_are_dropped(
    stream: io.StringIO, level: str, kept: list[str]
) -> None:
    logs.configure(stream=stream)
    log = logs.logger("loop")
    assert logs.set_level(level)
    log.debug("debug")
    log.info("info")
    log.error("error")
    assert [line["message"] for line in lines(stream)] == kept


def test_unknown_level_changes_nothing_and_is_an_error(stream: io.StringIO) -> None:
    logs.configure(stream=stream, level="error")
    assert not logs.set_level("loud")
    logs.logger("loop").info("info")
    assert [(line["error_code"], line["wanted"]) for line in lines(stream)] == [("E1001", "loud")]


def test_lines_of_libraries_have_the_same_form(stream: io.StringIO) -> None:
    logs.configure(stream=stream)
    logging.getLogger("xds.server.ads").warning("odd %s", "type", extra={"type": "x"})
    logging.getLogger("uvicorn").info("started")
    (line,) = lines(stream)
    line.pop("time")
    assert line == {
        "component": "xds.server.ads",
        "level": "warning",
        "message": "odd type",
        "type": "x",
    }


def test_human_format_is_text(stream: io.StringIO) -> None:
    logs.configure(stream=stream, human=True)
    logs.logger("loop").info("proxy connected", proxy="a")
    assert "proxy connected" in stream.getvalue()
    assert not stream.getvalue().startswith("{")
