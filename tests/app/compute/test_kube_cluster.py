"""The cluster of tests and a real API server answer alike; what only a real one does."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes.cluster import FakeCluster
from kube_server import KubeServer

from app.compute.kube_client import KubeClient
from app.compute.kube_cluster import KubeCluster
from app.compute.kube_objects import KubeWriter
from app.errors import (
    ForbiddenError,
    KubernetesError,
    NotFoundError,
    UnauthenticatedError,
    WriteConflict,
)
from app.objects.meta import ObjectKey, ObjectKind, ObjectRef, RawObject

Cluster = FakeCluster | KubeCluster
_numbers = itertools.count(1)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.kube)])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    if request.param == "fake":
        return FakeCluster(unserved=["odd.io/v1"])
    return KubeClient.from_kubeconfig(request.getfixturevalue("kube").kubeconfig())


@pytest.fixture
def namespace(cluster: Cluster) -> str:
    name = f"contract-{next(_numbers)}"
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


def config_map(namespace: str, name: str = "a", **data: str) -> RawObject:
    metadata = {"namespace": namespace, "name": name, "labels": {"app": name}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def ref(namespace: str, name: str = "a") -> ObjectRef:
    return ObjectRef(api_version="v1", kind="ConfigMap", namespace=namespace, name=name)


def data(cluster: Cluster, namespace: str, name: str = "a") -> Any:
    raw = cluster.read(ref(namespace, name))
    return None if raw is None else raw.get("data")


def test_object_is_created_once(cluster: Cluster, namespace: str) -> None:
    made = cluster.create(config_map(namespace, x="1"))
    with pytest.raises(WriteConflict, match=f"ConfigMap {namespace}/a"):
        cluster.create(config_map(namespace, x="2"))
    assert made["metadata"]["uid"]
    assert data(cluster, namespace) == {"x": "1"}


def test_name_is_made_up_where_only_its_beginning_is_given(
    cluster: Cluster, namespace: str
) -> None:
    raw = config_map(namespace)
    raw["metadata"] = {"namespace": namespace, "generateName": "made-"}
    found = {cluster.create(raw)["metadata"]["name"] for _ in range(2)}
    assert len(found) == 2
    assert all(name.startswith("made-") for name in found)


def test_replace_of_an_old_version_conflicts(cluster: Cluster, namespace: str) -> None:
    old = cluster.create(config_map(namespace, x="1"))
    cluster.replace({**old, "data": {"x": "2"}})
    with pytest.raises(WriteConflict):
        cluster.replace({**old, "data": {"x": "3"}})
    assert data(cluster, namespace) == {"x": "2"}


def test_what_is_missing(cluster: Cluster, namespace: str) -> None:
    assert cluster.read(ref(namespace)) is None
    assert not cluster.delete(ref(namespace))
    with pytest.raises(NotFoundError):
        cluster.patch(ref(namespace), {"data": {}})
    with pytest.raises(NotFoundError):
        cluster.replace(config_map(namespace))


def test_patch_merges_and_null_removes(cluster: Cluster, namespace: str) -> None:
    cluster.create(config_map(namespace, x="1", y="2"))
    cluster.patch(ref(namespace), {"data": {"x": None, "z": "3"}})
    assert data(cluster, namespace) == {"y": "2", "z": "3"}


def test_apply_creates_and_changes_and_can_be_tried(cluster: Cluster, namespace: str) -> None:
    tried = cluster.apply(config_map(namespace, x="0"), dry_run=True)
    assert (tried["data"], data(cluster, namespace)) == ({"x": "0"}, None)
    first = cluster.apply(config_map(namespace, x="1"))
    second = cluster.apply(config_map(namespace, x="2"))
    assert data(cluster, namespace) == {"x": "2"}
    again = cluster.apply(config_map(namespace, x="2"))
    versions = [raw["metadata"]["resourceVersion"] for raw in (first, second, again)]
    assert versions[0] != versions[1] == versions[2]


@pytest.mark.kube
def test_writes_of_a_secret_bring_no_key_back(kube: KubeServer) -> None:
    client = KubeClient.from_kubeconfig(kube.kubeconfig())
    where = f"contract-{next(_numbers)}-secrets"
    client.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": where}})
    raw = config_map(where) | {"kind": "Secret", "data": {"key": "c2VjcmV0"}}
    one = ObjectRef.of(raw)
    raw["metadata"]["finalizers"] = ["example.org/slow"]  # else deleting tells nothing of it
    made = client.create(raw)
    version = {"resourceVersion": made["metadata"]["resourceVersion"]}
    answers = [
        made,
        client.replace(raw | {"metadata": {**raw["metadata"], **version}}),
        client.patch(one, {"metadata": {"annotations": {"a": "1"}}}),
        client.patch(one, {"metadata": {"annotations": {"a": "2"}}}, strategic=True),
        client.apply(raw | {"metadata": {"namespace": where, "name": "a"}}),
    ]
    assert [(found["apiVersion"], found["kind"], *found) for found in answers] == [
        ("v1", "Secret", "kind", "apiVersion", "metadata")
    ] * len(answers)
    assert client.delete(one)
    stored = client.read(one)
    assert stored is not None
    assert stored["data"] == {"key": "c2VjcmV0"}
    client.patch(one, {"metadata": {"finalizers": None}})


def test_only_the_very_object_is_deleted(cluster: Cluster, namespace: str) -> None:
    uid = cluster.create(config_map(namespace))["metadata"]["uid"]
    assert not cluster.delete(ref(namespace), uid="0b4e2d52-0000-4000-8000-000000000000")
    assert cluster.delete(ref(namespace), uid=uid)
    assert cluster.read(ref(namespace)) is None


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        pytest.param("", ["a", "b"], id="all"),
        pytest.param("app=a", ["a"], id="equal"),
        pytest.param("app!=a", ["b"], id="not-equal"),
        pytest.param("app,!none", ["a", "b"], id="exists"),
    ],
)
def test_list_by_labels(cluster: Cluster, namespace: str, labels: str, found: list[str]) -> None:
    for name in ("b", "a"):
        cluster.create(config_map(namespace, name))
    listed = cluster.list("v1", "ConfigMap", namespace=namespace, labels=labels)
    named = [raw["metadata"]["name"] for raw in listed]
    # Newer clusters put a ConfigMap of their own into each namespace.
    assert [name for name in named if name != "kube-root-ca.crt"] == found
    assert {(raw["apiVersion"], raw["kind"]) for raw in listed} == {("v1", "ConfigMap")}


def test_kind_nobody_serves(cluster: Cluster) -> None:
    assert not cluster.serves("odd.io/v1", "Odd")
    assert cluster.serves("v1", "ConfigMap")
    assert cluster.serves("v1", "Secret")


class Seen:
    """What a watch told; waits for it with a deadline."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.told: list[str] = []

    def __call__(self, raw: RawObject | None) -> None:
        with self._changed:
            self.told.append("gone" if raw is None else str(raw["data"]["x"]))
            self._changed.notify_all()

    def wait_for(self, told: list[str]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.told == told, 20), self.told


