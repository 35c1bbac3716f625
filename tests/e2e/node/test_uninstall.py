"""Uninstalling leaves nothing that acts: no webhook, Secret or label; installing again works."""

import pytest
from e2e.node.cluster_node import EXAMPLE, ClusterNode
from e2e.node.conftest import BOOKSTORE

pytestmark = [pytest.mark.root, pytest.mark.envoy, pytest.mark.node]

MARKS = "openservicemesh.io/"


@pytest.fixture(scope="module")
def uninstalled(bookstore: ClusterNode) -> str:
    """What the uninstallation said."""
    return bookstore.osm("uninstall", "mesh", "--force")


def test_it_names_the_namespaces_to_restart(uninstalled: str) -> None:
    for namespace in ("bookbuyer", "bookstore", "bookthief", "bookwarehouse"):
        assert namespace in uninstalled


def test_no_webhook_is_left(bookstore: ClusterNode, uninstalled: str) -> None:
    for kind in ("mutatingwebhookconfigurations", "validatingwebhookconfigurations"):
        assert [one["metadata"]["name"] for one in bookstore.get(kind)] == []


def test_no_secret_is_left(bookstore: ClusterNode, uninstalled: str) -> None:
    left = [
        f"{one['metadata']['namespace']}/{one['metadata']['name']}"
        for one in bookstore.get("secrets")
        if one["type"] != "kubernetes.io/service-account-token"
    ]
    assert left == []


def test_no_namespace_is_marked(bookstore: ClusterNode, uninstalled: str) -> None:
    marks = [
        (one["metadata"]["name"], key)
        for one in bookstore.get("namespaces")
        for part in ("labels", "annotations")
        for key in one["metadata"].get(part) or {}
        if key.startswith(MARKS)
    ]
    assert marks == []


def test_pods_go_on_without_the_mesh(bookstore: ClusterNode, uninstalled: str) -> None:
    bookstore.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "plain", "namespace": "bookbuyer"},
            "spec": {
                "containers": [
                    {"name": "app", "image": "python:3.11-slim", "command": ["sleep", "60"]}
                ],
                "terminationGracePeriodSeconds": 0,
            },
        }
    )
    pod = bookstore.get("pod", "plain", namespace="bookbuyer")
    assert [one["name"] for one in pod["spec"]["containers"]] == ["app"]


def test_installing_again_works(bookstore: ClusterNode, uninstalled: str) -> None:
    bookstore.osm("install")
    bookstore.apply(EXAMPLE / "smi" / "mesh-config.yaml", EXAMPLE / "apps")
    for place in BOOKSTORE:
        namespace, name = place.split("/")
        bookstore.kubectl("rollout", "restart", f"deploy/{name}", "-n", namespace)
    bookstore.wait_ready(*BOOKSTORE)
    with bookstore.caller("bookbuyer", "bookstore.bookstore") as buyer:
        answers = buyer.collect(0, 20)
    assert {seen.status for seen in answers} == {200}
