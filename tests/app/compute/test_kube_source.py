"""The source against real API servers: lists, live events, outages, compaction, metadata only."""

from __future__ import annotations

import base64
import itertools
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import factory
import kube_server
import pytest
from fakes import kube_api
from fakes.events import PostedEvents
from fakes.kube_api import Reply
from kube_server import KubeServer
from kubernetes.client import Configuration

from app.compute.kube_answers import Answer
from app.compute.kube_client import KubeClient
from app.compute.kube_reflect import PAGE, Lines, Page, Selection
from app.compute.kube_watch import KubeSource
from app.errors import AppError
from app.events import ObjectChanged, ObjectDeleted, SourceChecked, Synced
from app.metrics import Metrics, parse_samples
from app.objects.meta import ObjectKind, ObjectRef, RawObject

SERVICE, SECRET, CONFIG = ObjectKind.SERVICE, ObjectKind.SECRET, ObjectKind.MESH_CONFIG
ENDPOINTS, SLICE = ObjectKind.ENDPOINTS, ObjectKind.ENDPOINT_SLICE
OSM = "osm-system"
_numbers = itertools.count(1)


class Tapped:
    """A client whose lists and watches are recorded; the first watches may start in the past."""

    def __init__(self, client: KubeClient, *, old_watches: int = 0) -> None:
        self._client = client
        self._old_watches = old_watches
        self.lists = 0
        self.heard: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def pages(self, selection: Selection, *, limit: int = PAGE) -> Iterator[Page]:
        self.lists += 1
        for page in self._client.pages(selection, limit=limit):
            self.heard.append(json.dumps(page.items))
            yield page

    def changes(self, selection: Selection, version: str, *, seconds: float) -> Lines | Answer:
        if self._old_watches:
            self._old_watches, version = self._old_watches - 1, "1"
        lines = self._client.changes(selection, version, seconds=seconds)
        return lines if isinstance(lines, Answer) else TappedLines(lines, self.heard)


class TappedLines:
    def __init__(self, lines: Lines, heard: list[str]) -> None:
        self._lines = lines
        self._heard = heard

    def __iter__(self) -> Iterator[bytes]:
        for line in self._lines:
            self._heard.append(line.decode())
            yield line

    def close(self) -> None:
        self._lines.close()


class World:
    """A server, and sources that are stopped after the test."""

    def __init__(self, server: KubeServer) -> None:
        self.server = server
        self.client = KubeClient.from_kubeconfig(server.kubeconfig())
        self.metrics = Metrics()
        self.sources: list[KubeSource] = []

    def start(self, *kinds: ObjectKind, of: Any = None, page: int = PAGE) -> PostedEvents:
        source = KubeSource(
            of or self.client,
            self.metrics,
            osm_namespace=OSM,
            config_name="osm-mesh-config",
            page=page,
        )
        self.sources.append(source)
        posted = PostedEvents()
        source.start(posted, kinds)
        return posted

    def synced(self, *kinds: ObjectKind, of: Any = None, page: int = PAGE) -> PostedEvents:
        posted = self.start(*kinds, of=of, page=page)
        posted.wait_until(lambda: posted.synced == set(kinds))
        return posted

    def new_namespace(self) -> str:
        return self.server.new_namespace(f"source-{next(_numbers)}")

    def stop(self) -> None:
        for source in self.sources:
            source.stop()


@pytest.fixture(scope="module")
def server() -> Iterator[KubeServer]:
    """A server of our own, since it is killed and compacted."""
    with kube_server.running() as server:
        yield server


@pytest.fixture
def world(server: KubeServer) -> Iterator[World]:
    world = World(server)
    yield world
    world.stop()


def service(path: str, port: int = 80, **meta: Any) -> RawObject:
    raw = factory.service(
        path, ports=[{"name": "http", "port": port, "protocol": "TCP"}], meta=meta
    )
    del raw["spec"]["clusterIP"]
    return raw


def ref(raw: RawObject) -> ObjectRef:
    return ObjectRef.of(raw)


