"""Three controllers: any one may die; no request is lost and no Pod starts without its sidecar."""

import json
import time
from collections.abc import Iterator

import pytest
from e2e.caller import allowed
from e2e.node.cluster_node import ClusterNode

pytestmark = [pytest.mark.root, pytest.mark.envoy, pytest.mark.node]

GROWING = "bookstore/bookstore-v2"


@pytest.fixture(scope="module")
def three(bookstore: ClusterNode) -> Iterator[ClusterNode]:
    bookstore.kubectl("scale", "deploy/osm-controller", "-n", "osm-system", "--replicas=3")
    bookstore.wait_ready("osm-system/osm-controller")
    yield bookstore
    bookstore.kubectl("scale", "deploy/bookstore-v2", "-n", "bookstore", "--replicas=1")
    bookstore.kubectl("scale", "deploy/osm-controller", "-n", "osm-system", "--replicas=1")


def holder(node: ClusterNode) -> str:
    """The Pod that does the periodic jobs."""
    lease = node.get("lease", "osm-controller", namespace="osm-system")
    return str(lease["spec"]["holderIdentity"])


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_killing_any_replica_loses_nothing(three: ClusterNode, victim: int) -> None:
    controllers = sorted(
        three.pods("osm-system", "app=osm-controller"), key=lambda pod: pod["metadata"]["name"]
    )
    assert len(controllers) == 3
    name = controllers[victim]["metadata"]["name"]
    with three.caller("bookbuyer", "bookstore.bookstore") as buyer:
        allowed(buyer.collect(0, 20))
        replicas = 2 if victim % 2 == 0 else 1
        three.kubectl("delete", "pod", name, "-n", "osm-system", "--force", "--grace-period=0")
        three.kubectl(
            *["scale", "deploy/bookstore-v2", "-n", "bookstore", f"--replicas={replicas}"]
        )
        three.wait_ready(GROWING)
        three.wait_ready("osm-system/osm-controller")
        buyer.collect(time.time(), 100)
        allowed(buyer.since(0))
    for namespace in ("bookbuyer", "bookthief", "bookstore", "bookwarehouse"):
        for pod in three.pods(namespace):
            assert "envoy" in [one["name"] for one in pod["spec"]["containers"]]


def test_periodic_jobs_have_one_holder_that_lives(three: ClusterNode) -> None:
    names = {pod["metadata"]["name"] for pod in three.pods("osm-system", "app=osm-controller")}
    three.wait_until(lambda: any(holder(three).startswith(name) for name in names), 30)


def test_deployment_reaches_its_replicas_while_a_controller_dies(three: ClusterNode) -> None:
    victim = three.pods("osm-system", "app=osm-controller")[0]["metadata"]["name"]
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "crowd", "namespace": "bookbuyer"},
        "spec": {
            "replicas": 6,
            "selector": {"matchLabels": {"app": "crowd"}},
            "template": {
                "metadata": {"labels": {"app": "crowd"}},
                "spec": {
                    "serviceAccountName": "bookbuyer",
                    "terminationGracePeriodSeconds": 0,
                    "containers": [
                        {
                            "name": "crowd",
                            "image": "python:3.11-slim",
                            "command": ["sleep", "600"],
                        }
                    ],
                },
            },
        },
    }
    three.create(deployment)
    three.kubectl("delete", "pod", victim, "-n", "osm-system", "--force", "--grace-period=0")
    three.wait_ready("bookbuyer/crowd")
    crowd = three.pods("bookbuyer", "app=crowd")
    sidecars = [[one["name"] for one in pod["spec"]["containers"]] for pod in crowd]
    assert sidecars == [["crowd", "envoy"]] * 6, json.dumps(sidecars)
    three.kubectl("delete", "deploy/crowd", "-n", "bookbuyer")
