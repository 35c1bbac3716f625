"""What a Pod's worker does to its containers: start one, ask it, write the volumes, end them all.

Each call blocks and holds no state of its own; the worker decides when. The end goes in the order
of Kubernetes: hooks and SIGTERM for the applications, all at once, then the sidecars one by one
from the last to the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, wait
from pathlib import Path

from app.compute.declared import RawKey
from app.compute.local import LocalObjects
from app.inject.secret import bootstrap_key
from app.objects.meta import PROXY_UUID_LABEL, ObjectKey, ObjectKind, RawObject
from app.standalone.containers import ContainerRun, Role
from app.standalone.launch import Surroundings, program_of
from app.standalone.machine import Machine
from app.standalone.network import PodNetwork
from app.standalone.podvolumes import lookup_in, write_volumes
from app.standalone.probes import Answer, ask
from app.standalone.process import Place, Running
from app.standalone.specs import Action, Container, PodSpec, Probe
from app.standalone.workloads import FOLDER_ANNOTATION

_SHORTEST_GRACE = 2.0
"""What a sidecar gets to end by itself when the applications have used up the grace period."""

_LONGEST_HOSTNAME = 63
"""What the kernel takes; Kubernetes shortens longer Pod names likewise."""


class PodParts:
    """The containers of one Pod, as the machine sees them."""

    def __init__(self, key: ObjectKey, spec: PodSpec, machine: Machine) -> None:
        self._key = key
        self._raw_key = RawKey(kind="Pod", namespace=key.namespace, name=key.name)
        self._spec = spec
        self._machine = machine
        self._lookup = lookup_in(machine.objects, key.namespace)

    def start(self, container: Container, network: PodNetwork) -> Running:
        """The container runs; raises ``NotYetError`` and ``StartError``."""
        program = program_of(container, self._spec, self._surroundings(self.write_volumes()))
        return self._machine.processes.start(self._place(network), program)

    def write_volumes(self) -> dict[str, Path]:
        """The volumes hold what their objects say now; raises ``NotYetError``."""
        return write_volumes(
            self._spec,
            self._machine.pod_folder(self._key) / "volumes",
            lookup=self._lookup,
            default_user=self._machine.default_user,
        )

    def ask(
        self,
        action: Action,
        container: Container,
        *,
        process: Running,
        address: str,
        timeout_seconds: float | None = None,
    ) -> Answer:
        """The answer of a probe or hook."""
        own = float(action.timeout_seconds) if isinstance(action, Probe) else 1.0
        return ask(
            action,
            container,
            address=address,
            timeout_seconds=own if timeout_seconds is None else timeout_seconds,
            beside=lambda argv: self._machine.processes.attach_argv(process, argv),
        )

    def end(self, runs: Sequence[ContainerRun], *, address: str) -> None:
        """No container runs any more; within the grace period and a little more for sidecars."""
        deadline = self._now() + self._spec.termination_grace_period_seconds
        apps = [(run, run.process) for run in runs if run.role is not Role.SIDECAR]
        ends: list[Future[None]] = [
            self._machine.pool.submit(self._end_app, run, process, address, deadline)
            for run, process in apps
            if process is not None
        ]
        wait(ends)
        for run in reversed([run for run in runs if run.role is Role.SIDECAR]):
            if run.process is not None:
                grace = max(_SHORTEST_GRACE, deadline - self._now())
                self._machine.processes.stop(run.process, grace)

    def stop(self, process: Running) -> None:
        """The process ends within the grace period; returns at once."""
        grace = float(self._spec.termination_grace_period_seconds)
        self._machine.pool.submit(self._machine.processes.stop, process, grace)

    def _end_app(self, run: ContainerRun, process: Running, address: str, deadline: float) -> None:
        hook = run.spec.lifecycle.pre_stop
        if hook is not None:
            left = max(1.0, deadline - self._now())
            self.ask(hook, run.spec, process=process, address=address, timeout_seconds=left)
        self._machine.processes.stop(process, max(0.0, deadline - self._now()))

    def _surroundings(self, volumes: dict[str, Path]) -> Surroundings:
        machine = self._machine
        stored = machine.objects.find(self._raw_key)
        pod: RawObject = (
            stored.raw if stored is not None else {"metadata": {"name": self._key.name}}
        )
        annotations = pod["metadata"].get("annotations") or {}
        return Surroundings(
            pod=pod,
            host_address=machine.network.host_address,
            node_name=machine.node_name,
            lookup=self._lookup,
            volumes=volumes,
            default_user=machine.default_user,
            default_folder=annotations.get(FOLDER_ANNOTATION) or "/",
            binaries=machine.binaries,
        )

    def _place(self, network: PodNetwork) -> Place:
        suffix, namespace = self._machine.dns_suffix, self._key.namespace
        return Place(
            pod=self._key,
            namespace=network.namespace,
            address=network.address,
            hostname=(self._spec.hostname or self._key.name)[:_LONGEST_HOSTNAME],
            nameserver=self._machine.network.dns_address,
            search=(f"{namespace}.svc.{suffix}", f"svc.{suffix}", suffix),
            host_aliases=tuple(
                (alias.ip, name) for alias in self._spec.host_aliases for name in alias.hostnames
            ),
        )

    def _now(self) -> float:
        return self._machine.monotonic()


def remove_pod_objects(objects: LocalObjects, pod: RawObject) -> None:
    """The Pod's object is gone, and the Secret its sidecar started from."""
    metadata = pod["metadata"]
    namespace, uuid = metadata["namespace"], (metadata.get("labels") or {}).get(PROXY_UUID_LABEL)
    objects.delete(ObjectKey(kind=ObjectKind.POD, namespace=namespace, name=metadata["name"]))
    if uuid:
        objects.delete(bootstrap_key(namespace, uuid))
