"""A client against a scripted server: silence, refusals, expired lists, credentials, tunnels."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import kube_api
from fakes.kube_api import FakeApi, Reply
from kubernetes.client import Configuration
from kubernetes.config import ConfigException

from app.compute.kube_client import KubeClient
from app.errors import (
    ForbiddenError,
    KubernetesError,
    NotFoundError,
    SettingError,
    UnreachableError,
)
from app.objects.meta import ObjectRef

POD = ObjectRef(api_version="v1", kind="Pod", namespace="shop", name="web")
PODS = "/api/v1/pods"
TOO_OLD = Reply(status=410, body={"message": "too old"})
BUSY = Reply(status=429, body=b"busy", headers={"Retry-After": "0"})


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with kube_api.running() as api:
        api.serve("v1", Pod="pods", ServiceAccount="serviceaccounts")
        yield api


def client_of(api: FakeApi, timeout_seconds: float = 5.0) -> KubeClient:
    configuration = Configuration(host=api.url, no_proxy="127.0.0.1")
    return KubeClient(configuration, namespace="default", timeout_seconds=timeout_seconds)


def page(*names: str, further: str = "") -> Reply:
    items = [{"metadata": {"name": name}} for name in names]
    metadata = {"resourceVersion": "5", **({"continue": further} if further else {})}
    return Reply(body={"kind": "PodList", "metadata": metadata, "items": items})


def names(found: list[dict[str, Any]]) -> list[str]:
    return [raw["metadata"]["name"] for raw in found]


# Lists


def test_list_follows_its_continuation_and_names_the_kind_of_each(api: FakeApi) -> None:
    api.on(PODS, page("a", "b", further="next"), page("c"))
    found = client_of(api).list("v1", "Pod", labels="app=web")
    assert [(raw["kind"], raw["metadata"]["name"]) for raw in found] == [
        ("Pod", "a"), ("Pod", "b"), ("Pod", "c")
    ]  # fmt: skip
    assert [request.query for request in api.asked(PODS)] == [
        {"limit": "500", "labelSelector": "app=web"},
        {"limit": "500", "labelSelector": "app=web", "continue": "next"},
    ]


def test_list_that_expires_starts_anew(api: FakeApi) -> None:
    api.on(PODS, page("old", further="x"), TOO_OLD, page("a", further="y"), page("b"))
    assert names(client_of(api).list("v1", "Pod")) == ["a", "b"]


def test_list_that_always_expires_is_an_error(api: FakeApi) -> None:
    api.on(PODS, TOO_OLD)
    with pytest.raises(KubernetesError, match="expired 3 times"):
        client_of(api).list("v1", "Pod")


# Kinds


def test_unknown_kind_is_nothing_to_readers_and_an_error_to_writers(api: FakeApi) -> None:
    client = client_of(api)
    ref = ObjectRef(api_version="odd.io/v1", kind="Odd", name="x")
    raw = {"apiVersion": "odd.io/v1", "kind": "Odd", "metadata": {"name": "x"}}
    found = (
        client.serves("odd.io/v1", "Odd"),
        client.read(ref),
        client.list("odd.io/v1", "Odd"),
        client.delete(ref),
    )
    assert found == (False, None, [], False)
    for write in (client.create, client.replace, client.apply):
        with pytest.raises(NotFoundError, match=r"no kind Odd in odd\.io/v1"):
            write(raw)


def test_kind_that_comes_later_is_found_and_then_remembered(api: FakeApi) -> None:
    client = client_of(api)
    assert not client.serves("late.io/v1", "Late")
    api.serve("late.io/v1", Late="lates")
    assert client.serves("late.io/v1", "Late")
    assert client.serves("late.io/v1", "Late")
    assert len(api.asked("/apis/late.io/v1")) == 2


# Time


def test_server_that_is_busy_is_asked_again(api: FakeApi) -> None:
    api.on("/version", BUSY, BUSY, Reply(body={"major": "1", "minor": "33"}))
    assert client_of(api).version().minor == 33


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(silent=True), id="silent"),
        pytest.param(BUSY, id="busy-all-the-time"),
        pytest.param(Reply(status=429, headers={"Retry-After": "60"}), id="busy-for-long"),
        pytest.param(Reply(status=503), id="starting"),
    ],
)
def test_call_ends_within_its_time(api: FakeApi, reply: Reply) -> None:
    api.on("/api/v1/namespaces/shop/pods/web", reply)
    client = client_of(api)
    assert client.serves("v1", "Pod")
    began = time.monotonic()
    with pytest.raises(UnreachableError):
        client.within(0.5).read(POD)
    assert time.monotonic() - began < 3


def test_server_that_is_away_is_named(api: FakeApi) -> None:
    client = KubeClient(
        Configuration(host="http://127.0.0.1:1", no_proxy="127.0.0.1"),
        namespace="default",
        timeout_seconds=2,
    )
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1 does not answer: .*refused"):
        client.version()


# Writes


def test_writes_say_who_writes_and_in_which_form(api: FakeApi) -> None:
    path = "/api/v1/namespaces/shop/pods/web"
    api.on(path, Reply(body={"kind": "Pod"}))
    client = client_of(api)
    raw = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "shop", "managedFields": []},
    }
    client.apply(raw, dry_run=True)
    client.patch(POD, {"a": 1})
    client.patch(POD, {"a": 1}, strategic=True)
    client.patch_status(POD, {"phase": "x"})
    client.delete(POD, uid="7")
    asked = [(r.method, r.headers.get("content-type"), r.query, r.body) for r in api.asked(path)]
    osm = {"fieldManager": "osm"}
    lean = {**raw, "metadata": {"name": "web", "namespace": "shop"}}
    assert asked == [
        ("PATCH", "application/apply-patch+yaml", {**osm, "force": "true", "dryRun": "All"}, lean),
        ("PATCH", "application/merge-patch+json", osm, {"a": 1}),
        ("PATCH", "application/strategic-merge-patch+json", osm, {"a": 1}),
        ("PATCH", "application/merge-patch+json", osm, {"status": {"phase": "x"}}),
        (
            "DELETE",
            "application/json",
            {},
            {
                "apiVersion": "v1",
                "kind": "DeleteOptions",
                "propagationPolicy": "Background",
                "preconditions": {"uid": "7"},
            },
        ),
    ]


# Credentials


def write_kubeconfig(folder: Path, url: str, user: dict[str, Any], name: str = "config") -> Path:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": url}}],
        "users": [{"name": name, "user": user}],
        "contexts": [
            {"name": name, "context": {"cluster": name, "user": name, "namespace": f"ns-{name}"}}
        ],
        "current-context": name,
    }
    path = folder / name
    path.write_text(json.dumps(config))
    return path


def test_files_of_the_variable_are_merged_and_a_context_chosen(
    api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = write_kubeconfig(tmp_path, "http://one:1", {"token": "t1"}, "one")
    two = write_kubeconfig(tmp_path, api.url, {"token": "t2"}, "two")
    monkeypatch.setenv("KUBECONFIG", f"{one}:{two}:{tmp_path / 'missing'}")
    client = KubeClient.from_kubeconfig(context="two")
    assert (client.host, client.namespace, client.bearer_token()) == (api.url, "ns-two", "t2")


@pytest.mark.parametrize(
    ("user", "token"),
    [
        pytest.param({"token": "abc"}, "abc", id="token"),
        pytest.param({"username": "u", "password": "p"}, None, id="password"),
        pytest.param({}, None, id="nothing"),
    ],
)
def test_bearer_token_is_the_users(
    api: FakeApi, tmp_path: Path, user: dict[str, Any], token: str | None
) -> None:
    client = KubeClient.from_kubeconfig(write_kubeconfig(tmp_path, api.url, user))
    assert client.bearer_token() == token


def test_cluster_as_somebody_else_shows_their_token_only(api: FakeApi, tmp_path: Path) -> None:
    api.on("/version", Reply(body={}))
    client = KubeClient.from_kubeconfig(write_kubeconfig(tmp_path, api.url, {"token": "ours"}))
    for cluster in (client.as_bearer("theirs"), client):
        cluster.version()
    sent = [request.headers["authorization"] for request in api.asked("/version")]
    assert sent == ["Bearer theirs", "Bearer ours"]


def test_line_at_the_end_of_a_token_is_not_sent(api: FakeApi, tmp_path: Path) -> None:
    api.on("/version", Reply(body={}))
    user = {"token": "swordfish\n"}
    KubeClient.from_kubeconfig(write_kubeconfig(tmp_path, api.url, user)).version()
    assert api.asked("/version")[0].headers["authorization"] == "Bearer swordfish"


def test_token_that_cannot_be_read_for_a_moment_is_an_outage(api: FakeApi) -> None:
    def refresh(_: Configuration) -> None:
        raise ConfigException("Token file exists but empty.")

    configuration = Configuration(host=api.url, no_proxy="127.0.0.1")
    configuration.refresh_api_key_hook = refresh
    client = KubeClient(configuration, namespace="default", timeout_seconds=5)
    with pytest.raises(UnreachableError, match="cannot be read now: Token file exists"):
        client.version()


EXEC = """
import json
print(json.dumps({{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
    "status": {{"token": "{token}", "expirationTimestamp": "2020-01-01T00:00:00Z"}}}}))
