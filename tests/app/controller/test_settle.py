"""Objects become what they should be, with as few writes as possible."""

import math
from typing import Any

import pytest
from fakes.cluster import FakeCluster

from app.controller.settle import ATTEMPTS, settle
from app.errors import ForbiddenError, NotFoundError, WriteConflict
from app.objects.meta import ObjectRef, RawObject

REF = ObjectRef(api_version="v1", kind="ConfigMap", namespace="a", name="b")


def config(data: str, **metadata: Any) -> RawObject:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": "a", "name": "b", **metadata},
        "data": {"x": data},
    }


def to(data: str) -> Any:
    return lambda current: {**(current or config("")), "data": {"x": data}}


def data_of(cluster: FakeCluster) -> str | None:
    found = cluster.get("ConfigMap", "b", "a")
    return None if found is None else str(found["data"]["x"])


def writes(cluster: FakeCluster) -> list[str]:
    return [verb for verb, _ in cluster.calls if verb != "read"]


@pytest.mark.parametrize(
    ("objects", "verbs"),
    [
        pytest.param([], ["create"], id="missing"),
        pytest.param([config("old")], ["replace"], id="different"),
        pytest.param([config("new")], [], id="equal"),
    ],
)
def test_object_is_as_merged_with_one_write_at_most(
    objects: list[RawObject], verbs: list[str]
) -> None:
    cluster = FakeCluster(*objects)
    assert settle(cluster, REF, to("new")) is bool(verbs)
    assert (data_of(cluster), writes(cluster)) == ("new", verbs)


@pytest.mark.parametrize(
    ("verb", "error", "objects"),
    [
        pytest.param("create", WriteConflict("exists"), [], id="created-by-another"),
        pytest.param("replace", WriteConflict("old"), [config("old")], id="written-by-another"),
        pytest.param("replace", NotFoundError("gone"), [config("old")], id="deleted-by-another"),
    ],
)
def test_it_is_read_again_when_somebody_else_was_first(
    verb: str, error: Exception, objects: list[RawObject]
) -> None:
    cluster = FakeCluster(*objects)
    cluster.fail(verb, error)
    assert settle(cluster, REF, to("new"))
    assert (data_of(cluster), writes(cluster)) == ("new", [verb, verb])


def test_endless_conflict_is_raised() -> None:
    cluster = FakeCluster(config("old"))
    cluster.fail("replace", WriteConflict("old"), times=math.inf)
    with pytest.raises(WriteConflict):
        settle(cluster, REF, to("new"))
    assert writes(cluster) == ["replace"] * ATTEMPTS


def test_refusal_is_raised_at_once() -> None:
    cluster = FakeCluster()
    cluster.fail("create", ForbiddenError("no right"))
    with pytest.raises(ForbiddenError):
        settle(cluster, REF, to("new"))
    assert writes(cluster) == ["create"]


class FillingIn(FakeCluster):
    """Fills in what it is given, so that a write of ours changes nothing of what is stored."""

    def replace(self, raw: RawObject) -> RawObject:
        return self.read(ObjectRef.of(raw)) or {}


def test_write_that_changed_nothing_on_the_server_does_not_count() -> None:
    assert settle(FillingIn(config("filled in")), REF, to("new")) is False
