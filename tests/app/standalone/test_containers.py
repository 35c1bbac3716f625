from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.objects.meta import ObjectKey, ObjectKind
from app.standalone.containers import (
    ContainerRun,
    Gauge,
    ProbeType,
    Role,
    container_runs,
    wait_seconds,
)
from app.standalone.process import Running
from app.standalone.specs import Container, PodSpec, Probe
from app.standalone.status import is_pod_ready, phase_of, pod_status

POD = ObjectKey(kind=ObjectKind.POD, namespace="shop", name="web")
PROCESS = Running(
    pod=POD,
    container="app",
    pid=7,
    ticks=1,
    started=datetime(2026, 1, 1, tzinfo=UTC),
    log=Path("/log"),
    namespace="ns",
)
STARTUP, LIVENESS, READINESS = ProbeType.STARTUP, ProbeType.LIVENESS, ProbeType.READINESS


def run(policy: Any = "Always", role: Role = Role.APP, **probes: Any) -> ContainerRun:
    fields = {f"{name}Probe": {"tcpSocket": {"port": 1}, **probe} for name, probe in probes.items()}
    spec = Container.model_validate({"name": "app", "command": ["x"], **fields})
    return ContainerRun(spec=spec, role=role, policy=policy)


def test_restarts_wait_longer_and_longer() -> None:
    waits = [wait_seconds(n) for n in (1, 2, 3, 4, 5, 6, 1000)]
    assert waits == [1, 2, 4, 8, 16, 30, 30]


def test_a_run_that_lasts_is_a_success() -> None:
    one = run()
    for begin, end, due in ((0, 1, 2), (2, 3, 5), (5, 50, 51), (51, 52, 54)):
        one.begin(PROCESS, begin)
        one.end(1, end)
        assert one.restart_at == due
    assert one.restarts == 4


@pytest.mark.parametrize(
    ("policy", "code", "finished", "reason"),
    [
        ("Always", 0, False, "CrashLoopBackOff"),
        ("Always", 1, False, "CrashLoopBackOff"),
        ("OnFailure", 0, True, "Completed"),
        ("OnFailure", 1, False, "CrashLoopBackOff"),
        ("OnFailure", None, False, "CrashLoopBackOff"),
        ("Never", 0, True, "Completed"),
        ("Never", 1, True, "Error"),
    ],
)
def test_what_follows_an_end(policy: Any, code: int | None, finished: bool, reason: str) -> None:
    one = run(policy)
    one.begin(PROCESS, 0)
    one.end(code, 1)
    assert (one.finished, one.reason) == (finished, reason)
    assert (one.restart_at is None) == finished
    assert (one.process, one.ready, one.started) == (None, False, False)


def test_a_container_without_probes_is_ready_at_once() -> None:
    one = run()
    one.begin(PROCESS, 0)
    assert (one.started, one.ready, list(one.due()), one.next_time()) == (True, True, [], None)


def test_the_startup_probe_comes_before_the_others() -> None:
    one = run(startup={}, readiness={"initialDelaySeconds": 5}, liveness={})
    one.begin(PROCESS, 0)
    assert (one.started, one.ready, list(one.due())) == (False, False, [STARTUP])
    assert one.judge(STARTUP, ok=True, now=1) == ""
    assert (one.started, one.ready, list(one.due())) == (True, False, [LIVENESS, READINESS])
    one.gauges[LIVENESS].busy = True
    assert one.next_time() == 5
    one.judge(READINESS, ok=True, now=6)
    assert one.ready


def test_a_container_joins_as_soon_as_it_can() -> None:
    one = run(readiness={"periodSeconds": 10})
    one.begin(PROCESS, 0)
    one.judge(READINESS, ok=False, now=0)
    assert one.next_time() == pytest.approx(0.2)
    one.judge(READINESS, ok=True, now=0.2)
    assert (one.ready, one.next_time()) == (True, 10.2)


def test_readiness_is_lost_after_the_threshold_and_comes_back() -> None:
    one = run(readiness={"failureThreshold": 2, "successThreshold": 2})
    one.begin(PROCESS, 0)
    told = []
    for ok in (True, True, False, True, False, False, False, True, True):
        one.judge(READINESS, ok=ok, now=0)
        told.append(one.ready)
    assert told == [False, True, True, True, True, False, False, False, True]


def test_liveness_restarts_after_the_threshold_once() -> None:
    one = run(liveness={"failureThreshold": 2})
    one.begin(PROCESS, 0)
    answers = [one.judge(LIVENESS, ok=ok, now=0) for ok in (False, True, False, False, False)]
    assert answers == ["", "", "", "its liveness probe failed 2 times", ""]


def test_looks_between_periods_do_not_count_as_failures() -> None:
    one = run(startup={"periodSeconds": 1, "failureThreshold": 2})
    one.begin(PROCESS, 0)
    answers = [one.judge(STARTUP, ok=False, now=0) for _ in range(10)]
    assert answers.index("its startup probe failed 2 times") == 9


def test_a_container_that_never_comes_is_looked_at_less_often() -> None:
    gauge = Gauge(probe=Probe.model_validate({"tcpSocket": {"port": 1}}), due=0)
    for _ in range(100):
        gauge.take(ok=False, now=0, eager=True)
    gauge.take(ok=False, now=0, eager=True)
    assert gauge.due == 10


