"""Whom a command asks, with which token, and what users read when nobody is there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from fakes.tunnels import Asked, FakeAccess
from typer.testing import CliRunner

from app.cli.cluster import ClusterOptions, has_kubeconfig
from app.cli.inspect import all_proxies
from app.cli.main import app
from app.cli.reach import (
    InCluster,
    Loopback,
    Machine,
    choose,
    choose_token,
    cluster_admins,
    open_admins,
    public_admin,
)
from app.errors import (
    ForbiddenError,
    NotFoundError,
    SettingError,
    UnauthenticatedError,
    UnreachableError,
)
from app.objects.meta import RawObject
from app.standalone.state import StateLock

BARE = Machine(
    mesh_is_up=False,
    state_dir=Path("/state"),
    api_url="http://127.0.0.1:9091",
    has_kubeconfig=False,
)
UP = replace(BARE, mesh_is_up=True)
KUBE = replace(BARE, has_kubeconfig=True)
BOTH = replace(UP, has_kubeconfig=True, token="t")
NAMED = ClusterOptions(named=True)
PLAIN = ClusterOptions()


@pytest.mark.parametrize(
    ("api", "options", "machine", "found"),
    [
        pytest.param("http://a:1", NAMED, BOTH, "http://a:1 t", id="api-comes-first"),
        pytest.param(None, NAMED, BOTH, "cluster", id="a-named-cluster-comes-second"),
        pytest.param(None, NAMED, BARE, "cluster", id="a-named-cluster-needs-no-kubeconfig"),
        pytest.param(None, PLAIN, BOTH, "http://127.0.0.1:9091 ", id="then-the-mesh-that-is-up"),
        pytest.param(None, PLAIN, UP, "http://127.0.0.1:9091 ", id="the-only-mesh"),
        pytest.param(None, PLAIN, KUBE, "cluster", id="last-the-kubeconfig"),
        pytest.param("", PLAIN, KUBE, "cluster", id="an-empty-variable-names-nothing"),
    ],
)
def test_choice(api: str | None, options: ClusterOptions, machine: Machine, found: str) -> None:
    reach = choose(api, options, machine)
    shown = "cluster" if isinstance(reach, InCluster) else f"{reach.url} {reach.token}"
    assert shown == found
    assert isinstance(reach, Loopback | InCluster)


def test_nobody_to_ask_names_every_way() -> None:
    with pytest.raises(UnreachableError) as found:
        choose(None, PLAIN, BARE)
    text = str(found.value)
    assert all(w in text for w in ("/state", "osm standalone up", "--api URL", "--kubeconfig FILE"))


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        pytest.param({}, False, id="nothing"),
        pytest.param({"KUBECONFIG": "{home}/gone"}, False, id="named-and-gone"),
        pytest.param({"KUBECONFIG": "{home}/gone:{home}/there"}, True, id="one-of-several"),
    ],
)
def test_kubeconfig_is_looked_for(environment: dict[str, str], found: bool, tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    filled = {name: value.format(home=tmp_path) for name, value in environment.items()}
    assert has_kubeconfig(filled, tmp_path) is found


def test_kubeconfig_is_found_at_home(tmp_path: Path) -> None:
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube" / "config").touch()
    assert has_kubeconfig({}, tmp_path)


def test_the_mesh_that_is_up_is_asked_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OSM_API", "OSM_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OSM_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("OSM_API_PORT", "1")
    lock = StateLock(tmp_path)
    lock.take("osm")
    try:
        result = CliRunner().invoke(app, ["--verbose", "service", "list"])
    finally:
        lock.release()
    told = f"asking http://127.0.0.1:1: a standalone mesh is up in {tmp_path}"
    assert told in result.stderr.replace("\n", " ")
    assert isinstance(result.exception, UnreachableError)
    assert "does not answer at http://127.0.0.1:1" in str(result.exception)


# Tokens


@pytest.mark.parametrize(
    ("own", "account", "token", "requested"),
    [
        pytest.param("mine", None, "mine", [], id="of-the-kubeconfig"),
        pytest.param(None, None, "of-cli", ["osm-system/osm-cli"], id="of-osm-cli"),
        pytest.param("", None, "of-cli", ["osm-system/osm-cli"], id="empty-is-none"),
        pytest.param("mine", "ops/robot", "of-robot", ["ops/robot"], id="of-the-named-account"),
    ],
)
def test_token(own: str | None, account: str | None, token: str, requested: list[str]) -> None:
    accounts = {"osm-system/osm-cli": "of-cli", "ops/robot": "of-robot"}
    access = FakeAccess(token=own, accounts=accounts)
    assert choose_token(access, "osm-system", account) == token
    assert access.requested == [(name, 600) for name in requested]


def test_token_that_may_not_be_requested_names_the_right() -> None:
    access = FakeAccess(refuse=ForbiddenError("no"))
    with pytest.raises(ForbiddenError) as found:
        choose_token(access, "osm-system", None)
    assert str(found.value) == (
        "your kubeconfig has no token to show, so one of a ServiceAccount is needed, and you may "
        "not ask for one of osm-system/osm-cli: your role there needs the verb create of "
        "serviceaccounts/token named osm-cli; or choose another with "
        "--as-service-account NAMESPACE/NAME"
    )


def test_token_of_an_account_that_is_not_there_names_it() -> None:
    with pytest.raises(NotFoundError, match=r"there is none of a/b .*--as-service-account"):
        choose_token(FakeAccess(), "osm-system", "a/b")


@pytest.mark.parametrize("account", ["osm-cli", "/osm-cli", "ns/", "a/b/c", "A/b"])
def test_account_of_another_form_is_refused(account: str) -> None:
    with pytest.raises(SettingError, match="write NAMESPACE/NAME"):
        choose_token(FakeAccess(), "osm-system", account)


# Controllers


def controller(name: str, *, ready: bool = True, ending: bool = False) -> RawObject:
    return {
        "metadata": {
            "name": name,
            "namespace": "osm-system",
            "labels": {"app": "osm-controller"},
            **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if ending else {}),
        },
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def test_ready_controllers_are_asked_with_the_token() -> None:
    asked: list[Asked] = []

    def serve(request: Asked) -> tuple[int, bytes]:
        asked.append(request)
        return 200, json.dumps({"path": request.path}).encode()

    pods = [controller("b"), controller("a", ready=False), controller("c", ending=True)]
    access = FakeAccess(pods=pods, serve={("b", 9091): serve}, token="mine")
    (client,) = cluster_admins(access, "osm-system")
    assert access.opened == []
    with client:
        assert client.get("/api/v1/x?y=z") == {"path": "/api/v1/x?y=z"}
    headers = asked[0].headers
    assert (headers["authorization"], headers["host"]) == ("Bearer mine", "localhost:9091")
    assert access.opened[0].fileno() == -1


def test_versions_are_asked_without_a_token() -> None:
    def serve(request: Asked) -> tuple[int, bytes]:
        return 200, json.dumps({"token": request.headers.get("authorization")}).encode()

    access = FakeAccess(
        pods=[controller("a")], serve={("a", 9091): serve}, token="mine", accounts={}
    )
    with public_admin(access, "osm-system") as client:
        assert client.get("/version") == {"token": None}


def test_a_machine_has_no_service_accounts() -> None:
    made = typer.Typer()

    @made.command()
    def leaf(context: typer.Context) -> None:
        open_admins(context, "http://127.0.0.1:1", "ns/robot")

    result = CliRunner().invoke(made, [])
    assert isinstance(result.exception, SettingError)
    assert "only a cluster has ServiceAccounts, but http://127.0.0.1:1 is" in str(result.exception)


@pytest.mark.parametrize(
    ("pods", "words"),
    [
        pytest.param([], "there is no Pod with label app=osm-controller", id="none"),
        pytest.param(
            [controller("a", ready=False), controller("b", ending=True)],
            "a is running but not ready, b is ending",
            id="none-ready",
        ),
    ],
)
def test_missing_controllers_are_told(pods: list[RawObject], words: str) -> None:
    with pytest.raises(UnreachableError) as found:
        cluster_admins(FakeAccess(pods=pods), "osm-system")
    assert words in str(found.value)
    assert "--osm-namespace" in str(found.value)
    assert "--api" in str(found.value)


@pytest.mark.parametrize(
    ("status", "raised"),
    [
        pytest.param(400, SettingError, id="bad-question"),
        pytest.param(401, UnauthenticatedError, id="unknown-caller"),
        pytest.param(403, ForbiddenError, id="no-right"),
        pytest.param(404, NotFoundError, id="no-such-thing"),
        pytest.param(503, UnreachableError, id="not-now"),
    ],
)
def test_refusals_of_the_api_are_told_in_its_words(status: int, raised: type[Exception]) -> None:
    body = b'{"detail": "you lack update on meshconfigs", "code": "E1010"}'
    access = FakeAccess(
        pods=[controller("a")], serve={("a", 9091): lambda _: (status, body)}, token="t"
    )
    (client,) = cluster_admins(access, "osm-system")
    with client, pytest.raises(raised, match="you lack update on meshconfigs"):
        client.get("/api/v1/mesh")


# Replicas


def proxy(uuid: str, connected_at: str, **fields: Any) -> dict[str, Any]:
    return {"uuid": uuid, "namespace": "shop", "pod": uuid, "connected_at": connected_at, **fields}


def replicas(**answers: list[dict[str, Any]] | None) -> FakeAccess:
    return FakeAccess(
        pods=[controller(name) for name in answers],
        serve={
            (name, 9091): (lambda _, rows=rows: (200, json.dumps(rows).encode()))
            for name, rows in answers.items()
            if rows is not None
        },
        token="t",
    )


def test_proxies_of_all_replicas_are_listed_once() -> None:
    access = replicas(
        a=[proxy("two", "2026-01-01T00:00:00Z"), proxy("one", "2026-01-01T00:00:00Z")],
        b=[proxy("two", "2026-01-01T00:00:05Z", in_sync=True), proxy("three", "2026")],
    )
    found = all_proxies(cluster_admins(access, "osm-system"))
    assert [p["uuid"] for p in found] == ["one", "three", "two"]
    assert found[2]["in_sync"] is True


def test_a_replica_that_does_not_answer_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    access = replicas(a=None, b=[proxy("one", "2026")])
    assert len(all_proxies(cluster_admins(access, "osm-system"))) == 1
    assert "Pod osm-system/a does not answer" in capsys.readouterr().err


def test_no_replica_that_answers_is_an_error() -> None:
    with pytest.raises(UnreachableError, match="Pod osm-system/b does not answer"):
        all_proxies(cluster_admins(replicas(a=None, b=None), "osm-system"))