"""


def plugin(folder: Path, text: str) -> dict[str, Any]:
    script = folder / "plugin.py"
    script.write_text(text)
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": sys.executable,
            "args": [str(script)],
        }
    }


def test_token_of_a_plugin_is_asked_for_again_once_it_expired(api: FakeApi, tmp_path: Path) -> None:
    user = plugin(tmp_path, EXEC.format(token="first"))
    client = KubeClient.from_kubeconfig(write_kubeconfig(tmp_path, api.url, user))
    plugin(tmp_path, EXEC.format(token="second"))
    assert client.bearer_token() == "second"
    api.on("/version", Reply(body={}))
    client.version()
    assert api.asked("/version")[0].headers["authorization"] == "Bearer second"


def in_nowhere(folder: Path) -> KubeClient:
    return KubeClient.in_cluster(folder=folder, environment={})


def of_missing_file(folder: Path) -> KubeClient:
    return KubeClient.from_kubeconfig(folder / "missing")


def of_missing_context(folder: Path) -> KubeClient:
    path = write_kubeconfig(folder, "http://x:1", {})
    return KubeClient.from_kubeconfig(path, "nope")


def of_broken_file(folder: Path) -> KubeClient:
    path = folder / "broken"
    path.write_text("a: [")
    return KubeClient.from_kubeconfig(path)


def of_list(folder: Path) -> KubeClient:
    path = folder / "list"
    path.write_text("[1, 2]")
    return KubeClient.from_kubeconfig(path)


def of_failing_plugin(folder: Path) -> KubeClient:
    user = plugin(folder, "import sys; sys.exit('no login')")
    return KubeClient.from_kubeconfig(write_kubeconfig(folder, "http://x:1", user))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        pytest.param(in_nowhere, "this is no Pod", id="outside-a-cluster"),
        pytest.param(of_missing_file, "missing: there is no such file", id="missing-file"),
        pytest.param(of_missing_context, "nope", id="missing-context"),
        pytest.param(of_broken_file, "broken: ", id="no-yaml"),
        pytest.param(of_list, "list: ", id="no-config"),
        pytest.param(of_failing_plugin, "gave no credentials", id="plugin-fails"),
    ],
)
def test_credentials_that_cannot_be_had(
    tmp_path: Path, build: Callable[[Path], KubeClient], words: str
) -> None:
    with pytest.raises(SettingError, match=words):
        build(tmp_path)


# Tunnels


TUNNEL = "/api/v1/namespaces/shop/pods/web/portforward"


def test_tunnel_carries_bytes_both_ways_until_the_pod_hangs_up(api: FakeApi) -> None:
    api.on(TUNNEL, Reply(status=101))
    tunnel = client_of(api).open_tunnel("shop", "web", 15000)
    tunnel.sendall(b"hello")
    assert tunnel.recv(100) == b"HELLO"
    tunnel.sendall(b"bye")
    assert tunnel.recv(100) == b""
    assert api.asked(TUNNEL)[0].query == {"ports": "15000"}


def test_refused_tunnel_says_why(api: FakeApi) -> None:
    api.on(TUNNEL, Reply(status=403, body={"message": "User u cannot create pods/portforward"}))
    with pytest.raises(ForbiddenError, match="forward port 80 of Pod shop/web: User u cannot"):
        client_of(api).open_tunnel("shop", "web", 80)
