from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.machine import FakeNetwork, FakeProcesses
from kubelet_world import SERVICE, World, named, workload

from app.compute.declared import RawKey
from app.inject.decide import Skip
from app.inject.plan import Injected
from app.objects.meta import ObjectKey, ObjectKind, RawObject
from app.standalone.state import request_kill


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path, FakeProcesses(), FakeNetwork())
    yield found
    found.stop()


def test_a_declared_deployment_runs_behind_its_service(world: World) -> None:
    world.start(workload(replicas=2), SERVICE)
    pods = world.wait_ready(2)
    assert {(pod.ready, pod.address, pod.status) for pod in pods} == {
        ("2/2", "127.0.0.1", "Running")
    }
    world.processes.wait(lambda: world.ready_addresses("web") == 2)
    world.processes.wait(lambda: len(world.network.forwards[0].targets) == 2)
    zone = json.loads((world.state / "dns" / "zone.json").read_text())["names"]
    assert zone["web.shop.svc.cluster.local"] == ["10.43.0.1"]
    assert zone["osm-controller.osm-system.svc.cluster.local"] == ["10.1.0.1"]


def test_containers_start_after_the_sidecar_and_end_before_it(world: World) -> None:
    world.start(workload(), SERVICE)
    world.wait_ready()
    world.write(SERVICE)
    world.wait(lambda pods: not pods)
    story = [line for line in world.processes.story if not line.startswith("forget")]
    assert story == [
        "start init-osm",
        "start envoy",
        "start app",
        "withdrawn, 0 left",
        "stop app",
        "stop envoy",
    ]


def test_an_edit_starts_the_new_pod_before_the_old_one_ends(world: World) -> None:
    world.start(workload(), SERVICE)
    (old,) = world.wait_ready()
    world.processes.story.clear()
    world.write(workload(mark="b"), SERVICE)
    world.wait(lambda pods: len(pods) == 1 and pods[0].name != old.name and pods[0].is_ready)
    story = [line for line in world.processes.story if not line.startswith("forget")]
    assert story == [
        "start init-osm",
        "start envoy",
        "start app",
        "withdrawn, 1 left",
        "stop app",
        "stop envoy",
    ]


def test_scaling_is_an_edit(world: World) -> None:
    world.start(workload(replicas=1))
    (first,) = world.wait_ready()
    world.write(workload(replicas=3))
    three = {pod.name for pod in world.wait_ready(3)}
    assert first.name in three
    world.write(workload(replicas=1))
    assert world.wait_ready(1)[0].name in three


def test_a_crashed_container_is_started_again(world: World) -> None:
    world.start(workload())
    world.wait_ready()
    world.processes.crash("app")
    (pod,) = world.wait(lambda pods: not pods[0].is_ready)
    assert pod.status == "CrashLoopBackOff"
    (pod,) = world.wait_ready()
    assert pod.restarts == 1


def test_a_crashed_sidecar_is_started_again(world: World) -> None:
    world.start(workload())
    world.wait_ready()
    world.processes.crash("envoy")
    world.wait(lambda pods: not pods[0].is_ready)
    (pod,) = world.wait_ready()
    assert (pod.restarts, world.processes.story.count("start app")) == (1, 1)


def test_a_program_that_is_not_there_is_told_and_tried_again(world: World) -> None:
    world.processes.refused.add("app")
    world.start(workload())
    (pod,) = world.wait(lambda pods: bool(pods) and pods[0].status == "CreateContainerError")
    assert "program run is not there" in pod.message
    world.processes.refused.clear()
    world.wait_ready()


def test_a_killed_pod_is_replaced(world: World) -> None:
    world.start(workload())
    (old,) = world.wait_ready()
    request_kill(
        world.state,
        ObjectKey(kind=ObjectKind.POD, namespace="shop", name=old.name),
        graceful=False,
    )
    world.wait(lambda pods: len(pods) == 1 and pods[0].name != old.name and pods[0].is_ready)
    assert "kill app" in world.processes.story
    assert "stop app" not in world.processes.story


def test_killing_nothing_says_so(world: World) -> None:
    kubelet = world.start(workload())
    assert not kubelet.kill(ObjectKey(kind=ObjectKind.POD, namespace="shop", name="none"))


def test_a_job_ends_and_its_sidecar_with_it(world: World) -> None:
    world.start(workload("Job", restartPolicy="Never"))
    world.processes.wait(lambda: "start app" in world.processes.story)
    world.wait(lambda pods: pods[0].status == "Running")
    world.processes.crash("app", code=0)
    (pod,) = world.wait(lambda pods: pods[0].status == "Completed")
    world.processes.wait(lambda: "stop envoy" in world.processes.story)
    world.processes.wait(lambda: not world.network.known)
    assert pod.is_well


def test_a_failed_job_is_tried_as_often_as_it_says(world: World) -> None:
    inits = [{"name": "init-fails", "command": ["exit", "3"]}]
    world.start(workload("Job", restartPolicy="Never", initContainers=inits))
    pods = world.wait(lambda pods: [pod.status for pod in pods] == ["Error", "Error"])
    assert "start app" not in world.processes.story
    assert len(pods) == 2


