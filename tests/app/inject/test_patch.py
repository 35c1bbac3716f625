from __future__ import annotations

import copy
from typing import Any

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.inject.patch import diff

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.text("ab~/", max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("ab~/", max_size=2), inner, max_size=3)
    ),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text("ab~/", max_size=2), VALUES, max_size=4)


@pytest.mark.parametrize(
    ("before", "after", "patch"),
    [
        pytest.param({"a": 1}, {"a": 1}, [], id="equal"),
        pytest.param({}, {"a": 1}, [{"op": "add", "path": "/a", "value": 1}], id="new-field"),
        pytest.param({"a": 1}, {}, [{"op": "remove", "path": "/a"}], id="no-field"),
        pytest.param(
            {"a": {"b": 1}},
            {"a": {"b": 2}},
            [{"op": "replace", "path": "/a/b", "value": 2}],
            id="deep",
        ),
        pytest.param(
            {"a": [1]}, {"a": [1, 2]}, [{"op": "add", "path": "/a/-", "value": 2}], id="appended"
        ),
        pytest.param(
            {"a": [1, 2, 3]},
            {"a": [1]},
            [{"op": "remove", "path": "/a/2"}, {"op": "remove", "path": "/a/1"}],
            id="shortened",
        ),
        pytest.param(
            {"a": [{"b": 1}]},
            {"a": [{"b": 2}]},
            [{"op": "replace", "path": "/a/0/b", "value": 2}],
            id="edited-item",
        ),
        pytest.param(
            {"a": 1},
            {"a": True},
            [{"op": "replace", "path": "/a", "value": True}],
            id="types-differ",
        ),
        pytest.param(
            {"a": []}, {"a": {}}, [{"op": "replace", "path": "/a", "value": {}}], id="shapes-differ"
        ),
        pytest.param(
            {"a": None}, {"a": []}, [{"op": "replace", "path": "/a", "value": []}], id="was-null"
        ),
        pytest.param(
            {}, {"a/b~c": 1}, [{"op": "add", "path": "/a~1b~0c", "value": 1}], id="escaped"
        ),
    ],
)
def test_patch_says_what_differs(before: Any, after: Any, patch: list[dict[str, Any]]) -> None:
    assert diff(before, after) == patch


@given(OBJECTS, OBJECTS)
def test_patch_leads_from_one_object_to_the_other(before: Any, after: Any) -> None:
    patched = jsonpatch.apply_patch(copy.deepcopy(before), copy.deepcopy(diff(before, after)))
    assert patched == after
    assert repr(patched) == repr(after) or diff(patched, after) == []
