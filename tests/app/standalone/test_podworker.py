"""What probes, hooks and changed Secrets do to a running Pod."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.machine import FakeNetwork, FakeProcesses
from kubelet_world import ME, SERVICE, World, named, workload

from app.errors import RightsError


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path, FakeProcesses(), FakeNetwork())
    found.injector.sidecars = False
    yield found
    found.stop()


@pytest.fixture
def door() -> Iterator[socket.socket]:
    """A port on loopback that is closed until somebody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        yield found


def app(door: socket.socket | None = None, **fields: Any) -> dict[str, Any]:
    """A container; its probes ask the door."""
    for name in ("readinessProbe", "livenessProbe", "startupProbe"):
        if name in fields and door is not None:
            fields[name] = {"tcpSocket": {"port": door.getsockname()[1]}, **fields[name]}
    return {"name": "app", "command": ["run"], **fields}


def test_a_pod_is_called_only_once_it_is_ready(world: World, door: socket.socket) -> None:
    world.start(workload(containers=[app(door, readinessProbe={})]), SERVICE)
    (pod,) = world.wait(lambda pods: bool(pods) and pods[0].status == "Running")
    assert (pod.is_ready, world.ready_addresses("web")) == (False, 0)
    door.listen()
    world.wait_ready()
    world.processes.wait(lambda: world.ready_addresses("web") == 1)


def test_a_pod_that_is_not_ready_any_more_is_not_called(world: World, door: socket.socket) -> None:
    probe = {"periodSeconds": 1, "failureThreshold": 1}
    door.listen()
    world.start(workload(containers=[app(door, readinessProbe=probe)]), SERVICE)
    world.processes.wait(lambda: world.ready_addresses("web") == 1)
    door.close()
    world.processes.wait(lambda: world.ready_addresses("web") == 0)
    assert world.pods()[0].restarts == 0


def test_a_container_that_hangs_is_started_again(world: World, door: socket.socket) -> None:
    probe = {"periodSeconds": 1, "failureThreshold": 1}
    world.start(workload(containers=[app(door, livenessProbe=probe)]))
    world.wait(lambda pods: bool(pods) and pods[0].restarts == 1)
    assert world.processes.story[:2] == ["start app", "stop app"]
    door.listen()
    world.wait_ready()


def test_a_hook_runs_before_the_container_ends(world: World, tmp_path: Path) -> None:
    mark = tmp_path / "hook-was-here"
    hook = {"preStop": {"exec": {"command": ["touch", str(mark)]}}}
    world.start(workload(containers=[app(lifecycle=hook)]))
    world.wait_ready()
    world.write(SERVICE)
    world.wait(lambda pods: not pods)
    assert mark.exists()


def test_a_changed_secret_reaches_the_files_of_a_running_pod(world: World) -> None:
    mounts = [{"name": "keys", "mountPath": "/keys"}]
    volumes = [{"name": "keys", "secret": {"secretName": "keys"}}, {"name": "tmp", "emptyDir": {}}]
    pod = workload(containers=[app(volumeMounts=mounts)], volumes=volumes)
    world.start(pod, named("Secret", "v1", "keys", stringData={"token": "old"}))
    (found,) = world.wait_ready()
    folder = world.state / "pods" / found.name / "volumes"
    file = folder / "keys" / "token"
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("old", 0o600)
    assert file.stat().st_uid == ME.uid
    assert (folder / "tmp").stat().st_mode & 0o777 == 0o777
    world.write(pod, named("Secret", "v1", "keys", stringData={"token": "new"}))
    world.processes.wait(lambda: file.read_text() == "new")
    world.write(pod)
    world.processes.wait(lambda: world.objects.rejected() == ())
    assert file.read_text() == "new"


def test_a_pod_without_a_network_is_tried_again(world: World) -> None:
    world.network.refusal = RightsError("no address is free")
    world.start(workload())
    (pod,) = world.wait(lambda pods: bool(pods) and pods[0].status == "Error")
    assert pod.message == "no address is free"
    world.network.refusal = None
    assert world.wait_ready()[0].name == pod.name


def test_a_pod_in_trouble_can_end(world: World) -> None:
    world.network.refusal = RightsError("no address is free")
    world.start(workload())
    world.wait(lambda pods: bool(pods) and pods[0].status == "Error")
    world.write(SERVICE)
    world.wait(lambda pods: not pods)
