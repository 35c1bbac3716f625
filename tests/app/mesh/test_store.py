"""The store holds what events said, and tells which objects they changed."""

from __future__ import annotations

import factory

from app.events import ObjectDeleted, SourceChecked, Synced
from app.mesh.store import ObjectStore
from app.objects.core import EndpointSlice, Pod, Service
from app.objects.meta import ObjectKey, ObjectKind, Rejected

WEB = factory.changed(factory.pod("shop/web", labels={"app": "web", "v": "1"}), "a.yaml:1")


def names(store: ObjectStore, **labels: str) -> list[str]:
    return [pod.name for pod in store.labelled(Pod, "shop", labels)]


def test_change_names_its_object() -> None:
    store = ObjectStore()
    assert store.apply(WEB) == {WEB.key}
    assert store.get(Pod, "shop", "web") is WEB.object
    assert store.get(Service, "shop", "web") is None
    assert list(store.all(Pod, "shop")) == [WEB.object]
    assert list(store.all(Pod, "pay")) == []


def test_equal_content_is_no_change_but_its_place_is_kept() -> None:
    store = ObjectStore()
    store.apply(WEB)
    raw = factory.pod("shop/web", labels={"app": "web", "v": "1"})
    raw["metadata"]["resourceVersion"] = "2"
    assert store.apply(factory.changed(raw, "a.yaml:9")) == frozenset()
    assert store.where(WEB.key) == "a.yaml:9"


def test_deleted_object_is_gone_once() -> None:
    store = ObjectStore()
    store.apply(WEB)
    assert store.apply(ObjectDeleted(key=WEB.key)) == {WEB.key}
    assert store.apply(ObjectDeleted(key=WEB.key)) == frozenset()
    assert store.get(Pod, "shop", "web") is None
    assert names(store, app="web") == []
    assert store.where(WEB.key) == "Pod shop/web"


def test_pods_are_found_by_all_their_labels() -> None:
    store = factory.store(
        factory.pod("shop/b", labels={"app": "web", "v": "1"}),
        factory.pod("shop/a", labels={"app": "web", "v": "2"}),
        factory.pod("pay/c", labels={"app": "web"}),
        factory.service("shop/d"),
    )
    assert names(store, app="web") == ["a", "b"]
    assert names(store, app="web", v="1") == ["b"]
    assert names(store, app="web", v="3") == []
    assert names(store) == []
    assert store.labelled(EndpointSlice, "shop", {"app": "web"}) == []


def test_labels_follow_changes() -> None:
    store = factory.store(factory.pod("shop/other", labels={"app": "web"}))
    store.apply(WEB)
    store.apply(factory.changed(factory.pod("shop/web", labels={"v": "1"})))
    assert (names(store, app="web"), names(store, v="1")) == (["other"], ["web"])


def test_rejections_of_a_source_replace_each_other() -> None:
    store = ObjectStore()
    store.apply(WEB)
    bad = Rejected(where="a.yaml:1", reason="is bad", code="E3002")
    assert store.apply(SourceChecked(source="a.yaml", rejected=(bad,))) == frozenset()
    assert list(store.rejected()) == [bad]
    assert store.get(Pod, "shop", "web") is WEB.object
    store.apply(SourceChecked(source="a.yaml", rejected=()))
    assert list(store.rejected()) == []


def test_synced_changes_nothing() -> None:
    assert ObjectStore().apply(Synced(kinds=frozenset(ObjectKind))) == frozenset()


def test_place_of_an_unknown_object_is_its_name() -> None:
    key = ObjectKey(kind=ObjectKind.SERVICE, namespace="shop", name="web")
    assert ObjectStore().where(key) == "Service shop/web"