def test_a_statefulset_starts_in_order(world: World) -> None:
    world.start(workload("StatefulSet", replicas=3))
    pods = world.wait_ready(3)
    assert [pod.name for pod in pods] == ["web-0", "web-1", "web-2"]
    assert world.processes.story == ["start init-osm", "start envoy", "start app"] * 3


def test_a_bare_pod_ends_with_its_file(world: World) -> None:
    spec = {"containers": [{"name": "app", "command": ["run"]}]}
    world.start(named("Pod", "v1", "one", spec=spec))
    assert [pod.name for pod in world.wait_ready()] == ["one"]
    world.file.unlink()
    world.wait(lambda pods: not pods)


def reasons(world: World) -> list[tuple[str, str, str]]:
    return [(entry.where, entry.field, entry.reason) for entry in world.objects.rejected()]


def test_a_missing_account_is_told_with_its_line_and_starts_nothing(world: World) -> None:
    world.start(workload(serviceAccountName="ghost"))
    world.processes.wait(lambda: bool(reasons(world)))
    ((where, field, reason),) = reasons(world)
    assert where.startswith(f"{world.file}:")
    assert field == "spec.template.spec.serviceAccountName"
    assert "there is no ServiceAccount shop/ghost" in reason
    assert world.pods() == []
    world.write(workload(serviceAccountName="ghost"), named("ServiceAccount", "v1", "ghost"))
    world.wait_ready()
    world.processes.wait(lambda: not reasons(world))


def test_a_refused_injection_is_told_and_tried_again(world: World) -> None:
    world.injector.refusal = "Pod annotation x: 'y' is unknown"
    world.start(workload())
    world.processes.wait(lambda: bool(reasons(world)))
    assert reasons(world) == [(f"{world.file}:1", "", "Pod annotation x: 'y' is unknown")]
    world.injector.refusal = ""
    world.wait_ready()


def test_a_workload_that_cannot_be_made_keeps_no_other_from_running(world: World) -> None:
    inject = world.injector.inject

    def fragile(pod: RawObject, **options: Any) -> Injected | Skip:
        if pod["metadata"]["name"].startswith("bad"):
            raise RuntimeError("nobody foresaw this")
        return inject(pod, **options)

    world.injector.inject = fragile
    bad = workload()
    bad["metadata"] = {"name": "bad", "namespace": "shop"}
    world.start(bad, workload())
    world.wait_ready()
    world.processes.wait(lambda: bool(reasons(world)))
    assert reasons(world) == [(f"{world.file}:1", "", "nobody foresaw this")]


def test_a_container_waits_for_its_config_map(world: World) -> None:
    env = [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "a"}}}]
    containers = [{"name": "app", "command": ["run"], "env": env}]
    world.start(workload(containers=containers))
    (pod,) = world.wait(lambda p: bool(p) and p[0].status == "CreateContainerConfigError")
    assert pod.message == "app: there is no ConfigMap late"
    world.write(workload(containers=containers), named("ConfigMap", "v1", "late", data={"a": "b"}))
    world.wait_ready()
    assert dict(world.processes.programs["app"].env)["A"] == "b"


def test_a_container_that_names_no_directory_works_beside_its_file(world: World) -> None:
    world.start(workload())
    world.wait_ready()
    assert world.processes.programs["app"].working_dir == str(world.file.parent)


def test_pods_outlive_the_kubelet_and_are_adopted(world: World) -> None:
    world.start(workload(), SERVICE)
    (before,) = world.wait_ready()
    world.stop(end=False)
    story = list(world.processes.story)
    again = World(world.folder, world.processes, world.network)
    again.start(adopt=True)
    try:
        assert again.wait_ready() == [before]
        assert world.processes.story == story
        world.processes.crash("app")
        again.wait(lambda pods: bool(pods) and pods[0].restarts == 1 and pods[0].is_ready)
    finally:
        again.stop()


def test_what_died_while_nobody_looked_is_started_again(world: World) -> None:
    world.start(workload(replicas=2))
    pods = world.wait_ready(2)
    world.stop(end=False)
    world.processes.on_exit = lambda _: None
    dead = f"ns-{pods[0].name}"
    world.processes.kill_namespace(dead)
    world.processes.crash("app")
    again = World(world.folder, world.processes, world.network)
    again.start(adopt=True)
    try:
        found = again.wait_ready(2)
        assert pods[0].name not in {pod.name for pod in found}
        assert {pod.name: pod.restarts for pod in found}[pods[1].name] == 1
    finally:
        again.stop()


def test_a_pod_that_was_ending_goes_on_ending(world: World) -> None:
    world.start(workload())
    (old,) = world.wait_ready()
    world.stop(end=False)
    key = RawKey(kind="Pod", namespace="shop", name=old.name)
    world.objects.update(
        key,
        lambda raw: {
            **raw,
            "metadata": {**raw["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"},
        },
    )
    again = World(world.folder, world.processes, world.network)
    again.start(adopt=True)
    try:
        again.wait(lambda pods: [pod.name for pod in pods if pod.is_ready] not in ([], [old.name]))
    finally:
        again.stop()
