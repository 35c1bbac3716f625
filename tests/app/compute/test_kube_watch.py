"""Objects of a cluster become events of the mesh: what is posted, dropped, and asked for."""

from __future__ import annotations

from typing import Any

import factory
import pytest

from app.compute.kube_reflect import Selection
from app.compute.kube_watch import KindSink, lean, selection
from app.events import ObjectChanged, ObjectDeleted, ObjectEvent, SourceChecked, Synced
from app.objects.meta import ObjectKey, ObjectKind, RawObject, Rejected

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
KEY = ObjectKey(kind=ObjectKind.SERVICE, namespace="shop", name="web")


class Sink:
    """A sink with what it posted."""

    def __init__(self, kind: ObjectKind = ObjectKind.SERVICE) -> None:
        self.events: list[ObjectEvent] = []
        self.sink = KindSink(kind, self.events.append)

    def put(self, raw: RawObject) -> list[ObjectEvent]:
        self.sink.put(raw)
        return self.take()

    def gone(self) -> list[ObjectEvent]:
        self.sink.gone(KEY.namespace, KEY.name)
        return self.take()

    def take(self) -> list[ObjectEvent]:
        events, self.events[:] = list(self.events), []
        return events


def changed(raw: RawObject) -> ObjectChanged:
    return factory.changed(raw, str(KEY))


def checked(*reasons: str) -> SourceChecked:
    rejected = tuple(
        Rejected(where=str(KEY), field="spec.ports[0].port", reason=reason, code="E3002")
        for reason in reasons
    )
    return SourceChecked(source=str(KEY), rejected=rejected)


def service(port: int, **meta: Any) -> RawObject:
    raw = factory.service("shop/web", ports={"http": 80})
    raw["spec"]["ports"][0]["port"] = port
    raw["metadata"].update(meta)
    return raw


TOO_LARGE = "must be at most 65535, not 70000"


def test_object_is_posted_once_until_something_changes_that_is_read() -> None:
    sink = Sink()
    assert sink.put(service(80, resourceVersion="1")) == [changed(service(80))]
    assert sink.put(service(80, resourceVersion="2", managedFields=[{}])) == []
    assert sink.put(service(81, resourceVersion="3")) == [changed(service(81))]


def test_object_that_cannot_be_read_is_rejected_and_stays_as_it_was() -> None:
    sink = Sink()
    sink.put(service(80))
    assert sink.put(service(70000)) == [checked(TOO_LARGE)]
    assert sink.put(service(70000, resourceVersion="2")) == []
    assert sink.put(service(80)) == [checked()]
    assert sink.gone() == [ObjectDeleted(key=KEY)]


def test_rejection_goes_with_its_object() -> None:
    sink = Sink()
    assert sink.put(service(70000)) == [checked(TOO_LARGE)]
    assert sink.gone() == [checked()]
    assert sink.gone() == []


def test_rejected_object_that_was_good_is_deleted_with_its_rejection() -> None:
    sink = Sink()
    sink.put(service(80))
    sink.put(service(70000))
    assert sink.gone() == [checked(), ObjectDeleted(key=KEY)]


def test_kind_is_synced_once() -> None:
    sink = Sink()
    sink.sink.complete()
    sink.sink.complete()
    assert sink.take() == [Synced(kinds=frozenset({ObjectKind.SERVICE}))]


def test_recreated_object_is_another() -> None:
    sink = Sink()
    sink.put(service(80, uid="one"))
    assert sink.put(service(80, uid="two")) == [changed(service(80, uid="two"))]


def test_copies_that_kubectl_keeps_are_left_out() -> None:
    raw = factory.raw("Secret", "osm-system/ca")
    raw["metadata"] |= {
        "annotations": {LAST_APPLIED: '{"data": {"ca.key": "c2VjcmV0"}}', "a": "b"},
        "managedFields": [{"manager": "kubectl"}],
    }
    before = repr(raw)
    assert lean(raw) == factory.raw("Secret", "osm-system/ca") | {
        "metadata": {"name": "ca", "namespace": "osm-system", "annotations": {"a": "b"}}
    }
    assert repr(raw) == before


def selected(kind: ObjectKind, **fields: Any) -> Selection:
    return Selection(api_version="x/v1", kind=str(kind), **fields)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        pytest.param(ObjectKind.POD, {}, id="pods-of-all-namespaces"),
        pytest.param(
            ObjectKind.SECRET,
            {"labels": "app.kubernetes.io/name=openservicemesh.io", "metadata_only": True},
            id="secrets-by-metadata",
        ),
        pytest.param(
            ObjectKind.MESH_CONFIG, {"namespace": "osm", "name": "config"}, id="one-mesh-config"
        ),
        pytest.param(
            ObjectKind.MESH_ROOT_CERTIFICATE, {"namespace": "osm"}, id="roots-of-our-namespace"
        ),
    ],
)
def test_what_is_followed_of_a_kind(kind: ObjectKind, fields: dict[str, Any]) -> None:
    found = selection(kind, "x/v1", osm_namespace="osm", config_name="config")
    assert found == selected(kind, **fields)