def test_watch_tells_what_is_and_what_happens_until_stopped(
    cluster: Cluster, namespace: str
) -> None:
    cluster.create(config_map(namespace, x="1"))
    seen = Seen()
    watch = cluster.watch("v1", "ConfigMap", seen, namespace=namespace, name="a")
    seen.wait_for(["1"])
    cluster.patch(ref(namespace), {"data": {"x": "2"}})
    seen.wait_for(["1", "2"])
    cluster.create(config_map(namespace, "other", x="9"))
    cluster.delete(ref(namespace))
    seen.wait_for(["1", "2", "gone"])
    watch.stop()
    cluster.create(config_map(namespace, x="3"))
    assert seen.told == ["1", "2", "gone"]


# The writer, on both

SECRET = ObjectKind.SECRET


def secret(namespace: str, **data: str) -> RawObject:
    metadata = {"namespace": namespace, "name": "s"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}


def key(namespace: str, kind: ObjectKind = SECRET) -> ObjectKey:
    return ObjectKey(kind=kind, namespace=namespace, name="s")


def test_writer_replaces_what_is_there_and_what_is_not(cluster: Cluster, namespace: str) -> None:
    writer = KubeWriter(cluster)
    assert writer.read(key(namespace)) is None
    for label in ("one", "two"):
        raw = secret(namespace)
        raw["metadata"] |= {"labels": {"is": label}, "resourceVersion": "1", "uid": "x"}
        writer.replace(raw)
        found = writer.read(key(namespace))
        assert found is not None
        assert found["metadata"]["labels"] == {"is": label}


def test_writer_creates_patches_and_deletes(cluster: Cluster, namespace: str) -> None:
    writer = KubeWriter(cluster)
    writer.create(secret(namespace))
    with pytest.raises(WriteConflict):
        writer.create(secret(namespace))
    writer.patch(key(namespace), {"metadata": {"labels": {"a": "b"}}})
    found = writer.read(key(namespace))
    assert found is not None
    assert found["metadata"]["labels"] == {"a": "b"}
    for _ in range(2):
        writer.delete(key(namespace))
    assert writer.read(key(namespace)) is None
    for write in (writer.patch, writer.patch_status):
        with pytest.raises(NotFoundError):
            write(key(namespace), {})


