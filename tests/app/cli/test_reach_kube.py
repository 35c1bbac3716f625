"""The CLI's way into a cluster, against a real API server: tokens, rights, and who lacks them."""

from __future__ import annotations

import uuid
from http import HTTPStatus
from urllib.error import HTTPError

import pytest
from kube_server import ADMIN_TOKEN, KubeServer

from app.cli.portforward import PodHttp, PodPort
from app.cli.reach import choose_token, cluster_admins
from app.compute.kube_client import KubeClient
from app.errors import ForbiddenError, NotFoundError, UnreachableError

pytestmark = pytest.mark.kube


@pytest.fixture
def namespace(kube: KubeServer) -> str:
    return kube.new_namespace(f"reach-{uuid.uuid4().hex[:8]}")


@pytest.fixture
def admin(kube: KubeServer) -> KubeClient:
    return KubeClient.from_kubeconfig(kube.kubeconfig())


def account(kube: KubeServer, namespace: str, name: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    kube.call("POST", path, {"metadata": {"name": name}})


def as_user(kube: KubeServer, token: str) -> KubeClient:
    return KubeClient.from_kubeconfig(kube.kubeconfig(token))


def stranger(kube: KubeServer, admin: KubeClient, namespace: str) -> KubeClient:
    """A user with no right at all."""
    account(kube, namespace, "stranger")
    return as_user(kube, admin.create_token(namespace, "stranger", 600))


def pod(kube: KubeServer, namespace: str, name: str) -> PodPort:
    path = f"/api/v1/namespaces/{namespace}/pods"
    spec = {"containers": [{"name": "app", "image": "app:1"}]}
    body = {"metadata": {"name": name}, "spec": {**spec, "automountServiceAccountToken": False}}
    account_path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    names = [item["metadata"]["name"] for item in kube.call("GET", account_path)["items"]]
    if "default" not in names:
        try:
            account(kube, namespace, "default")
        except HTTPError as error:
            if error.code != HTTPStatus.CONFLICT:  # the controller was faster
                raise
    kube.call("POST", path, body)
    return PodPort(namespace=namespace, pod=name, port=15000)


def test_the_kubeconfigs_token_is_shown(admin: KubeClient) -> None:
    assert choose_token(admin, "osm-system", None) == ADMIN_TOKEN


def test_a_token_is_requested_for_the_named_account(
    kube: KubeServer, admin: KubeClient, namespace: str
) -> None:
    account(kube, namespace, "robot")
    token = choose_token(admin, "osm-system", f"{namespace}/robot")
    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token},
    }
    status = kube.call("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)["status"]
    assert status["authenticated"] is True
    assert status["user"]["username"] == f"system:serviceaccount:{namespace}:robot"


def test_an_account_that_is_not_there_is_named(admin: KubeClient, namespace: str) -> None:
    with pytest.raises(NotFoundError, match=f"there is none of {namespace}/nobody"):
        choose_token(admin, "osm-system", f"{namespace}/nobody")


def test_a_user_who_may_not_request_tokens_reads_which_right_is_missing(
    kube: KubeServer, admin: KubeClient, namespace: str
) -> None:
    account(kube, namespace, "robot")
    user = stranger(kube, admin, namespace)
    with pytest.raises(ForbiddenError, match="verb create of serviceaccounts/token named robot"):
        choose_token(user, "osm-system", f"{namespace}/robot")


def test_a_user_who_may_not_see_controllers_reads_which_right_is_missing(
    kube: KubeServer, admin: KubeClient, namespace: str
) -> None:
    with pytest.raises(ForbiddenError) as found:
        cluster_admins(stranger(kube, admin, namespace), namespace)
    assert "list" in str(found.value)
    assert "pods" in str(found.value)
    assert namespace in str(found.value)


def test_a_user_who_may_not_forward_ports_reads_which_right_is_missing(
    kube: KubeServer, admin: KubeClient, namespace: str
) -> None:
    target = pod(kube, namespace, "web")
    user = stranger(kube, admin, namespace)
    with PodHttp(user, target) as http, pytest.raises(ForbiddenError) as found:
        http.request("GET", "/ready")
    assert f"namespace {namespace}: your role there needs the verbs get and create of" in str(
        found.value
    )


def test_a_user_with_the_documented_rights_may_forward_ports(
    kube: KubeServer, admin: KubeClient, namespace: str
) -> None:
    target = pod(kube, namespace, "web")
    user = stranger(kube, admin, namespace)
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    rules = [{"apiGroups": [""], "resources": ["pods/portforward"], "verbs": ["get", "create"]}]
    kube.call("POST", f"{rbac}/roles", {"metadata": {"name": "forward"}, "rules": rules})
    binding = {
        "metadata": {"name": "forward"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "forward"},
        "subjects": [{"kind": "ServiceAccount", "name": "stranger", "namespace": namespace}],
    }
    kube.call("POST", f"{rbac}/rolebindings", binding)
    # There is no node to forward to: what the server says after it allowed the user.
    with PodHttp(user, target) as http, pytest.raises(UnreachableError, match="host assigned"):
        http.request("GET", "/ready")


def test_a_pod_that_is_on_no_node_yet_is_told(
    kube: KubeServer, admin: KubeClient, namespace: str
) -> None:
    with (
        PodHttp(admin, pod(kube, namespace, "early")) as http,
        pytest.raises(UnreachableError, match=r"no way to port 15000 of Pod .*/early: "),
    ):
        http.request("GET", "/ready")


def test_a_pod_that_is_not_there_is_told(admin: KubeClient, namespace: str) -> None:
    target = PodPort(namespace=namespace, pod="gone", port=15000)
    with PodHttp(admin, target) as http, pytest.raises(NotFoundError, match="there is no Pod"):
        http.request("GET", "/ready")
