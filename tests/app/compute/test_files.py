from __future__ import annotations

import pytest

from app.compute.files import read_documents

SPLIT = """\
# a comment
apiVersion: split.smi-spec.io/v1alpha2
kind: TrafficSplit
metadata:
  name: shop
  annotations:
    a.b/c: x
spec:
  backends:
    - service: v1
      weight: ninety
"""


def test_every_document_knows_its_line_and_the_line_of_each_field() -> None:
    content = read_documents(f"kind: First\n---\n{SPLIT}", "split.yaml")
    first, second = content.documents
    assert (first.where, second.where) == ("split.yaml:1", "split.yaml:4")
    places = {
        "spec.backends[0].weight": 13,
        "spec.backends[7].weight": 11,
        "spec.backends": 11,
        "spec.service": 10,
        "metadata.annotations.a.b/c": 9,
        "metadata.name": 7,
        "status": 4,
        "": 4,
    }
    assert {path: second.where_of(path) for path in places} == {
        path: f"split.yaml:{line}" for path, line in places.items()
    }


def test_a_list_stands_for_its_items() -> None:
    text = "kind: List\napiVersion: v1\nitems:\n- kind: A\n- kind: B\n"
    content = read_documents(text, "f")
    assert [(d.raw, d.where) for d in content.documents] == [
        ({"kind": "A"}, "f:4"),
        ({"kind": "B"}, "f:5"),
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("v: 2024-01-02", "2024-01-02", id="a-date-stays-text"),
        pytest.param("v: 2024-01-02T03:04:05Z", "2024-01-02T03:04:05Z", id="so-does-a-time"),
        pytest.param("v: on", True, id="yaml-1.1-boolean"),
        pytest.param("v: 'off'", "off", id="quoted-text"),
        pytest.param("v: 0x10", 16, id="number"),
        pytest.param("v: 1.5", 1.5, id="fraction"),
        pytest.param("v: ~", None, id="null"),
        pytest.param("v: {8080: x}", {"8080": "x"}, id="keys-are-text"),
        pytest.param("a: &a {x: 1}\nv: {<<: *a, y: 2}", {"x": 1, "y": 2}, id="merge-key"),
        pytest.param("a: &a {x: 1}\nv: {<<: *a, x: 2}", {"x": 2}, id="own-key-wins-over-merged"),
        pytest.param("v: =", "=", id="equals-sign"),
    ],
)
def test_values_are_what_kubectl_would_send(text: str, value: object) -> None:
    (document,) = read_documents(text, "f").documents
    assert document.raw["v"] == value


def test_empty_documents_are_nothing() -> None:
    assert read_documents("---\n# nothing\n---\n", "f") == read_documents("", "f")
    assert not read_documents("---\n---\n", "f").rejected


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        pytest.param("a: 1\nb: 2\na: 3", "f:3", "'a' is given twice", id="key-twice"),
        pytest.param("- a\n- b", "f:1", "is not a Kubernetes object", id="a-list-is-no-object"),
        pytest.param("a:\n  b: !!python/object:x y", "f:2", "tag", id="foreign-tag"),
        pytest.param("a: .inf", "f:1", "finite", id="infinity"),
        pytest.param("? [a]\n: b", "f:1", "plain text", id="key-is-no-text"),
        pytest.param("kind: List\nitems: 5", "f:2", "sequence", id="list-without-items"),
        pytest.param("kind: List\nitems:\n- 5", "f:3", "mapping", id="item-is-no-object"),
        pytest.param("a: &a\n  b: *a", "f:1", "too large", id="alias-of-itself"),
    ],
)
def test_a_bad_document_is_rejected_with_its_line(text: str, where: str, words: str) -> None:
    content = read_documents(text, "f")
    (rejected,) = content.rejected
    assert not content.broken
    assert rejected.where == where
    assert words in rejected.reason


def test_a_bad_document_leaves_its_neighbours() -> None:
    content = read_documents("kind: A\n---\n- bad\n---\nkind: C\n", "f")
    assert [d.raw for d in content.documents] == [{"kind": "A"}, {"kind": "C"}]
    assert len(content.rejected) == 1


def test_aliases_cannot_blow_up_a_document() -> None:
    levels = "\n".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 12))
    (rejected,) = read_documents(f"l0: &l0 [x]\n{levels}", "f").rejected
    assert "aliases" in rejected.reason


def test_merges_cannot_blow_up_a_document() -> None:
    levels = "\n".join(
        f"l{i}: &l{i}\n  <<: [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 12)
    )
    (rejected,) = read_documents(f"l0: &l0 {{x: 1}}\n{levels}", "f").rejected
    assert "aliases" in rejected.reason


def test_a_merge_brings_in_what_is_not_there_and_its_first_mapping_wins() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {x: 3, <<: [*a, *b]}\nd: {<<: *b, z: 4}"
    (document,) = read_documents(text, "f").documents
    assert document.raw["c"] == {"x": 3, "y": 1, "z": 2}
    assert document.raw["d"] == {"y": 2, "z": 4}
    (rejected,) = read_documents("kind: A\nb: {<<: 5}", "f").rejected
    assert (rejected.where, "<< takes a mapping" in rejected.reason) == ("f:2", True)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        pytest.param("kind: A\n---\na: [1,\nb: 2", "f:4", id="open-bracket"),
        pytest.param("a: b\n\tc: d", "f:2", id="tab"),
        pytest.param("a: *nothing", "f:1", id="unknown-alias"),
        pytest.param("a: \x00", "f:1", id="control-character"),
    ],
)
def test_a_file_that_does_not_parse_is_broken_as_a_whole(text: str, where: str) -> None:
    content = read_documents(text, "f")
    assert content.broken
    assert content.documents == ()
    assert [entry.where for entry in content.rejected] == [where]
    assert "is not YAML" in content.rejected[0].reason
