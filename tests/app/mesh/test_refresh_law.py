"""The law of refresh: small steps in any order lead where reading everything at once leads."""

from __future__ import annotations

from typing import Any

import factory
from hypothesis import given, settings
from hypothesis import strategies as st

from app.events import ObjectDeleted, ObjectEvent
from app.mesh.refresh import MeshScope, refresh
from app.mesh.snapshot import MeshSnapshot
from app.mesh.store import ObjectStore
from app.mesh.table import ObjectTable
from xds.policy.identity import Issuers

# Few names, so that objects meet: most laws of indexes break only where they do.
NAMESPACES = st.sampled_from(["a", "a", "a", "b"])
NAMES = st.sampled_from(["p", "q"])
LABELS = st.sampled_from([{"app": "1"}, {"app": "2"}, {"app": "1", "v": "1"}])
ADDRESSES = st.sampled_from(["10.0.0.1", "10.0.0.2"])
NUMBERS = st.integers(1, 2)
SECONDS = st.integers(0, 2).map(factory.created)
PORT_NAMES = st.sampled_from(["http", "http", "tcp"])
PATHS = st.builds("{}/{}".format, NAMESPACES, NAMES)
ACCOUNTS = st.builds("{1}.{0}".format, NAMESPACES, NAMES)


@st.composite
def pods(draw: st.DrawFn) -> dict[str, Any]:
    raw = factory.pod(
        draw(PATHS),
        account=draw(NAMES),
        labels=draw(LABELS),
        ip=draw(st.none() | ADDRESSES),
        ports={"http": draw(NUMBERS)},
        sidecar=draw(st.sampled_from([True, True, False])),
        phase=draw(st.sampled_from(["Running", "Running", "Failed"])),
        meta=draw(SECONDS),
    )
    if draw(st.integers(0, 7)) == 0:
        raw["metadata"]["labels"]["osm-proxy-uuid"] = "shared"
    return raw


@st.composite
def services(draw: st.DrawFn) -> dict[str, Any]:
    ports = [
        {"name": draw(PORT_NAMES), "port": draw(NUMBERS), "targetPort": draw(NUMBERS)}
        for _ in range(draw(st.sampled_from([1, 1, 2, 0])))
    ]
    return factory.service(
        draw(PATHS),
        ports=ports,
        selector=draw(LABELS),
        cluster_ip=draw(st.sampled_from(["None", "10.96.0.1", "10.96.0.2"])),
        meta=draw(SECONDS),
    )


@st.composite
def endpoints(draw: st.DrawFn) -> dict[str, Any]:
    members = draw(st.dictionaries(NAMES, ADDRESSES, min_size=1))
    waiting = draw(st.dictionaries(NAMES, ADDRESSES))
    return factory.endpoints(
        draw(PATHS),
        members,
        ports={draw(PORT_NAMES): draw(NUMBERS)},
        not_ready=waiting,
        hostnames=draw(st.booleans()),
    )


@st.composite
def slices(draw: st.DrawFn) -> dict[str, Any]:
    member = st.builds(
        factory.endpoint,
        ADDRESSES,
        pod=st.just("") | NAMES,
        hostname=st.just("") | NAMES,
        ready=st.booleans(),
    )
    return factory.endpoint_slice(
        draw(PATHS),
        draw(NAMES),
        draw(st.lists(member, min_size=1, max_size=2)),
        ports={draw(PORT_NAMES): draw(NUMBERS)},
    )


@st.composite
def targets(draw: st.DrawFn) -> dict[str, Any]:
    return factory.traffic_target(
        draw(PATHS),
        to=draw(NAMES),
        sources=draw(st.lists(ACCOUNTS, max_size=2)),
        groups=draw(st.lists(NAMES, max_size=1)),
        tcp=draw(st.lists(NAMES, max_size=1)),
    )


@st.composite
def splits(draw: st.DrawFn) -> dict[str, Any]:
    weights = draw(st.dictionaries(NAMES, st.integers(0, 2)))
    return factory.traffic_split(draw(PATHS), weights, root=draw(NAMES), meta=draw(SECONDS))