def told(posted: PostedEvents) -> list[str]:
    """What was posted since the last time, in words."""
    words = []
    for event in posted.take():
        match event:
            case ObjectChanged():
                words.append(f"changed {event.key.name}")
            case ObjectDeleted():
                words.append(f"deleted {event.key.name}")
            case SourceChecked():
                words.append(f"rejected {len(event.rejected)}")
            case Synced():
                words.append("synced")
    return words


# What happens while all is well


@pytest.mark.kube
def test_all_pages_are_posted_then_what_changes_in_the_fields_we_read(world: World) -> None:
    namespace, client = world.new_namespace(), world.client
    names = [f"s{number}" for number in range(7)]
    for name in names:
        client.create(service(f"{namespace}/{name}"))
    posted = world.synced(SERVICE, page=3)
    assert posted.names(SERVICE, namespace) == names
    assert told(posted)[-1] == "synced"

    client.create(service(f"{namespace}/new"))
    client.patch(ref(service(f"{namespace}/s1")), {"spec": {"sessionAffinity": "ClientIP"}})
    client.patch(ref(service(f"{namespace}/s2")), {"metadata": {"labels": {"a": "b"}}})
    client.delete(ref(service(f"{namespace}/s0")))
    posted.wait_until(lambda: "s0" not in posted.names(SERVICE, namespace))
    assert told(posted) == ["changed new", "changed s2", "deleted s0"]


@pytest.mark.kube
def test_nothing_is_posted_and_nothing_runs_after_stop(world: World) -> None:
    posted = world.synced(SERVICE, ENDPOINTS, SECRET)
    posted.take()
    began = time.monotonic()
    world.stop()
    assert time.monotonic() - began < 2
    world.client.create(service(f"{world.new_namespace()}/late"))
    assert posted.events == []
    assert not [t.name for t in threading.enumerate() if t.name.startswith("watch ")]


@pytest.mark.kube
def test_staleness_is_a_metric_of_each_kind(world: World) -> None:
    world.synced(SERVICE, SECRET)
    samples = parse_samples(world.metrics.render().decode())
    ages = {s.labels["kind"]: s.value for s in samples if s.name == "osm_source_staleness_seconds"}
    assert sorted(ages) == ["Secret", "Service"]
    assert max(ages.values()) < 20


# When it is not


@pytest.mark.kube
def test_outage_deletes_nothing_and_differences_are_posted_after_it(world: World) -> None:
    namespace = world.new_namespace()
    for name in ("gone", "kept"):
        world.client.create(service(f"{namespace}/{name}"))
    posted = world.synced(SERVICE)
    posted.take()
    world.server.stop_api()
    try:
        raw = service(f"{namespace}/new", uid="1b4e2d52-0000-4000-8000-000000000000")
        raw["spec"] |= {"clusterIP": "None", "type": "ClusterIP"}
        world.server.erase(f"services/specs/{namespace}/gone")
        world.server.store([(f"services/specs/{namespace}/new", raw)])
        stale = world.sources[0].staleness_seconds
        threading.Event().wait(1.0)
        assert stale()["Service"] >= 1.0
        assert posted.events == []
    finally:
        world.server.start_api()
    posted.wait_until(lambda: posted.names(SERVICE, namespace) == ["kept", "new"])
    assert sorted(told(posted)) == ["changed new", "deleted gone"]
    world.client.create(service(f"{namespace}/live"))
    posted.wait_until(lambda: "live" in posted.names(SERVICE, namespace))


@pytest.mark.kube
def test_source_waits_for_a_server_that_comes_later(world: World) -> None:
    world.server.stop_api()
    try:
        posted = world.start(SERVICE, ENDPOINTS, SLICE)
        threading.Event().wait(0.5)
        assert posted.events == []
    finally:
        world.server.start_api()
    posted.wait_until(lambda: posted.synced == {SERVICE, ENDPOINTS, SLICE})
    assert "kubernetes" in posted.names(SERVICE)


