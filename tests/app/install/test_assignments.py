"""``--set`` texts, in the syntax of Helm."""

from __future__ import annotations

from typing import Any

import pytest

from app.errors import SettingError
from app.install.assignments import parse_assignments


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        pytest.param("", {}, id="nothing"),
        pytest.param("osm.a=b,osm.c=1", {"osm": {"a": "b", "c": 1}}, id="several"),
        pytest.param("a=true,b=false,c=null", {"a": True, "b": False, "c": None}, id="words"),
        pytest.param("a=0,b=-3,c=12", {"a": 0, "b": -3, "c": 12}, id="whole-numbers"),
        pytest.param(
            "a=007,b=1.5,c=1m,d=-", {"a": "007", "b": "1.5", "c": "1m", "d": "-"}, id="texts"
        ),
        pytest.param("a=" + "9" * 30, {"a": "9" * 30}, id="too-long-for-a-number"),
        pytest.param("a=,b=x", {"a": "", "b": "x"}, id="empty-value"),
        pytest.param("a=b=c", {"a": "b=c"}, id="equals-sign-in-a-value"),
        pytest.param("a={x,1,true}", {"a": ["x", 1, True]}, id="list"),
        pytest.param("a={}", {"a": []}, id="empty-list"),
        pytest.param("a={x},b=y", {"a": ["x"], "b": "y"}, id="after-a-list"),
        pytest.param("a[1]=x,a[0].b=y", {"a": [{"b": "y"}, "x"]}, id="items-of-a-list"),
        pytest.param("a[0][1]=x", {"a": [[None, "x"]]}, id="list-in-a-list"),
        pytest.param(r"k.example\.com/t=a\,b", {"k": {"example.com/t": "a,b"}}, id="escaped"),
        pytest.param("a=x\\", {"a": "x\\"}, id="backslash-at-the-end"),
        pytest.param("a=x,a=y", {"a": "y"}, id="later-wins"),
    ],
)
def test_a_text_becomes_a_tree(text: str, tree: dict[str, Any]) -> None:
    assert parse_assignments([text]) == tree


def test_later_texts_are_over_earlier_ones() -> None:
    assert parse_assignments(["a.b=1,a.c=2", "a.b=3"]) == {"a": {"b": 3, "c": 2}}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("a", "a has no value; write name=value", id="no-value"),
        pytest.param("a,b=1", "a has no value", id="first-has-no-value"),
        pytest.param("=1", "a name is missing", id="no-name"),
        pytest.param("a.=1", "a name is missing", id="no-last-name"),
        pytest.param("a..b=1", "a name is missing", id="no-middle-name"),
        pytest.param("[0]=1", "a name is missing", id="list-without-name"),
        pytest.param("a[x]=1", "[x]: a position is a number", id="position-is-a-word"),
        pytest.param("a[0=1", "[0]: a position is a number", id="bracket-stays-open"),
        pytest.param("a[1000]=1", "at most 1000 items", id="position-too-far"),
        pytest.param("a={1,2", "no closing brace", id="brace-stays-open"),
        pytest.param("a={1}x", "expected a comma at 'x'", id="text-after-a-list"),
        pytest.param("a=1,a.b=2", "'b' is below a value that has no parts", id="part-of-a-number"),
        pytest.param("a={1},a.b=2", "'b' is below a value that has no parts", id="part-of-a-list"),
        pytest.param("a.b=1,a[0]=2", "0 is below a value that has no parts", id="item-of-a-tree"),
    ],
)
def test_a_text_that_cannot_be_read_is_named(text: str, reason: str) -> None:
    with pytest.raises(SettingError) as raised:
        parse_assignments([text])
    assert str(raised.value).startswith(f"--set {text}: ")
    assert reason in str(raised.value)