def test_writer_patches_a_status(cluster: Cluster, namespace: str) -> None:
    raw: RawObject = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": namespace, "name": "s"},
        "spec": {"ports": [{"port": 80}], "type": "LoadBalancer"},
    }
    writer = KubeWriter(cluster)
    writer.create(raw)
    status = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}
    writer.patch_status(key(namespace, ObjectKind.SERVICE), status)
    found = writer.read(key(namespace, ObjectKind.SERVICE))
    assert found is not None
    assert found["status"]["loadBalancer"] == status["loadBalancer"]


def test_writer_gets_through_where_others_write_too() -> None:
    cluster = FakeCluster(secret("shop", x="old"))
    cluster.fail("replace", WriteConflict("changed"), times=2)
    KubeWriter(cluster).replace(secret("shop", x="new"))
    found = cluster.get("Secret", "s", "shop")
    assert found is not None
    assert found["stringData"] == {"x": "new"}
    cluster.fail("replace", WriteConflict("changed"), times=100)
    with pytest.raises(WriteConflict):
        KubeWriter(cluster).replace(secret("shop", x="newer"))


def test_writer_knows_no_kind_that_is_not_served() -> None:
    writer = KubeWriter(FakeCluster(unserved=["specs.smi-spec.io/v1alpha4"]))
    route = key("shop", ObjectKind.TCP_ROUTE)
    assert writer.read(route) is None
    writer.delete(route)
    with pytest.raises(NotFoundError, match="TCPRoute shop/s does not exist"):
        writer.patch(route, {})


# Only a real server


@pytest.mark.kube
def test_refusal_has_the_servers_words(kube: KubeServer) -> None:
    client = KubeClient.from_kubeconfig(kube.kubeconfig())
    raw = config_map("default", "UPPER")
    with pytest.raises(KubernetesError, match=r"create ConfigMap default/UPPER: .*metadata\.name"):
        client.create(raw)


@pytest.fixture(scope="module")
def token(kube: KubeServer) -> str:
    """Of a service account without any right."""
    client = KubeClient.from_kubeconfig(kube.kubeconfig())
    metadata = {"namespace": "default", "name": "nobody"}
    client.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    return client.create_token("default", "nobody", 600)


@pytest.mark.kube
@pytest.mark.parametrize(
    ("ask", "words"),
    [
        pytest.param(
            lambda client: client.list("v1", "Secret"),
            'cannot list resource "secrets"',
            id="list",
        ),
        pytest.param(
            lambda client: client.create(config_map("default")),
            'not allowed to create ConfigMap default/a: .*cannot create resource "configmaps"',
            id="create",
        ),
        pytest.param(
            lambda client: client.apply(config_map("default")),
            'cannot patch resource "configmaps"',
            id="apply",
        ),
    ],
)
def test_lacking_right_is_named(
    kube: KubeServer, token: str, ask: Callable[[KubeClient], object], words: str
) -> None:
    client = KubeClient.from_kubeconfig(kube.kubeconfig(token))
    with pytest.raises(ForbiddenError, match=words):
        ask(client)


@pytest.mark.kube
def test_unknown_token_is_refused(kube: KubeServer) -> None:
    client = KubeClient.from_kubeconfig(kube.kubeconfig("wrong"))
    with pytest.raises(UnauthenticatedError):
        client.list("v1", "Pod")


@pytest.mark.kube
def test_pod_finds_its_server_and_token(kube: KubeServer, token: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(token)
    (tmp_path / "ca.crt").write_text(kube.ca_file.read_text())
    (tmp_path / "namespace").write_text("shop\n")
    host, _, port = kube.url.removeprefix("https://").rpartition(":")
    environment = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
    client = KubeClient.in_cluster(folder=tmp_path, environment=environment)
    assert (client.host, client.namespace, client.bearer_token()) == (kube.url, "shop", token)
    with pytest.raises(ForbiddenError, match="system:serviceaccount:default:nobody"):
        client.list("v1", "Node")


@pytest.mark.kube
def test_kinds_of_an_old_server(kube: KubeServer) -> None:
    client = KubeClient.from_kubeconfig(kube.kubeconfig())
    asked = [
        ("policy/v1", "PodDisruptionBudget"),
        ("policy/v1beta1", "PodDisruptionBudget"),
        ("autoscaling/v2", "HorizontalPodAutoscaler"),
        ("autoscaling/v2beta2", "HorizontalPodAutoscaler"),
        ("coordination.k8s.io/v1", "Lease"),
    ]
    version = client.version()
    if (version.major, version.minor) < (1, 21):
        assert [client.serves(*kind) for kind in asked] == [False, True, False, True, True]
    else:
        assert client.serves("policy/v1", "PodDisruptionBudget")
