"""Kinds of workloads on a real node: a Job that ends, a StatefulSet's Pods, exclusions, copies."""

import json
from pathlib import Path
from typing import Any

import pytest
from e2e.node.cluster_node import ClusterNode

pytestmark = [pytest.mark.root, pytest.mark.envoy, pytest.mark.node]

HERE = Path(__file__).parent
NAMESPACE = "workloads"


@pytest.fixture(scope="module")
def shelves(bookstore: ClusterNode) -> ClusterNode:
    bookstore.apply(HERE / "workloads.yaml")
    bookstore.kubectl(
        *["rollout", "status", "statefulset/shelf", "-n", NAMESPACE, "--timeout=90s"], seconds=100
    )
    return bookstore


def pod(name: str, **changes: Any) -> dict[str, Any]:
    container = {"name": "app", "image": "python:3.11-slim", "command": ["sleep", "600"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, **changes.pop("metadata", {})},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container], **changes},
    }


def test_job_asks_each_pod_of_a_stateful_set_by_name_and_ends(shelves: ClusterNode) -> None:
    shelves.apply(HERE / "job.yaml")
    shelves.kubectl(
        *["wait", "--for=condition=complete", "job/reader", "-n", NAMESPACE, "--timeout=90s"],
        seconds=100,
    )
    said = shelves.kubectl("logs", "-n", NAMESPACE, "job/reader", "-c", "reader").splitlines()
    assert said[-3:] == ["shelf-0", "shelf-1", "OK"]
    (done,) = shelves.get("pods", namespace=NAMESPACE, labels="job-name=reader")
    assert done["status"]["phase"] == "Succeeded"


def test_pod_on_the_network_of_its_host_is_left_alone(shelves: ClusterNode) -> None:
    shelves.create(pod("on-host", hostNetwork=True))
    seen = shelves.get("pod", "on-host", namespace=NAMESPACE)
    assert [one["name"] for one in seen["spec"]["containers"]] == ["app"]


def test_excluded_port_is_reached_past_the_sidecar(shelves: ClusterNode) -> None:
    lists = {"openservicemesh.io/outbound-port-exclusion-list": "6443,443"}
    shelves.create(pod("excluding", metadata={"annotations": lists}))
    shelves.kubectl(
        *["wait", "--for=condition=Ready", "pod/excluding", "-n", NAMESPACE, "--timeout=60s"],
        seconds=70,
    )
    asked = shelves.kubectl(
        *["exec", "-n", NAMESPACE, "excluding", "-c", "app", "--"],
        *["curl", "-sk", "https://10.96.0.1/version"],
    )
    assert json.loads(asked)["major"] == "1"


def test_copy_of_an_injected_pod_gets_an_identity_of_its_own(shelves: ClusterNode) -> None:
    shelves.kubectl(
        *["debug", "shelf-0", "-n", NAMESPACE, "--copy-to=shelf-copy", "--container=shelf"],
        *["--image=python:3.11-slim", "--same-node", "--quiet", "--", "sleep", "600"],
    )
    first = shelves.get("pod", "shelf-0", namespace=NAMESPACE)["metadata"]["labels"]
    copy = shelves.get("pod", "shelf-copy", namespace=NAMESPACE)
    uuid = copy["metadata"]["labels"]["osm-proxy-uuid"]
    assert uuid != first["osm-proxy-uuid"]
    secrets = [v["secret"]["secretName"] for v in copy["spec"]["volumes"] if "secret" in v]
    assert f"envoy-bootstrap-config-{uuid}" in secrets
