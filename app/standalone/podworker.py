"""The life of one Pod, on a thread of its own: network, containers in their order, end.

The kubelet starts a worker per Pod and tells it of ends of processes, changed volumes and the wish
to stop; the worker alone touches the Pod's containers and writes its status. Order of the end: the
Pod leaves all Endpoints and clients have taken note, applications get SIGTERM, and Envoy goes last,
so no request is lost.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import assert_never

from app import logs
from app.compute.declared import RawKey
from app.errors import AppError, StartError
from app.objects.meta import ObjectKey, ObjectKind, RawObject
from app.standalone.containers import ContainerRun, ProbeType, Role, container_runs
from app.standalone.launch import NotYetError
from app.standalone.machine import Machine
from app.standalone.network import PodNetwork
from app.standalone.podparts import PodParts, remove_pod_objects
from app.standalone.probes import Answer
from app.standalone.process import Exited, Running
from app.standalone.rollout import is_ready
from app.standalone.specs import Pod
from app.standalone.status import container_memory, phase_of, pod_status, timestamp

_IDLE_SECONDS = 30.0
_SIDECAR_GRACE = 5.0
_RETRY_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """The Pod shall end. ``graceful`` False: at once, as in a crash."""

    graceful: bool = True
    withdraw: bool = True
    """False: nobody waits until clients have taken note, since all Pods end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresh:
    """A ConfigMap or Secret has changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """A probe of one process has been answered."""

    process: Running
    kind: ProbeType
    answer: Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class LetGo:
    """The worker ends and leaves the Pod as it is; another kubelet will adopt it."""


Message = Exited | Stop | Refresh | Probed | LetGo


class _Stopping(Exception):  # noqa: N818 leaves the life for the end
    def __init__(self, stop: Stop | LetGo) -> None:
        super().__init__()
        self.stop = stop


class PodWorker:
    """One Pod; ``tell`` may be called from any thread."""

    def __init__(
        self,
        pod: RawObject,
        machine: Machine,
        *,
        withdraw: Callable[[ObjectKey], None],
        gone: Callable[[ObjectKey], None],
    ) -> None:
        """``withdraw`` blocks until nobody calls the Pod any more.

        ``gone`` is told at the very end.
        """
        self.key = ObjectKey(
            kind=ObjectKind.POD,
            namespace=pod["metadata"]["namespace"],
            name=pod["metadata"]["name"],
        )
        self._raw_key = RawKey.of(pod)
        self._pod = pod
        self._spec = Pod.model_validate(pod).spec
        self._machine = machine
        self._parts = PodParts(self.key, self._spec, machine)
        self._withdraw = withdraw
        self._gone = gone
        self._runs = container_runs(self._spec)
        self._network: PodNetwork | None = None
        self._fresh = True
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._status: RawObject = dict(pod.get("status") or {})
        self._log = logs.logger("kubelet").bind(pod=self.key.path)
        self._thread = threading.Thread(target=self._run, name=f"pod {self.key.path}", daemon=True)

    def start(self, adopted: Sequence[Running] | None = None) -> None:
        """The Pod comes to life; or goes on living with the processes of an earlier kubelet.

        An adopted Pod's status is true when this returns.
        """
        if adopted is not None:
            self._fresh = False
            self._network = self._machine.network.pods().get(self.key)
            self._resume(adopted)
            self._write_status()
        self._thread.start()

    def tell(self, message: Message) -> None:
        """The worker takes the message up soon."""
        self._messages.put(message)

    def join(self, timeout_seconds: float | None = None) -> bool:
        """True once the Pod is gone."""
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    # Life

    def _run(self) -> None:
        stop = self._live_until_stopped()
        if isinstance(stop, LetGo):
            return
        try:
            self._end(stop)
        except Exception as error:  # what is left is removed when the machine goes down
            code = getattr(error, "code", AppError.code)
            self._log.exception("pod could not be removed", error_code=code)
        self._gone(self.key)

    def _live_until_stopped(self) -> Stop | LetGo:
        while True:
            try:
                self._live()
            except _Stopping as stopping:
                return stopping.stop
            except Exception as error:  # one Pod's failure must not be another's
                code = getattr(error, "code", AppError.code)
                self._log.exception("pod failed, it is tried again", error_code=code)
                self._report_failure(error)
            stop = self._await_stop(_RETRY_SECONDS)
            if stop is not None:
                return stop
            self._begin_anew()

    def _begin_anew(self) -> None:
        if self._network is not None:
            self._machine.processes.kill_namespace(self._network.namespace)
        self._runs, self._fresh = container_runs(self._spec), True

    def _live(self) -> None:
        if self._fresh:
            self._network = self._join_network()
            self._write_status()
        for run in self._runs:
            if run.process is None and not run.ever_ended and not run.finished:
                run.restart_at = self._now()
            if run.role is not Role.APP:
                self._until(partial(_has_done_its_part, run))
            if run.finished and not run.succeeded and run.role is Role.INIT:
                break
        self._until(lambda: phase_of(self._runs) in ("Succeeded", "Failed"))
        self._finish()
        self._until(lambda: False)

    def _join_network(self) -> PodNetwork:
        network = self._machine.network.add_pod(self.key)
        self._status["startTime"] = timestamp()
        self._log.info("pod has a network", address=network.address)
        return network

    def _resume(self, adopted: Sequence[Running]) -> None:
        """Containers are as their status says, and those whose process is gone have ended."""
        memory = container_memory(self._status)
        alive = {process.container: process for process in adopted}
        for run in self._runs:
            known: Mapping[str, object] = memory.get(run.spec.name, {})
            run.restarts = int(str(known.get("restartCount", 0)))
            process = alive.get(run.spec.name)
            if process is not None:
                started, ready = bool(known.get("started")), bool(known.get("ready"))
                run.resume(process, self._now(), started=started, ready=ready)
            elif run.role is Role.INIT:
                run.finished, run.exit_code, run.ever_ended = True, 0, True
            else:
                self._recall_end(run, known)
        self._log.info("pod adopted", containers=sorted(alive))

    def _recall_end(self, run: ContainerRun, known: Mapping[str, object]) -> None:
        state = known.get("state")
        ended = state.get("terminated") if isinstance(state, Mapping) else None
        if isinstance(ended, Mapping):
            code = ended.get("exitCode")
            run.finished, run.ever_ended = True, True
            run.exit_code = code if isinstance(code, int) else None
            run.reason = str(ended.get("reason", ""))
        else:
            run.end(None, self._now())

    def _finish(self) -> None:
        """All applications have ended for good: sidecars go too, and the network."""
        self._log.info("pod has finished", phase=phase_of(self._runs))
        for run in reversed(self._runs):
            if run.process is not None:
                run.policy = "Never"
                self._machine.processes.stop(run.process, _SIDECAR_GRACE)
        self._machine.network.remove_pod(self.key)

    # Turning

    def _until(self, reached: Callable[[], bool]) -> None:
        """Events are taken up until the condition holds; raises when the Pod shall end."""
        while not reached():
            self._turn()

    def _turn(self) -> None:
        times = [time for run in self._runs if (time := run.next_time()) is not None]
        wait = min(times, default=self._now() + _IDLE_SECONDS) - self._now()
        try:
            self._take(self._messages.get(timeout=max(0.0, wait)))
            while True:
                self._take(self._messages.get_nowait())
        except queue.Empty:
            pass
        self._do_due()
        self._write_status()

    def _take(self, message: Message) -> None:
        match message:
            case Exited():
                self._take_exit(message)
            case Probed():
                self._take_answer(message)
            case Refresh():
                self._refresh()
            case Stop() | LetGo():
                raise _Stopping(message)
            case _:
                assert_never(message)

    def _take_exit(self, exited: Exited) -> None:
        run = self._run_of(exited.process)
        if run is None:
            return
        run.end(exited.code, self._now())
        if not run.succeeded:
            words = {"code": exited.code, "container": run.spec.name, "restarts": run.restarts}
            self._log.warning("container ended", **words)

    def _take_answer(self, probed: Probed) -> None:
        run = self._run_of(probed.process)
        if run is None:
            return
        was_ready = run.ready
        why = run.judge(probed.kind, ok=probed.answer.ok, now=self._now())
        name = run.spec.name
        if why:
            self._log.warning("container is restarted", container=name, reason=why)
            self._parts.stop(probed.process)
        elif was_ready and not run.ready:
            self._log.warning("container not ready", container=name, detail=probed.answer.detail)

    def _refresh(self) -> None:
        try:
            self._parts.write_volumes()
        except NotYetError as missing:
            self._log.warning("volume kept as it was", reason=str(missing))

    def _do_due(self) -> None:
        now = self._now()
        for run in self._runs:
            if run.restart_at is not None and run.restart_at <= now and not run.finished:
                self._start_container(run)
            for kind in list(run.due()):
                if run.gauges[kind].due <= now:
                    self._probe(run, kind)

    def _start_container(self, run: ContainerRun) -> None:
        assert self._network is not None  # noqa: S101 containers start after the network
        try:
            process = self._parts.start(run.spec, self._network)
        except NotYetError as missing:
            run.lack(str(missing), self._now())
        except StartError as error:
            run.refuse(str(error), self._now())
            self._log.warning("container not started", container=run.spec.name, reason=str(error))
        else:
            run.begin(process, self._now())

    def _probe(self, run: ContainerRun, kind: ProbeType) -> None:
        gauge, process = run.gauges[kind], run.process
        assert process is not None  # noqa: S101 only running containers have probes due
        gauge.busy = True
        address = self._network.address if self._network is not None else ""

        def look() -> None:
            answer = self._parts.ask(gauge.probe, run.spec, process=process, address=address)
            self.tell(Probed(process=process, kind=kind, answer=answer))

        self._machine.pool.submit(look)

    def _run_of(self, process: Running) -> ContainerRun | None:
        """The container that runs as this very process, not as an earlier one."""
        for run in self._runs:
            live = run.process
            if live is not None and (live.pid, live.ticks) == (process.pid, process.ticks):
                return run
        return None

    # Status

    def _write_status(self) -> None:
        """The Pod object tells how the Pod is."""
        status = pod_status(
            self._runs,
            address=self._network.address if self._network is not None else "",
            host_address=self._machine.network.host_address,
            before=self._status,
        )
        if status == self._status:
            return
        if is_ready({"status": status}) and not is_ready({"status": self._status}):
            self._log.info("pod is ready", address=status.get("podIP"))
        self._status = status
        self._machine.objects.update(self._raw_key, lambda raw: {**raw, "status": status})

    def _report_failure(self, error: Exception) -> None:
        status = {**self._status, "phase": "Pending", "reason": "Error", "message": str(error)}
        status["conditions"] = []
        self._status = status
        self._machine.objects.update(self._raw_key, lambda raw: {**raw, "status": status})

    # End

    def _await_stop(self, seconds: float) -> Stop | LetGo | None:
        deadline = self._now() + seconds
        while (left := deadline - self._now()) > 0:
            try:
                message = self._messages.get(timeout=left)
            except queue.Empty:
                break
            if isinstance(message, Stop | LetGo):
                return message
        return None

    def _end(self, stop: Stop) -> None:
        """The Pod is gone: no process, no network, no files, no object."""
        self._log.info("pod ends", graceful=stop.graceful)
        if stop.graceful:
            if stop.withdraw and is_ready({"status": self._status}):
                self._withdraw(self.key)
            address = self._network.address if self._network is not None else ""
            self._parts.end(self._runs, address=address)
        machine = self._machine
        network = self._network or machine.network.pods().get(self.key)
        if network is not None:
            machine.processes.kill_namespace(network.namespace)
        machine.network.remove_pod(self.key)
        remove_pod_objects(machine.objects, self._pod)
        machine.processes.forget_pod(self.key)
        self._log.info("pod is gone")

    def _now(self) -> float:
        return self._machine.monotonic()


def _has_done_its_part(run: ContainerRun) -> bool:
    """True when those after it may start."""
    return run.finished if run.role is Role.INIT else run.started
