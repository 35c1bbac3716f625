"""Wanted Pods ↔ running Pods: creates, injects, ends, adopts; and keeps Services in step.

One thread looks at all objects after every change and takes the next steps (``rollout``); each Pod
lives on a worker of its own. The kubelet writes Pods and Endpoints through the object store, so the
mesh sees them as it would in a cluster, and gives every Pod its sidecar by the same call as the
admission webhook (HOUSE 6, walk 1).
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from app import logs
from app.compute.declared import RawKey, Stored
from app.errors import AppError
from app.inject.decide import Skip
from app.inject.plan import Injected
from app.objects.meta import ObjectKey, ObjectKind, RawObject, Rejected
from app.standalone.machine import Machine
from app.standalone.podparts import remove_pod_objects
from app.standalone.podworker import LetGo, PodWorker, Refresh, Stop
from app.standalone.process import Exited, Running
from app.standalone.rollout import PodState, next_steps, orphans, pod_state
from app.standalone.servicetable import ServiceTable
from app.standalone.specs import WORKLOADS
from app.standalone.state import request_kill as request_kill  # noqa: PLC0414 the CLI's half
from app.standalone.state import taken_kill_requests
from app.standalone.status import timestamp
from app.standalone.workloads import Wanted, read_workload

_SOURCE = "kubelet"
_TICK_SECONDS = 1.0
_RETRY_SECONDS = 1.0
_LET_GO_SECONDS = 5.0
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
"""No vowels, so that no word appears by chance."""


class SidecarInjector(Protocol):
    """Who gives Pods their sidecars; ``controller.injector`` in truth."""

    def inject(self, pod: RawObject, *, namespace: str, dry_run: bool = False) -> Injected | Skip:
        """The Pod with its sidecar, or why it has none; raises ``InjectionError``."""
        ...


class Kubelet:
    """Runs the Pods of one machine. Methods may be called from any thread."""

    def __init__(
        self,
        machine: Machine,
        *,
        state_dir: Path,
        propagate: Callable[[], None],
    ) -> None:
        """``propagate`` blocks until proxies know who left Endpoints, or for some seconds."""
        self._machine = machine
        self._objects = machine.objects
        self._state_dir = state_dir
        self._propagate = propagate
        self._injector: SidecarInjector | None = None
        self._services = ServiceTable(machine, state_dir)
        self._lock = threading.Lock()
        self._workers: dict[ObjectKey, PodWorker] = {}
        self._changed = threading.Event()
        self._stopping = threading.Event()
        self._content: dict[RawKey, RawObject] = {}
        self._log = logs.logger(_SOURCE)
        self._thread = threading.Thread(target=self._run, name=_SOURCE, daemon=True)

    # Life

    def adopt(self, running: Sequence[Running]) -> None:
        """Pods of an earlier process live on; what is left of Pods without processes is gone.

        Before ``start``, and before proxies are let in: they must find their Pods as they were.
        """
        alive: dict[ObjectKey, list[Running]] = {}
        for process in running:
            alive.setdefault(process.pod, []).append(process)
        for stored in self._objects.objects("Pod"):
            key = _pod_key(stored.raw)
            if self._lives(stored.raw, alive.get(key, ())):
                worker = self._worker(stored.raw)
                worker.start(adopted=alive.get(key, ()))
                if "deletionTimestamp" in stored.raw["metadata"]:
                    worker.tell(Stop())
            else:
                remove_pod_objects(self._objects, stored.raw)
        for key in self._machine.network.pods():
            if key not in self._workers:
                self._sweep(key)

    def start(self, injector: SidecarInjector) -> None:
        """What files declare comes to life, and follows them from now on."""
        self._injector = injector
        self._objects.subscribe(self._changed.set)
        self._changed.set()
        self._thread.start()

    def stop(self) -> None:
        """Files are not followed any more; Pods are still looked after."""
        self._stopping.set()
        self._changed.set()
        if self._thread.ident is not None:
            self._thread.join()

    def end_all(self, timeout_seconds: float) -> None:
        """Every Pod has ended gracefully, or the time is over. After ``stop``."""
        workers = self._all_workers()
        for worker in workers:
            worker.tell(Stop(withdraw=False))
        deadline = self._machine.monotonic() + timeout_seconds
        for worker in workers:
            worker.join(max(0.0, deadline - self._machine.monotonic()))

    def let_go(self) -> None:
        """Nothing is started, ended or probed any more; Pods live on. After ``stop``."""
        for worker in self._all_workers():
            worker.tell(LetGo())
            worker.join(_LET_GO_SECONDS)

    def take_exit(self, exited: Exited) -> None:
        """A process has ended; its Pod's worker is told."""
        with self._lock:
            worker = self._workers.get(exited.process.pod)
        if worker is not None:
            worker.tell(exited)

    def kill(self, pod: ObjectKey, *, graceful: bool = False) -> bool:
        """The Pod ends, at once unless gracefully.

        False when there is none. Its workload makes a new one.
        """
        with self._lock:
            worker = self._workers.get(pod)
        if worker is None:
            return False
        self._mark_ending(pod)
        self._services.sync()
        worker.tell(Stop(graceful=graceful))
        return True

    # Turning

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._changed.wait(_TICK_SECONDS)
            self._changed.clear()
            if self._stopping.is_set():
                return
            try:
                self._turn()
            except Exception as error:  # one bad turn must not end the kubelet
                code = getattr(error, "code", AppError.code)
                self._log.exception("a turn of the kubelet failed", error_code=code)
                self._stopping.wait(_RETRY_SECONDS)

    def _turn(self) -> None:
        self._take_kill_requests()
        self._services.sync()
        self._refresh_volumes()
        wanted = self._wanted()
        states = [pod_state(stored.raw) for stored in self._objects.objects("Pod")]
        for key in orphans(states, [one for one, _ in wanted]):
            self._remove(key)
        problems: list[Rejected] = []
        for one, stored in wanted:
            try:
                problems += self._step(one, stored, states)
            except Exception as error:  # one workload must not keep the others from running
                code = getattr(error, "code", AppError.code)
                self._log.exception("workload failed", workload=str(one.key), error_code=code)
                problems.append(Rejected(where=stored.where, reason=str(error), code=code))
                self._retry_soon()
        self._objects.report(_SOURCE, tuple(sorted(problems)))
        self._machine.processes.bound_logs()

    def _wanted(self) -> list[tuple[Wanted, Stored]]:
        declared = self._objects.declared(*WORKLOADS)
        return [(read_workload(s.raw, str(Path(s.where).absolute().parent)), s) for s in declared]

    def _step(self, wanted: Wanted, stored: Stored, states: Sequence[PodState]) -> list[Rejected]:
        """The next step of one workload is taken; what keeps it from being taken is told."""
        own = [state for state in states if state.workload == str(wanted.key)]
        steps = next_steps(wanted, own, _suffix)
        for key in steps.remove:
            self._remove(key)
        if not steps.create:
            return []
        problem = self._missing_account(wanted, stored)
        for pod in steps.create if problem is None else ():
            problem = self._create(pod, stored)
            if problem is not None:
                break
        return [] if problem is None else [problem]

    def _missing_account(self, wanted: Wanted, stored: Stored) -> Rejected | None:
        name = wanted.template["spec"].get("serviceAccountName") or "default"
        key = RawKey(kind="ServiceAccount", namespace=wanted.key.namespace, name=name)
        if name == "default" or self._objects.find(key) is not None:
            return None
        path = "spec" if wanted.key.kind == "Pod" else "spec.template.spec"
        field = f"{path}.serviceAccountName"
        reason = f"there is no {key}; declare it, no Pod is started before"
        return Rejected(where=stored.where_of(field), field=field, reason=reason, code="E3002")

    def _create(self, pod: RawObject, owner: Stored) -> Rejected | None:
        """The Pod exists and comes to life, with a sidecar if it is to have one."""
        assert self._injector is not None  # noqa: S101 the kubelet was started with one
        try:
            outcome = self._injector.inject(pod, namespace=pod["metadata"]["namespace"])
        except AppError as error:
            self._retry_soon()
            return Rejected(where=owner.where, reason=str(error), code=error.code)
        made = pod if isinstance(outcome, Skip) else outcome.pod
        self._objects.create(made)
        stored = self._objects.find(RawKey.of(made))
        assert stored is not None  # noqa: S101 just created
        self._log.info("pod created", pod=_pod_key(made).path, sidecar=made is not pod)
        self._worker(stored.raw).start()
        return None

    def _remove(self, key: RawKey) -> None:
        pod = ObjectKey(kind=ObjectKind.POD, namespace=key.namespace, name=key.name)
        self._mark_ending(pod)
        with self._lock:
            worker = self._workers.get(pod)
        if worker is not None:
            worker.tell(Stop())
        else:
            self._sweep(pod)

    def _retry_soon(self) -> None:
        timer = threading.Timer(_RETRY_SECONDS, self._changed.set)
        timer.daemon = True
        timer.start()

    def _mark_ending(self, pod: ObjectKey) -> None:
        def mark(raw: RawObject) -> RawObject | None:
            if "deletionTimestamp" in raw["metadata"]:
                return None
            return {**raw, "metadata": {**raw["metadata"], "deletionTimestamp": timestamp()}}

        self._objects.update(RawKey(kind="Pod", namespace=pod.namespace, name=pod.name), mark)

    def _refresh_volumes(self) -> None:
        """Workers hear of a ConfigMap or Secret that changed."""
        found = {stored.key: stored.raw for stored in self._objects.objects("ConfigMap", "Secret")}
        namespaces = {
            key.namespace
            for key in {*found, *self._content}
            if found.get(key) is not self._content.get(key)
        }
        self._content = found
        for worker in self._all_workers():
            if worker.key.namespace in namespaces:
                worker.tell(Refresh())

    def _take_kill_requests(self) -> None:
        """``osm standalone kill`` leaves a file per request: it works without any open port."""
        for pod, graceful in taken_kill_requests(self._state_dir):
            self.kill(pod, graceful=graceful)

    # Pods

    def _worker(self, pod: RawObject) -> PodWorker:
        worker = PodWorker(pod, self._machine, withdraw=self._withdraw, gone=self._forget)
        with self._lock:
            self._workers[worker.key] = worker
        return worker

    def _all_workers(self) -> list[PodWorker]:
        with self._lock:
            return list(self._workers.values())

    def _withdraw(self, pod: ObjectKey) -> None:
        """Nobody new calls the Pod: it is in no Endpoints, and proxies know."""
        stored = self._objects.find(RawKey(kind="Pod", namespace=pod.namespace, name=pod.name))
        self._services.sync()
        if stored is not None and (stored.raw.get("status") or {}).get("podIP"):
            self._propagate()

    def _forget(self, pod: ObjectKey) -> None:
        with self._lock:
            self._workers.pop(pod, None)
        self._changed.set()

    def _lives(self, pod: RawObject, processes: Sequence[Running]) -> bool:
        """True for a Pod that ran or had finished; one that was only starting is started anew."""
        phase = (pod.get("status") or {}).get("phase")
        if phase in ("Succeeded", "Failed"):
            return True
        return (
            phase == "Running" and bool(processes) and _pod_key(pod) in self._machine.network.pods()
        )

    def _sweep(self, pod: ObjectKey) -> None:
        """Nothing of a Pod without a worker is left."""
        network = self._machine.network.pods().get(pod)
        if network is not None:
            self._machine.processes.kill_namespace(network.namespace)
        self._machine.network.remove_pod(pod)
        self._machine.processes.forget_pod(pod)
        self._objects.delete(pod)


def _pod_key(pod: RawObject) -> ObjectKey:
    metadata = pod["metadata"]
    return ObjectKey(kind=ObjectKind.POD, namespace=metadata["namespace"], name=metadata["name"])


def _suffix() -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(5))