def test_answers_about_a_dead_process_mean_nothing() -> None:
    one = run(liveness={"failureThreshold": 1})
    one.begin(PROCESS, 0)
    one.end(1, 1)
    assert one.judge(LIVENESS, ok=False, now=2) == ""


def test_an_adopted_container_goes_on_as_it_was() -> None:
    one = run(startup={}, readiness={})
    one.resume(PROCESS, 0, started=True, ready=True)
    assert (one.started, one.ready, one.restarts) == (True, True, 0)
    young = run(startup={})
    young.resume(PROCESS, 0, started=False, ready=False)
    assert (young.started, young.ready) == (False, False)


def test_what_cannot_start_is_tried_again() -> None:
    one = run("Never")
    one.refuse("no such program", 0)
    assert (one.finished, one.restart_at, one.reason) == (False, 1, "CreateContainerError")
    one.lack("there is no ConfigMap c", 1)
    assert (one.restart_at, one.message) == (1.5, "there is no ConfigMap c")


def spec(**fields: Any) -> PodSpec:
    containers = [{"name": "app", "command": ["x"]}]
    return PodSpec.model_validate({"containers": containers, **fields})


def test_containers_start_in_order_with_the_right_policy() -> None:
    inits = [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]
    found = container_runs(spec(initContainers=inits, restartPolicy="Never"))
    assert [(r.spec.name, r.role, r.policy) for r in found] == [
        ("i", Role.INIT, "Never"),
        ("s", Role.SIDECAR, "Always"),
        ("app", Role.APP, "Never"),
    ]
    assert container_runs(spec(initContainers=inits))[0].policy == "OnFailure"


def ended(one: ContainerRun, code: int) -> ContainerRun:
    one.begin(PROCESS, 0)
    one.end(code, 1)
    return one


def running(one: ContainerRun) -> ContainerRun:
    one.begin(PROCESS, 0)
    return one


INIT, SIDECAR = Role.INIT, Role.SIDECAR


@pytest.mark.parametrize(
    ("runs", "phase", "ready"),
    [
        pytest.param([run()], "Pending", False, id="nothing-yet"),
        pytest.param([running(run())], "Running", True, id="runs"),
        pytest.param([running(run("OnFailure", INIT)), run()], "Pending", False, id="in-init"),
        pytest.param([ended(run("Never", INIT), 1), run()], "Failed", False, id="init-failed"),
        pytest.param(
            [ended(run("OnFailure", INIT), 0), running(run())], "Running", True, id="after-init"
        ),
        pytest.param([running(run(role=SIDECAR)), run()], "Pending", False, id="sidecar-first"),
        pytest.param(
            [ended(run(role=SIDECAR), 1), running(run())], "Running", False, id="no-sidecar"
        ),
        pytest.param([running(run(readiness={}))], "Running", False, id="not-ready"),
        pytest.param([ended(run(), 1)], "Running", False, id="waits-for-its-restart"),
        pytest.param([ended(run("Never"), 0)], "Succeeded", False, id="done"),
        pytest.param(
            [ended(run("Never"), 0), ended(run("Never"), 2)], "Failed", False, id="failed"
        ),
        pytest.param(
            [ended(run("Never"), 0), running(run("Never"))], "Running", False, id="one-left"
        ),
    ],
)
def test_phase_and_readiness(runs: list[ContainerRun], phase: str, ready: bool) -> None:
    assert (phase_of(runs), is_pod_ready(runs)) == (phase, ready)


def test_the_status_is_that_of_kubernetes() -> None:
    init = ended(run("OnFailure", INIT), 0)
    before = {
        "startTime": "then",
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "long ago"}],
    }
    status = pod_status(
        [init, running(run())], address="10.0.0.1", host_address="10.1.0.1", before=before
    )
    started = status["conditions"][0].pop("lastTransitionTime")
    assert started.endswith("Z")
    assert status == {
        "phase": "Running",
        "hostIP": "10.1.0.1",
        "podIP": "10.0.0.1",
        "podIPs": [{"ip": "10.0.0.1"}],
        "startTime": "then",
        "conditions": [
            {"type": "Initialized", "status": "True"},
            {"type": "Ready", "status": "True", "lastTransitionTime": "long ago"},
        ],
        "initContainerStatuses": [
            {
                "name": "app",
                "ready": True,
                "started": False,
                "restartCount": 0,
                "state": {"terminated": {"exitCode": 0, "reason": "Completed"}},
            }
        ],
        "containerStatuses": [
            {
                "name": "app",
                "ready": True,
                "started": True,
                "restartCount": 0,
                "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
            }
        ],
    }


def test_the_status_says_why_a_container_does_not_run() -> None:
    one = run()
    one.refuse("program x is not there", 0)
    status = pod_status([one], address="", host_address="h", before={})
    assert (status["reason"], status["message"]) == (
        "CreateContainerError",
        "app: program x is not there",
    )
    assert status["containerStatuses"][0]["state"] == {
        "waiting": {"reason": "CreateContainerError", "message": "program x is not there"}
    }
