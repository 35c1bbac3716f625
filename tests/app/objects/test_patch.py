"""Merge patches: what they change, remove and leave alone."""

from app.objects.patch import merge_patch


def test_merge_patch_keeps_what_it_does_not_name() -> None:
    raw = {"a": {"b": 1, "c": {"d": 2}}, "e": [1]}
    merged = merge_patch(raw, {"a": {"b": 3, "f": {"g": 4}}, "e": [2]})
    assert merged == {"a": {"b": 3, "c": {"d": 2}, "f": {"g": 4}}, "e": [2]}
    assert raw == {"a": {"b": 1, "c": {"d": 2}}, "e": [1]}


def test_null_removes_a_field() -> None:
    raw = {"metadata": {"labels": {"a": "1", "b": "2"}}}
    assert merge_patch(raw, {"metadata": {"labels": {"a": None}}}) == {
        "metadata": {"labels": {"b": "2"}}
    }
