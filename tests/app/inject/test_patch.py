from __future__ import annotations

import copy
from typing import Any

import jsonpatch
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


def test_equal_objects_need_no_patch() -> None:
    assert diff({"a": [1]}, {"a": [1]}) == []


@given(OBJECTS, OBJECTS)
def test_patch_leads_from_one_object_to_the_other(before: Any, after: Any) -> None:
    patched = jsonpatch.apply_patch(copy.deepcopy(before), copy.deepcopy(diff(before, after)))
    assert patched == after
    assert repr(patched) == repr(after) or diff(patched, after) == []
