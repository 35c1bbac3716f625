"""The bookstore on a real node: shares, denials, edits, and changes under load."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from e2e.caller import Caller, allowed, shared
from e2e.node.cluster_node import EXAMPLE, ClusterNode

pytestmark = [pytest.mark.root, pytest.mark.envoy, pytest.mark.node]

READY_SECONDS = 60.0
REACTION_SECONDS = 2.0
DRAIN_MILLISECONDS = 4900  # the default of 5 s; Envoy's timer may be a few milliseconds early
HOST = "bookstore.bookstore"


@pytest.fixture
def buyer(bookstore: ClusterNode) -> Iterator[Caller]:
    with bookstore.caller("bookbuyer", HOST) as caller:
        allowed(caller.collect(0, 20))
        yield caller


def split(node: ClusterNode, v1: int, v2: int) -> float:
    """The weights are these; the moment after."""
    backends = [
        {"service": "bookstore-v1", "weight": v1},
        {"service": "bookstore-v2", "weight": v2},
    ]
    patch = json.dumps({"spec": {"backends": backends}})
    node.kubectl("patch", "trafficsplit/bookstore", "-n", "bookstore", "--type=merge", "-p", patch)
    return time.time()


def test_installation_is_ready_within_a_minute(installation: float) -> None:
    assert installation < READY_SECONDS


def test_every_pod_of_the_mesh_has_its_sidecar_and_owns_its_secret(bookstore: ClusterNode) -> None:
    for namespace in ("bookbuyer", "bookthief", "bookstore", "bookwarehouse"):
        for pod in bookstore.pods(namespace):
            names = [one["name"] for one in pod["spec"]["containers"]]
            assert names[-1] == "envoy", pod["metadata"]["name"]
            wait_until_owned(bookstore, pod)


def wait_until_owned(node: ClusterNode, pod: dict[str, Any]) -> None:
    """The Pod takes its bootstrap Secret along when it goes."""
    (secret,) = [
        volume["secret"]["secretName"]
        for volume in pod["spec"]["volumes"]
        if volume["name"] == "envoy-bootstrap-config-volume"
    ]

    def owners() -> list[str]:
        found = node.get("secret", secret, namespace=pod["metadata"]["namespace"])
        return [owner["uid"] for owner in found["metadata"].get("ownerReferences", ())]

    node.wait_until(lambda: owners() == [pod["metadata"]["uid"]], 20)


def test_policies_applied_together_miss_nothing(bookstore: ClusterNode) -> None:
    bookstore.kubectl("delete", "-f", str(EXAMPLE / "smi" / "traffic-targets.yaml"))
    assert bookstore.apply(EXAMPLE / "smi" / "traffic-targets.yaml") == ""


def test_both_versions_are_asked_by_weight(buyer: Caller) -> None:
    answers = buyer.collect(0, 300)
    allowed(answers)
    shared(answers, 90, 10)


def test_thief_gets_nothing(bookstore: ClusterNode) -> None:
    with bookstore.caller("bookthief", HOST, pause=0.05) as thief:
        answers = thief.collect(0, 40)
    assert {(seen.status, seen.version) for seen in answers} <= {
        (0, "ConnectionRefusedError"),
        (0, "ConnectionResetError"),
        (0, "RemoteDisconnected"),
    }


def test_stores_restock_over_tcp(bookstore: ClusterNode) -> None:
    asked = bookstore.kubectl(
        *["exec", "-n", "bookwarehouse", "deploy/redis", "-c", "redis", "--"],
        *["redis-cli", "get", "restocked"],
    )
    assert int(asked) > 0


def test_split_change_takes_effect_and_loses_nothing(bookstore: ClusterNode, buyer: Caller) -> None:
    changed = split(bookstore, 0, 100)
    answers = buyer.collect(changed + REACTION_SECONDS, 100)
    assert {seen.version for seen in answers} == {"v2"}
    restored = split(bookstore, 90, 10)
    shared(buyer.collect(restored + REACTION_SECONDS, 300), 90, 10)
    allowed(buyer.since(0))


def test_pods_deleted_under_load_lose_no_request(bookstore: ClusterNode, buyer: Caller) -> None:
    began = time.time()
    bookstore.kubectl("scale", "deploy/bookstore-v1", "-n", "bookstore", "--replicas=2")
    bookstore.wait_ready("bookstore/bookstore-v1")
    for pod in bookstore.pods("bookstore", "version=v1"):
        name = pod["metadata"]["name"]
        bookstore.kubectl("delete", "pod", "-n", "bookstore", name, "--wait=false")
        wait_until_replaced(bookstore, name)
    buyer.collect(time.time(), 100)
    allowed(buyer.since(began))
    bookstore.kubectl("scale", "deploy/bookstore-v1", "-n", "bookstore", "--replicas=1")


def test_sidecar_of_a_deleted_pod_serves_on_until_its_callers_know(bookstore: ClusterNode) -> None:
    pod = bookstore.pods("bookstore", "version=v1")[0]["metadata"]["name"]
    with bookstore.log("bookstore", pod, "envoy") as log:
        bookstore.kubectl("delete", "pod", "-n", "bookstore", pod)
    drains = [entry for entry in log if str(entry.get("path")).endswith("/osm-drain")]
    assert [entry["response_code"] for entry in drains] == [200], log[-5:]
    assert drains[0]["duration"] >= DRAIN_MILLISECONDS
    bookstore.wait_ready("bookstore/bookstore-v1")


def wait_until_replaced(node: ClusterNode, victim: str) -> None:
    """Two stores of version 1 are ready, and the victim is none of them."""

    def ready() -> set[str]:
        return {
            pod["metadata"]["name"]
            for pod in node.pods("bookstore", "version=v1")
            for one in pod["status"].get("conditions", ())
            if (one["type"], one["status"]) == ("Ready", "True")
        }

    node.wait_until(lambda: len(ready() - {victim}) == 2, 60, "bookstore")


def test_rollout_under_load_loses_no_request(bookstore: ClusterNode, buyer: Caller) -> None:
    began = time.time()
    bookstore.kubectl("rollout", "restart", "deploy/bookstore-v1", "-n", "bookstore")
    bookstore.wait_ready("bookstore/bookstore-v1")
    buyer.collect(time.time(), 100)
    allowed(buyer.since(began))


def test_controller_restarted_under_load_loses_no_request_and_goes_on(
    bookstore: ClusterNode, buyer: Caller
) -> None:
    began = time.time()
    bookstore.kubectl("rollout", "restart", "deploy/osm-controller", "-n", "osm-system")
    bookstore.wait_ready("osm-system/osm-controller")
    buyer.collect(time.time(), 100)
    changed = split(bookstore, 0, 100)
    answers = buyer.collect(changed + REACTION_SECONDS + 10, 100, timeout_seconds=60)
    assert {seen.version for seen in answers} == {"v2"}
    split(bookstore, 90, 10)
    allowed(buyer.since(began))


def test_commands_reach_the_mesh_as_the_user(bookstore: ClusterNode) -> None:
    proxies = json.loads(bookstore.osm("proxy", "list", "-o", "json"))
    assert {p["namespace"] for p in proxies} >= {"bookbuyer", "bookstore", "bookwarehouse"}
    buyer = next(p for p in proxies if p["namespace"] == "bookbuyer")
    ready = bookstore.osm("proxy", "get", "ready", buyer["pod"], "-n", "bookbuyer")
    assert ready.strip() == "LIVE"
    meshes = json.loads(bookstore.osm("mesh", "list", "-o", "json"))
    assert [mesh["mesh_name"] for mesh in meshes] == ["osm"]
    namespaces = json.loads(bookstore.osm("namespace", "list", "-o", "json"))
    assert {n["namespace"] for n in namespaces} == {
        "bookbuyer",
        "bookstore",
        "bookthief",
        "bookwarehouse",
    }
