from __future__ import annotations

from typing import Any

import factory
import pytest

from app.objects.meta import RawObject
from app.standalone.workloads import (
    FOLDER_ANNOTATION,
    TEMPLATE_ANNOTATION,
    WORKLOAD_ANNOTATION,
    Pace,
    new_pod,
    read_workload,
)

POD_SPEC = {"containers": [{"name": "app", "command": ["sleep", "1"]}]}


def workload(kind: str, **spec: Any) -> RawObject:
    version = "batch/v1" if kind == "Job" else "apps/v1"
    template = {"metadata": {"labels": {"app": "web"}}, "spec": POD_SPEC}
    fields = {"selector": {"matchLabels": {"app": "web"}}, "template": template, **spec}
    return factory.raw(kind, "shop/web", api=version, spec=fields)


def strategy(surge: object, unavailable: object) -> dict[str, Any]:
    return {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}


@pytest.mark.parametrize(
    ("replicas", "given", "pace"),
    [
        pytest.param(1, {}, Pace(surge=1), id="default-of-one"),
        pytest.param(4, {}, Pace(surge=1, unavailable=1), id="default-of-four"),
        pytest.param(10, {}, Pace(surge=3, unavailable=2), id="surge-up-unavailable-down"),
        pytest.param(3, strategy(2, 0), Pace(surge=2), id="numbers"),
        pytest.param(3, strategy(0, 0), Pace(unavailable=1), id="never-both-zero"),
        pytest.param(2, strategy("100%", "50%"), Pace(surge=2, unavailable=1), id="shares"),
        pytest.param(2, {"type": "Recreate"}, None, id="recreate"),
    ],
)
def test_pace_of_a_deployment(replicas: int, given: dict[str, Any], pace: Pace | None) -> None:
    raw = workload("Deployment", replicas=replicas, strategy=given)
    assert read_workload(raw, "/f").pace == pace


def test_a_deployments_pod_belongs_to_its_replica_set() -> None:
    wanted = read_workload(workload("Deployment"), "/f")
    pod = new_pod(wanted, "abcde")
    set_name = f"web-{wanted.hash}"
    (owner,) = pod["metadata"].pop("ownerReferences")
    assert {**owner, "uid": ""} == {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": set_name,
        "uid": "",
        "controller": True,
    }
    assert pod == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{set_name}-abcde",
            "namespace": "shop",
            "labels": {"app": "web", "pod-template-hash": wanted.hash},
            "annotations": {
                WORKLOAD_ANNOTATION: "Deployment shop/web",
                TEMPLATE_ANNOTATION: wanted.hash,
                FOLDER_ANNOTATION: "/f",
            },
        },
        "spec": POD_SPEC,
        "status": {"phase": "Pending"},
    }


def test_a_statefulsets_pod_has_a_number_and_a_name_in_the_network() -> None:
    wanted = read_workload(workload("StatefulSet", replicas=3, serviceName="peers"), "/f")
    pod = new_pod(wanted, "2")
    assert (wanted.replicas, wanted.in_order, wanted.is_numbered) == (3, True, True)
    assert pod["metadata"]["name"] == "web-2"
    assert pod["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"] == "web-2"
    assert pod["metadata"]["ownerReferences"][0]["kind"] == "StatefulSet"
    assert pod["spec"] == {**POD_SPEC, "hostname": "web-2", "subdomain": "peers"}


def test_a_jobs_pod_is_retried_as_often_as_it_says() -> None:
    raw = workload("Job", backoffLimit=2, parallelism=0)
    wanted = read_workload(raw, "/f")
    assert (wanted.retries, wanted.replicas) == (2, 0)
    pod = new_pod(wanted, "abcde")
    assert pod["metadata"]["name"] == "web-abcde"
    assert pod["metadata"]["labels"]["job-name"] == "web"


def test_a_bare_pod_is_its_own_template() -> None:
    raw = factory.raw("Pod", "shop/one", spec=POD_SPEC, status={"phase": "Running"})
    raw["metadata"] |= {"labels": {"a": "b"}, "uid": "of-another-cluster"}
    pod = new_pod(read_workload(raw, "/f"), "ignored")
    assert pod["metadata"]["name"] == "one"
    assert pod["metadata"]["labels"] == {"a": "b"}
    assert "uid" not in pod["metadata"]
    assert "ownerReferences" not in pod["metadata"]
    assert pod["status"] == {"phase": "Pending"}


def test_only_the_template_changes_the_hash() -> None:
    one = read_workload(workload("Deployment", replicas=1), "/f")
    scaled = read_workload(workload("Deployment", replicas=5), "/g")
    raw = workload("Deployment")
    raw["spec"]["template"]["metadata"]["annotations"] = {"restarted": "now"}
    restarted = read_workload(raw, "/f")
    assert one.hash == scaled.hash != restarted.hash


def test_a_pod_shares_nothing_with_its_template() -> None:
    wanted = read_workload(workload("Deployment"), "/f")
    new_pod(wanted, "a")["spec"]["containers"].append("x")
    assert wanted.template["spec"] == POD_SPEC