@pytest.mark.kube
def test_version_that_was_compacted_away_is_followed_by_a_list(world: World) -> None:
    namespace = world.new_namespace()
    world.client.create(service(f"{namespace}/old"))
    # A server that has just started remembers nothing of the past.
    world.server.stop_api()
    world.server.compact()
    world.server.start_api()
    tapped = Tapped(world.client, old_watches=1)
    posted = world.synced(SERVICE, of=tapped)
    posted.wait_until(lambda: tapped.lists == 2)
    world.client.create(service(f"{namespace}/new"))
    posted.wait_until(lambda: posted.names(SERVICE, namespace) == ["new", "old"])
    assert told(posted).count("changed old") == 1


# What is followed


@pytest.mark.kube
def test_of_secrets_no_data_ever_arrives(world: World) -> None:
    namespace, tapped = world.new_namespace(), Tapped(world.client)
    labels = {"app.kubernetes.io/name": "openservicemesh.io"}

    def secret(name: str, word: str, **meta: Any) -> RawObject:
        encoded = base64.b64encode(word.encode()).decode()
        return factory.raw("Secret", f"{namespace}/{name}", meta=meta, data={"key": encoded})

    world.client.create(secret("ours", "listed-word", labels=labels))
    world.client.create(secret("foreign", "foreign-word"))
    posted = world.synced(SECRET, of=tapped)
    world.client.create(secret("second", "watched-word", labels=labels))
    world.client.apply(secret("ours", "changed-word", labels={**labels, "a": "b"}))
    world.client.delete(ref(secret("second", "")))
    posted.wait_until(lambda: len([e for e in posted.events if isinstance(e, ObjectDeleted)]) == 1)
    assert told(posted) == [
        "changed ours", "synced", "changed second", "changed ours", "deleted second"
    ]  # fmt: skip
    heard = "".join(tapped.heard)
    assert "second" in heard
    words = ("listed-word", "watched-word", "changed-word", "foreign")
    encoded = [base64.b64encode(word.encode()).decode() for word in words]
    assert [word for word in (*words, *encoded, '"data"') if word in heard] == []


@pytest.mark.kube
def test_old_server_is_followed_by_endpoints(world: World) -> None:
    has_slices = world.client.serves("discovery.k8s.io/v1", "EndpointSlice")
    posted = world.synced(ENDPOINTS, SLICE)
    assert {key.kind for key in posted.objects} == {SLICE if has_slices else ENDPOINTS}


def test_new_server_is_followed_by_slices_and_endpoints_are_not_asked_for() -> None:
    raw = factory.endpoint_slice("shop/web-1", "web")
    with kube_api.running() as api:
        api.serve("v1", Endpoints="endpoints")
        api.serve("discovery.k8s.io/v1", EndpointSlice="endpointslices")
        path = "/apis/discovery.k8s.io/v1/endpointslices"
        found = {"metadata": {"resourceVersion": "5"}, "items": [raw]}
        api.on(path, Reply(body=found), Reply(silent=True))
        client = KubeClient(
            Configuration(host=api.url, no_proxy="127.0.0.1"),
            namespace="default",
            timeout_seconds=5,
        )
        source = KubeSource(client, Metrics(), osm_namespace=OSM, config_name="config")
        posted = PostedEvents()
        source.start(posted, [ENDPOINTS, SLICE])
        posted.wait_until(lambda: posted.synced == {ENDPOINTS, SLICE})
        assert source.staleness_seconds()["Endpoints"] == 0.0
        api.ended.set()
        source.stop()
        assert posted.names(SLICE) == [raw["metadata"]["name"]]
        assert api.asked("/api/v1/endpoints") == []


def test_server_that_learns_slices_later_is_still_followed_by_endpoints() -> None:
    first, second = (factory.endpoints(f"shop/{name}", {"a-0": "10.0.0.1"}) for name in "ab")
    slices = [{"name": "endpointslices", "kind": "EndpointSlice", "namespaced": True}]
    with kube_api.running() as api:
        api.serve("v1", Endpoints="endpoints")
        missing, served = Reply(status=404), Reply(body={"resources": slices})
        api.on("/apis/discovery.k8s.io/v1", missing, missing, served)
        api.on(
            "/api/v1/endpoints",
            Reply(body={"metadata": {"resourceVersion": "5"}, "items": [first]}),
            Reply(status=410),
            Reply(body={"metadata": {"resourceVersion": "9"}, "items": [second]}),
            Reply(silent=True),
        )
        client = KubeClient(
            Configuration(host=api.url, no_proxy="127.0.0.1"),
            namespace="default",
            timeout_seconds=5,
        )
        source = KubeSource(client, Metrics(), osm_namespace=OSM, config_name="config")
        posted = PostedEvents()
        source.start(posted, [ENDPOINTS, SLICE])
        posted.wait_until(lambda: posted.names(ENDPOINTS) == ["b"])
        api.ended.set()
        source.stop()


