from __future__ import annotations

from app.compute.declared import Admitted, DeclaredObjects, RawKey
from app.compute.files import read_documents
from app.objects.meta import RawObject, Rejected


def admit(raw: RawObject, where: str) -> Admitted:
    """Refuses what says ``bad``, as a validator would."""
    if raw.get("bad"):
        entry = Rejected(where=where, field="bad", reason="is bad", code="E1")
        return Admitted(raw=raw, rejected=(entry,))
    return Admitted(raw=raw)


def declared(**files: str) -> DeclaredObjects:
    objects = DeclaredObjects(admit)
    tell(objects, **files)
    return objects


def tell(objects: DeclaredObjects, **files: str) -> None:
    for source, text in files.items():
        objects.put(source, read_documents(text, source))
    objects.merge()


def thing(name: str, **extra: object) -> str:
    fields = "".join(f"{key}: {value}\n" for key, value in extra.items())
    return f"apiVersion: v1\nkind: Thing\nmetadata: {{name: {name}}}\n{fields}"


def values(objects: DeclaredObjects) -> dict[str, object]:
    return {key.name: stored.raw.get("v") for key, stored in objects.objects.items()}


def test_objects_without_a_namespace_are_in_default() -> None:
    objects = declared(
        f="apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n" + thing("x")
    )
    assert list(objects.objects) == [
        RawKey(kind="Namespace", name="shop"),
        RawKey(kind="Thing", namespace="default", name="x"),
    ]
    stored = objects.objects[RawKey(kind="Thing", namespace="default", name="x")]
    assert stored.where == "f:5"
    assert stored.raw["metadata"] == {"name": "x", "namespace": "default"}


def test_a_file_that_breaks_keeps_its_objects() -> None:
    objects = declared(f=thing("x", v=1))
    tell(objects, f="a: [")
    assert values(objects) == {"x": 1}
    assert [entry.where for entry in objects.rejected["f"]] == ["f:1"]
    tell(objects, f=thing("x", v=2))
    assert values(objects) == {"x": 2}
    assert objects.rejected["f"] == ()


def test_a_document_that_becomes_invalid_keeps_its_last_good_form() -> None:
    objects = declared(f=thing("x", v=1) + "---\n" + thing("y", v=1))
    tell(objects, f=thing("x", v=2, bad=1) + "---\n" + thing("y", v=2))
    assert values(objects) == {"x": 1, "y": 2}
    (rejected,) = objects.rejected["f"]
    assert (rejected.where, rejected.field) == ("f:5", "bad")


def test_an_invalid_document_that_was_never_good_is_not_there() -> None:
    assert values(declared(f=thing("x", bad=1))) == {}


def test_a_document_that_lost_its_name_takes_no_object_away() -> None:
    objects = declared(f=thing("x", v=1) + "---\n" + thing("y", v=1))
    tell(objects, f=thing("x", v=2) + "---\napiVersion: v1\nkind: Thing\nmetadata: {}\n")
    assert values(objects) == {"x": 2, "y": 1}
    (rejected,) = objects.rejected["f"]
    assert (rejected.where, rejected.field) == ("f:8", "metadata.name")


def test_a_bad_document_that_was_never_seen_takes_no_object_away() -> None:
    objects = declared(f=thing("x", v=1) + "---\n" + thing("y", v=1))
    tell(objects, f=thing("x", v=2) + "---\n" + thing("z", bad=1))
    assert values(objects) == {"x": 2, "y": 1}


def test_an_unreadable_document_takes_no_object_away() -> None:
    objects = declared(f=thing("x", v=1) + "---\n" + thing("y", v=1))
    tell(objects, f=thing("x", v=2) + "---\n- y\n")
    assert values(objects) == {"x": 2, "y": 1}


def test_of_two_files_with_one_object_the_first_one_there_stays() -> None:
    objects = declared(b=thing("x", v="b"))
    tell(objects, a=thing("x", v="a"))
    assert values(objects) == {"x": "b"}
    (rejected,) = objects.rejected["a"]
    assert rejected.where == "a:1"
    assert "declared at b:1 already" in rejected.reason
    objects.remove("b")
    objects.merge()
    assert values(objects) == {"x": "a"}
    assert objects.rejected == {"a": (), "b": ()}


def test_files_read_together_are_taken_in_order_of_name() -> None:
    assert values(declared(b=thing("x", v="b"), a=thing("x", v="a"))) == {"x": "a"}


def test_of_two_documents_in_one_file_the_first_stays() -> None:
    objects = declared(f=thing("x", v=1) + "---\n" + thing("x", v=2))
    assert values(objects) == {"x": 1}
    assert [entry.where for entry in objects.rejected["f"]] == ["f:6"]


def test_what_has_no_kind_name_or_namespace_is_rejected_with_the_field() -> None:
    text = (
        "{kind: A, metadata: {name: x}}\n---\n{apiVersion: v1, kind: A}\n---\n"
        "{apiVersion: v1, kind: A, metadata: {name: 5}}\n---\n"
        "{apiVersion: v1, kind: A, metadata: {name: x, namespace: 5}}\n"
    )
    objects = declared(f=text)
    assert objects.objects == {}
    assert sorted((entry.where, entry.field) for entry in objects.rejected["f"]) == [
        ("f:1", "kind"),
        ("f:3", "metadata"),
        ("f:5", "metadata.name"),
        ("f:7", "metadata.namespace"),
    ]
