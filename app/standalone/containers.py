"""The state of one container and what follows from each event; pure.

Owned by the Pod's worker, which tells it of starts, ends and probe results, with the time as an
argument, and asks what is due. Restarts wait 1 s, 2 s, 4 s … up to 30 s, and from the beginning
again once it has run that long.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from app.standalone.process import Running
from app.standalone.specs import Container, PodSpec, Probe

LONGEST_WAIT = 30.0
"""Seconds between restarts at most, and how long a run must last to count as a success."""
_EAGER_SECONDS = 0.2
_EAGER_LOOKS = 100
"""Looks between two probes of a container that never was ready: it joins as soon as it can."""

RestartPolicy = Literal["Always", "OnFailure", "Never"]


class Role(StrEnum):
    """When a container runs."""

    INIT = "init"
    """Once, before those after it."""
    SIDECAR = "sidecar"
    """From its place among the init containers until the others have ended."""
    APP = "app"


class ProbeType(StrEnum):
    """What a probe decides."""

    STARTUP = "startup"
    LIVENESS = "liveness"
    READINESS = "readiness"


@dataclass(slots=True, kw_only=True)
class Gauge:
    """Answers of one probe in a row; decides once enough agree."""

    probe: Probe
    due: float
    successes: int = 0
    failures: int = 0
    looks: int = 0
    busy: bool = False

    def take(self, *, ok: bool, now: float, eager: bool) -> bool | None:
        """What is decided now: True, False, or None while too few answers agree.

        ``eager``: a failure between two periods does not count, it is looked at again at once.
        """
        self.busy = False
        if not ok and eager and self.looks < _EAGER_LOOKS:
            self.looks += 1
            period = max(1, round(self.probe.period_seconds / _EAGER_SECONDS))
            self.due = now + _EAGER_SECONDS
            if self.looks % period:
                return None
        else:
            self.due = now + self.probe.period_seconds
        self.successes = self.successes + 1 if ok else 0
        self.failures = 0 if ok else self.failures + 1
        if ok:
            return True if self.successes >= self.probe.success_threshold else None
        return False if self.failures >= self.probe.failure_threshold else None


@dataclass(slots=True, kw_only=True)
class ContainerRun:
    """One container over all its restarts."""

    spec: Container
    role: Role
    policy: RestartPolicy
    process: Running | None = None
    began: float = 0.0
    started: bool = False
    """The startup probe has succeeded, where there is one."""
    ready: bool = False
    restarts: int = 0
    finished: bool = False
    """It has ended for good."""
    exit_code: int | None = None
    ever_ended: bool = False
    restart_at: float | None = None
    reason: str = "ContainerCreating"
    """Why it does not run."""
    message: str = ""
    gauges: dict[ProbeType, Gauge] = field(default_factory=dict)
    _failures: int = 0

    @property
    def succeeded(self) -> bool:
        """True when it has ended for good with code 0."""
        return self.finished and self.exit_code == 0

    def begin(self, process: Running, now: float) -> None:
        """The container runs as this process."""
        self.process, self.began, self.restart_at = process, now, None
        self.reason = self.message = ""
        self.gauges = {
            kind: Gauge(probe=p, due=now + p.initial_delay_seconds)
            for kind, p in _probes(self.spec)
        }
        self.started = ProbeType.STARTUP not in self.gauges
        self.ready = self.started and ProbeType.READINESS not in self.gauges

    def resume(self, process: Running, now: float, *, started: bool, ready: bool) -> None:
        """The container runs as this process, in this state, since before this program did."""
        self.begin(process, now)
        if started:
            self._pass_startup()
            self.ready = ready or ProbeType.READINESS not in self.gauges

    def end(self, code: int | None, now: float) -> None:
        """The process is gone; the container is finished or waits for its restart."""
        ran = now - self.began
        self.process, self.ready, self.started = None, False, False
        self.exit_code, self.ever_ended, self.gauges = code, True, {}
        again = self.policy == "Always" or (self.policy == "OnFailure" and code != 0)
        if not again:
            self.finished = True
            self.reason = "Completed" if code == 0 else "Error"
            return
        self.restarts += 1
        self._failures = 1 if ran >= LONGEST_WAIT else self._failures + 1
        what = "ended by itself" if code == 0 else f"ended with code {code}" if code else "ended"
        self._wait("CrashLoopBackOff", what, now)

    def refuse(self, message: str, now: float) -> None:
        """The process could not be started; it is tried again."""
        self._failures += 1
        self._wait("CreateContainerError", message, now)

    def lack(self, message: str, now: float) -> None:
        """Something it needs is missing; it looks again soon."""
        self.reason, self.message, self.restart_at = (
            "CreateContainerConfigError",
            message,
            now + 0.5,
        )

    def judge(self, kind: ProbeType, *, ok: bool, now: float) -> str:
        """Takes a probe's answer; returns why the container must be restarted, or nothing."""
        gauge = self.gauges.get(kind)
        if gauge is None or self.process is None:
            return ""
        eager = kind is not ProbeType.LIVENESS and not self.ready
        match kind, gauge.take(ok=ok, now=now, eager=eager):
            case ProbeType.STARTUP, True:
                self._pass_startup()
                self.ready = ProbeType.READINESS not in self.gauges
            case ProbeType.READINESS, bool(verdict):
                self.ready = verdict
            case ((ProbeType.STARTUP | ProbeType.LIVENESS), False):
                del self.gauges[kind]
                return f"its {kind} probe failed {gauge.failures} times"
        return ""

    def due(self) -> Iterator[ProbeType]:
        """Probes that may run in the present state: startup alone, then the others."""
        for kind, gauge in self.gauges.items():
            may_run = kind is ProbeType.STARTUP or self.started
            if may_run and not gauge.busy and self.process is not None:
                yield kind

    def next_time(self) -> float | None:
        """When something is due next, or None."""
        times = [self.gauges[kind].due for kind in self.due()]
        if self.restart_at is not None:
            times.append(self.restart_at)
        return min(times, default=None)

    def _pass_startup(self) -> None:
        self.started = True
        self.gauges.pop(ProbeType.STARTUP, None)

    def _wait(self, reason: str, message: str, now: float) -> None:
        self.reason, self.message = reason, message
        self.restart_at = now + wait_seconds(self._failures)


def wait_seconds(failures: int) -> float:
    """How long the restart after so many failures in a row waits."""
    return min(LONGEST_WAIT, 2.0 ** min(failures - 1, 10))


def container_runs(spec: PodSpec) -> list[ContainerRun]:
    """All containers of a Pod in the order of their start."""
    again: RestartPolicy = "Never" if spec.restart_policy == "Never" else "OnFailure"
    runs = [
        ContainerRun(spec=container, role=Role.SIDECAR, policy="Always")
        if container.is_sidecar
        else ContainerRun(spec=container, role=Role.INIT, policy=again)
        for container in spec.init_containers
    ]
    for run in runs:
        run.reason = "PodInitializing"
    runs += [
        ContainerRun(spec=container, role=Role.APP, policy=spec.restart_policy)
        for container in spec.containers
    ]
    return runs


def _probes(spec: Container) -> Iterator[tuple[ProbeType, Probe]]:
    for kind, probe in (
        (ProbeType.STARTUP, spec.startup_probe),
        (ProbeType.LIVENESS, spec.liveness_probe),
        (ProbeType.READINESS, spec.readiness_probe),
    ):
        if probe is not None:
            yield kind, probe
