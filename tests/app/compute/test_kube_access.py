"""Who may ask the admin API: reviews are asked, remembered for seconds, tokens never kept."""

from __future__ import annotations

import threading
import time

import pytest
from fakes.cluster import FakeCluster
from kube_server import KubeServer

from app.compute.kube_access import KubeAuthenticator
from app.compute.kube_client import KubeClient
from app.errors import (
    AppError,
    ForbiddenError,
    KubernetesError,
    UnauthenticatedError,
    UnreachableError,
)
from app.objects.meta import RawObject
from app.ports import Caller

NAMESPACE, CONFIG = "osm-system", "osm-mesh-config"
ANNA = {"username": "anna", "uid": "7", "groups": ["ops"], "extra": {"a": ["b"]}}


class World:
    """An authenticator whose API server knows Anna by ``good``; she may read."""

    def __init__(self) -> None:
        self.now = 0.0
        self.cluster = FakeCluster()
        self.annas = FakeCluster()
        self.asked: list[RawObject] = []
        self.verbs = {"get"}
        self.cluster.reviews = {
            "TokenReview": self.review_token,
            "SubjectAccessReview": self.review_access,
        }
        self.authenticator = KubeAuthenticator(
            self.cluster,
            osm_namespace=NAMESPACE,
            config_name=CONFIG,
            as_bearer=lambda token: {"good": self.annas}[token],
            monotonic=lambda: self.now,
        )

    def review_token(self, raw: RawObject) -> RawObject:
        known = raw["spec"]["token"] == "good"
        self.asked.append(raw["spec"])
        return {"status": {"authenticated": True, "user": ANNA} if known else {"error": "bad"}}

    def review_access(self, raw: RawObject) -> RawObject:
        self.asked.append(raw["spec"])
        return {"status": {"allowed": raw["spec"]["resourceAttributes"]["verb"] in self.verbs}}

    def ask(self, token: str = "good", verb: str = "get") -> Caller:
        return self.authenticator.caller(token, verb)


@pytest.fixture
def world() -> World:
    return World()


def test_owner_who_may_is_the_caller(world: World) -> None:
    assert world.ask() == Caller(name="anna", groups=("ops",))
    assert world.asked == [
        {"token": "good"},
        {
            "user": "anna",
            "uid": "7",
            "groups": ["ops"],
            "extra": {"a": ["b"]},
            "resourceAttributes": {
                "group": "config.openservicemesh.io",
                "resource": "meshconfigs",
                "namespace": NAMESPACE,
                "name": CONFIG,
                "verb": "get",
            },
        },
    ]


def test_lacking_right_names_verb_and_object(world: World) -> None:
    with pytest.raises(ForbiddenError) as caught:
        world.ask(verb="update")
    assert str(caught.value) == (
        "anna may not update meshconfigs.config.openservicemesh.io osm-mesh-config in namespace "
        "osm-system; a Role can allow it"
    )


@pytest.mark.parametrize(
    ("token", "asked"),
    [
        pytest.param("bad", 1, id="unknown"),
        pytest.param("", 0, id="none"),
        pytest.param("x" * 20_000, 0, id="too-long"),
        pytest.param("tökén", 0, id="no-ascii"),
    ],
)
def test_token_that_nobody_owns(world: World, token: str, asked: int) -> None:
    with pytest.raises(UnauthenticatedError, match="Authorization: Bearer"):
        world.ask(token)
    assert len(world.asked) == asked


def test_answers_are_remembered_for_seconds(world: World) -> None:
    for second, asked in ((0.0, 2), (9.9, 2), (10.0, 4)):
        world.now = second
        world.ask()
        assert len(world.asked) == asked


def test_refusals_are_remembered_for_a_second(world: World) -> None:
    for second, asked in ((0.0, 2), (0.9, 2), (1.0, 4)):
        world.now = second
        with pytest.raises(ForbiddenError):
            world.ask(verb="update")
        assert len(world.asked) == asked


def test_each_verb_is_asked_for_itself(world: World) -> None:
    world.ask(verb="get")
    with pytest.raises(ForbiddenError):
        world.ask(verb="update")


def test_no_token_is_kept_and_few_answers(world: World) -> None:
    world.ask()
    for number in range(1100):
        with pytest.raises(UnauthenticatedError):
            world.ask(f"bad-{number}")
    kept = world.authenticator._remembered
    assert len(kept) == 1000
    assert "bad-1099" not in repr(kept)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        pytest.param(UnreachableError("down"), UnreachableError, id="server-away"),
        pytest.param(ForbiddenError("cannot create tokenreviews"), KubernetesError, id="our-right"),
        pytest.param(UnauthenticatedError("expired"), KubernetesError, id="our-token"),
    ],
)
def test_review_that_fails_is_not_the_callers_fault_and_not_remembered(
    world: World, fault: AppError, error: type[AppError]
) -> None:
    world.cluster.fail("create", fault)
    with pytest.raises(AppError) as caught:
        world.ask()
    assert type(caught.value) is error
    assert world.ask().name == "anna"


def test_cluster_of_a_caller_is_reached_with_the_token(world: World) -> None:
    assert world.authenticator.cluster_as("good") is world.annas


def account(client: KubeClient, name: str, *verbs: str) -> str:
    """A service account that may so with the MeshConfig; its token."""
    names = {"namespace": NAMESPACE, "name": name}
    client.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": names})
    rules = [
        {
            "apiGroups": ["config.openservicemesh.io"],
            "resources": ["meshconfigs"],
            "resourceNames": [CONFIG],
            "verbs": list(verbs),
        }
    ]
    rbac = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": names, "rules": rules}
    binding = {
        "apiVersion": f"{rbac}/v1",
        "kind": "RoleBinding",
        "metadata": names,
        "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", **names}],
    }
    client.apply(role)
    client.apply(binding)
    return client.create_token(NAMESPACE, name, 600)


@pytest.mark.kube
def test_real_server_tells_readers_writers_and_strangers_apart(kube: KubeServer) -> None:
    client = KubeClient.from_kubeconfig(kube.kubeconfig())
    client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    authenticator = KubeAuthenticator(
        client, osm_namespace=NAMESPACE, config_name=CONFIG, as_bearer=client.as_bearer
    )
    reader, writer = account(client, "reader", "get"), account(client, "writer", "get", "update")
    stranger = account(client, "stranger", "list")

    def outcome(token: str, verb: str) -> str:
        try:
            return authenticator.caller(token, verb).name
        except AppError as error:
            return type(error).__name__

    # The server's authoriser learns of a new role a moment later.
    deadline = time.monotonic() + 20
    while outcome(writer, "update") == "ForbiddenError" and time.monotonic() < deadline:
        threading.Event().wait(0.1)
    name = f"system:serviceaccount:{NAMESPACE}"
    asked = [(reader, "get"), (reader, "update"), (writer, "update"), (stranger, "get")]
    assert [outcome(*question) for question in [*asked, ("wrong", "get")]] == [
        f"{name}:reader",
        "ForbiddenError",
        f"{name}:writer",
        "ForbiddenError",
        "UnauthenticatedError",
    ]
