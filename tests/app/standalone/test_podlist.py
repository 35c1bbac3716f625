from __future__ import annotations

from pathlib import Path
from typing import Any

import factory
import pytest

from app.compute.declared import RawKey
from app.compute.kept import KeptObjects
from app.objects.meta import RawObject
from app.standalone.podlist import OBJECTS_FOLDER, PodSummary, read_pods, summary

READY = [{"type": "Ready", "status": "True"}]
RUNS = {"running": {}}


def pod(status: dict[str, Any], **meta: Any) -> RawObject:
    spec = {
        "initContainers": [{"name": "osm-init"}, {"name": "envoy", "restartPolicy": "Always"}],
        "containers": [{"name": "app"}],
    }
    labels = {"osm-proxy-uuid": "u-1"}
    meta = {"labels": labels, "creationTimestamp": "t", **meta}
    return factory.raw("Pod", "shop/web", meta=meta, spec=spec, status=status)


def test_a_pod_in_one_line() -> None:
    status = {
        "phase": "Running",
        "podIP": "10.0.0.1",
        "conditions": READY,
        "initContainerStatuses": [
            {"name": "osm-init", "ready": True, "restartCount": 0, "state": {"terminated": {}}},
            {"name": "envoy", "ready": True, "restartCount": 1, "state": RUNS},
        ],
        "containerStatuses": [{"name": "app", "ready": True, "restartCount": 2, "state": RUNS}],
    }
    assert summary(pod(status)) == PodSummary(
        namespace="shop",
        name="web",
        ready="2/2",
        is_ready=True,
        status="Running",
        message="",
        restarts=3,
        address="10.0.0.1",
        created="t",
        containers=("osm-init", "envoy", "app"),
        applications=("app",),
        proxy="u-1",
    )


def waiting(reason: str) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "app", "state": {"waiting": {"reason": reason}}}]}


@pytest.mark.parametrize(
    ("status", "meta", "word", "well"),
    [
        pytest.param({}, {}, "Pending", False, id="new"),
        pytest.param({"phase": "Running", "conditions": READY}, {}, "Running", True, id="ready"),
        pytest.param(
            {"phase": "Running", "conditions": READY},
            {"deletionTimestamp": "t"},
            "Terminating",
            False,
            id="ending",
        ),
        pytest.param({"phase": "Succeeded"}, {}, "Completed", True, id="done"),
        pytest.param({"phase": "Failed"}, {}, "Error", False, id="failed"),
        pytest.param(
            {"phase": "Running", **waiting("CrashLoopBackOff")},
            {},
            "CrashLoopBackOff",
            False,
            id="crashes",
        ),
        pytest.param(
            {"phase": "Pending", **waiting("ContainerCreating")}, {}, "Pending", False, id="starts"
        ),
        pytest.param({"phase": "Pending", "reason": "Error"}, {}, "Error", False, id="in-trouble"),
    ],
)
def test_the_word_for_a_pods_state(
    status: dict[str, Any], meta: dict[str, Any], word: str, well: bool
) -> None:
    found = summary(pod(status, **meta))
    assert (found.status, found.is_well) == (word, well)


def test_pods_are_read_from_the_state_directory_alone(tmp_path: Path) -> None:
    kept = KeptObjects(tmp_path / OBJECTS_FOLDER)
    for raw in (
        factory.pod("b/two"),
        factory.pod("b/one"),
        factory.pod("a/three"),
        factory.service("a/s"),
    ):
        kept.save(RawKey.of(raw), raw)
    assert [f"{p.namespace}/{p.name}" for p in read_pods(tmp_path)] == ["a/three", "b/one", "b/two"]
    assert read_pods(tmp_path / "nowhere") == []