OBJECTS = st.one_of(
    pods(),
    services(),
    endpoints(),
    slices(),
    targets(),
    splits(),
    st.builds(lambda path, regex: factory.route_group(path, m=regex), PATHS, st.sampled_from("a(")),
    st.builds(factory.tcp_route, PATHS, NUMBERS),
    st.builds(factory.account, PATHS),
    st.builds(factory.egress, PATHS, hosts=st.just([]) | st.just(["example.com"])),
    st.builds(factory.telemetry, PATHS | st.just("osm-system/p")),
    st.builds(factory.extension_service, PATHS | st.just("out/p")),
    st.builds(factory.root_certificate, PATHS | st.just("osm-system/p")),
    st.builds(lambda name, on: factory.namespace(name, monitored=on), NAMESPACES, st.booleans()),
    st.builds(lambda on: factory.permissive(on=on), st.booleans()),
)


@st.composite
def events(draw: st.DrawFn) -> ObjectEvent:
    event = factory.changed(draw(OBJECTS))
    return ObjectDeleted(key=event.key) if draw(st.integers(0, 3)) == 0 else event


def content(snapshot: MeshSnapshot) -> dict[str, Any]:
    """Everything a snapshot says but its revision, comparable by value."""
    return {
        "config": snapshot.config,
        "has_config": snapshot.has_config,
        "pods": dict(snapshot.workloads.pods),
        "namespaces": dict(snapshot.workloads.namespaces),
        "duplicates": snapshot.workloads.duplicate_uuids,
        "views": snapshot.services.views,
        "by_service": dict(snapshot.services.by_service),
        "by_parent": dict(snapshot.services.by_parent),
        "by_identity": dict(snapshot.services.by_identity),
        "access": snapshot.rules.access,
        "by_source": dict(snapshot.rules.by_source),
        "by_destination": dict(snapshot.rules.by_destination),
        "splits": dict(snapshot.rules.splits),
        "splits_of_backend": dict(snapshot.rules.splits_of_backend),
        "endpoints": dict(snapshot.endpoints.by_service),
        "rejected": snapshot.rejected,
        **objects(snapshot.objects),
    }


def objects(table: ObjectTable) -> dict[str, Any]:
    """Everything a table says; its two mappings hold the same objects."""
    by_key = dict(table.by_key)
    listed = [one for _, found in sorted(table.by_place.items()) for one in found]
    assert [id(one) for one in listed] == [id(one) for one in by_key.values()]
    assert list(by_key) == sorted(by_key)
    return {"objects": by_key, "accounts": dict(table.accounts)}


def stepped(batches: list[list[ObjectEvent]]) -> tuple[ObjectStore, MeshSnapshot]:
    """The store and snapshot after batches, each refreshed from the one before."""
    store, progress = ObjectStore(), None
    for batch in batches:
        changed = frozenset(key for event in batch for key in store.apply(event))
        new = refresh(store, progress, changed, scope=MeshScope(), issuers=Issuers())
        if progress is not None:
            old = progress.snapshot
            assert (new.snapshot is old) == (content(new.snapshot) == content(old))
        progress = new
    assert progress is not None
    return store, progress.snapshot


START = [
    factory.changed(obj)
    for obj in (
        factory.namespace("a"),
        factory.namespace("b"),
        factory.service("a/p", selector={"app": "1"}),
        factory.service("a/q", selector={"app": "2"}, cluster_ip="None"),
        factory.pod("a/p", labels={"app": "1"}, ip="10.0.0.1"),
        factory.pod("a/q", labels={"app": "2"}, ip="10.0.0.2"),
        factory.endpoints("a/p", {"p": "10.0.0.1", "q": "10.0.0.2"}),
        factory.endpoints("a/q", {"p": "10.0.0.1", "q": "10.0.0.2"}),
    )
]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.lists(events(), min_size=1, max_size=3), max_size=10))
def test_steps_lead_where_reading_everything_leads(batches: list[list[ObjectEvent]]) -> None:
    store, snapshot = stepped([START, *batches])
    whole = refresh(store, None, scope=MeshScope(), issuers=Issuers()).snapshot
    assert content(snapshot) == content(whole)
    for source in snapshot.services.views:
        assert snapshot.services.by_service[source.service] is source
        assert source in snapshot.services.by_parent[source.service.parent]


@settings(deadline=None, max_examples=100)
@given(
    st.lists(OBJECTS, max_size=16).flatmap(
        lambda found: st.tuples(st.just(found), st.permutations(found))
    )
)
def test_order_of_objects_does_not_matter(found: tuple[list[Any], list[Any]]) -> None:
    last = {factory.changed(obj).key: obj for obj in found[0]}
    given_order, other_order = found
    for order in (given_order, other_order):
        for index, obj in enumerate(order):
            order[index] = last[factory.changed(obj).key]
    assert content(factory.snapshot(*given_order)) == content(factory.snapshot(*other_order))