def test_stop_waits_for_no_list_that_hangs() -> None:
    kinds = {"Service": "services", "Endpoints": "endpoints", "Pod": "pods", "Secret": "secrets"}
    with kube_api.running() as api:
        api.serve("v1", **kinds)
        for plural in kinds.values():
            api.on(f"/api/v1/{plural}", Reply(silent=True))
        client = KubeClient(
            Configuration(host=api.url, no_proxy="127.0.0.1"),
            namespace="default",
            timeout_seconds=20,
        )
        source = KubeSource(client, Metrics(), osm_namespace=OSM, config_name="config")
        posted = PostedEvents()
        source.start(posted, [ObjectKind(kind) for kind in kinds])
        posted.wait_until(lambda: len(api.requests) >= 2 * len(kinds))
        began = time.monotonic()
        source.stop()
        assert time.monotonic() - began < 4
        assert posted.events == []


# Kinds of our own, which come later


def mesh_config_crd() -> RawObject:
    """A MeshConfig that takes anything."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    group, plural = "config.openservicemesh.io", "meshconfigs"
    version = {"served": True, "storage": True, "schema": {"openAPIV3Schema": anything}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": "MeshConfig", "plural": plural, "singular": "meshconfig"},
            "versions": [{"name": "v1alpha2", **version}],
        },
    }


def apply_soon(client: KubeClient, raw: RawObject) -> None:
    """The object is there; a kind a second old may be refused for a moment."""
    deadline = time.monotonic() + 30
    while True:
        try:
            client.apply(raw)
        except AppError:
            assert time.monotonic() < deadline
            threading.Event().wait(0.2)
        else:
            return


@pytest.mark.kube
def test_kind_that_is_defined_later_is_found_and_only_ours_is_read(world: World) -> None:
    world.server.new_namespace(OSM)
    posted = world.synced(SERVICE)
    configs = world.start(CONFIG)
    world.client.apply(mesh_config_crd())
    ours = factory.mesh_config()
    ours["metadata"] |= {"namespace": OSM, "name": "osm-mesh-config"}
    others = [
        {**ours, "metadata": {"namespace": OSM, "name": "other"}},
        {**ours, "metadata": {"namespace": "default", "name": "osm-mesh-config"}},
    ]
    for raw in (*others, ours):
        apply_soon(world.client, raw)
    configs.wait_until(lambda: configs.synced == {CONFIG} and bool(configs.objects))
    assert [str(key) for key in configs.objects] == ["MeshConfig osm-system/osm-mesh-config"]
    assert posted.synced == {SERVICE}

    source = "MeshConfig osm-system/osm-mesh-config"
    bad = {**ours, "spec": {"traffic": "fast"}}
    world.client.replace({**bad, "metadata": version_of(world.client, ours)})
    configs.wait_until(lambda: "spec.traffic" in configs.rejected.get(source, ""))
    assert [str(key) for key in configs.objects] == [source]
    world.client.replace({**ours, "metadata": version_of(world.client, ours)})
    configs.wait_until(lambda: configs.rejected[source] == "")
    world.client.replace({**bad, "metadata": version_of(world.client, ours)})
    configs.wait_until(lambda: configs.rejected[source] != "")
    world.client.delete(ref(ours))
    configs.wait_until(lambda: configs.rejected[source] == "" and not configs.objects)


def version_of(client: KubeClient, raw: RawObject) -> dict[str, Any]:
    found = client.read(ref(raw))
    assert found is not None
    return dict(found["metadata"])
