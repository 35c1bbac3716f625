"""A machine without a kernel: networks are addresses, processes are entries of a table.

``FakeProcesses`` ends processes as told: init containers by themselves with code 0, all others on
``stop`` or ``crash``. Everything that happens is noted in ``story``, in order.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.errors import InjectionError, StartError
from app.inject.decide import Skip
from app.inject.plan import Injected
from app.objects.meta import ObjectKey, RawObject
from app.standalone.nat import ServiceForward
from app.standalone.network import PodNetwork
from app.standalone.process import Exited, Place, Program, Running


class FakeNetwork:
    """Every Pod lives on loopback."""

    host_address = "10.1.0.1"
    dns_address = "10.2.0.1"

    def __init__(self) -> None:
        self.known: dict[ObjectKey, PodNetwork] = {}
        self.forwards: tuple[ServiceForward, ...] = ()
        self.released: list[str] = []
        self.refusal: Exception | None = None
        """Why no Pod gets a network now."""

    def add_pod(self, pod: ObjectKey) -> PodNetwork:
        if self.refusal is not None:
            raise self.refusal
        network = PodNetwork(namespace=f"ns-{pod.name}", address="127.0.0.1")
        self.known[pod] = network
        return network

    def remove_pod(self, pod: ObjectKey) -> None:
        self.known.pop(pod, None)

    def pods(self) -> dict[ObjectKey, PodNetwork]:
        return dict(self.known)

    def release_service_address(self, service: ObjectKey) -> None:
        self.released.append(service.path)

    def forward(self, services: Iterable[ServiceForward]) -> None:
        self.forwards = tuple(services)


class FakeProcesses:
    """The table of processes; ``on_exit`` hears of ends as the real one tells them."""

    def __init__(self) -> None:
        self.on_exit: Callable[[Exited], None] = lambda _: None
        self.story: list[str] = []
        self.programs: dict[str, Program] = {}
        self.refused: set[str] = set()
        """Names of containers that cannot be started."""
        self._live: dict[int, Running] = {}
        self._pids = itertools.count(1000)
        self._changed = threading.Condition()

    def live(self) -> list[Running]:
        with self._changed:
            return list(self._live.values())

    def start(self, place: Place, program: Program) -> Running:
        if program.name in self.refused:
            raise StartError(f"program {program.argv[0]} is not there")
        process = Running(
            pod=place.pod,
            container=program.name,
            pid=next(self._pids),
            ticks=1,
            started=datetime(2026, 1, 1, tzinfo=UTC),
            log=Path("/dev/null"),
            namespace=place.namespace,
        )
        with self._changed:
            self._live[process.pid] = process
            self.programs[program.name] = program
            self._note(f"start {program.name}")
        if program.name.startswith("init"):
            self.end(process, int(program.argv[-1]) if program.argv[-1].isdigit() else 0)
        return process

    def stop(self, process: Running, grace_seconds: float) -> None:  # noqa: ARG002
        self._note(f"stop {process.container}")
        self.end(process, 143)

    def end(self, process: Running, code: int) -> None:
        with self._changed:
            if self._live.pop(process.pid, None) is None:
                return
            self._changed.notify_all()
        self.on_exit(Exited(process=process, code=code, at=datetime.now(UTC)))

    def crash(self, container: str, code: int = 1) -> None:
        """All processes of that container end."""
        for process in self.live():
            if process.container == container:
                self.end(process, code)

    def kill_namespace(self, namespace: str) -> None:
        for process in self.live():
            if process.namespace == namespace:
                self._note(f"kill {process.container}")
                self.end(process, 137)

    def forget_pod(self, pod: ObjectKey) -> None:
        self._note(f"forget {pod.name}")

    def attach_argv(self, process: Running, argv: tuple[str, ...]) -> tuple[str, ...]:  # noqa: ARG002
        return argv

    def bound_logs(self) -> None:
        """Nothing is written."""

    def tell(self, line: str) -> None:
        """The line stands in the story."""
        self._note(line)

    def wait(self, fits: Callable[[], bool], seconds: float = 15.0) -> None:
        """Returns once it holds; looks after every event."""
        with self._changed:
            for _ in range(int(seconds * 50)):
                if fits():
                    return
                self._changed.wait(0.02)
        raise AssertionError(self.story)

    def _note(self, line: str) -> None:
        with self._changed:
            self.story.append(line)
            self._changed.notify_all()


class FakeInjector:
    """Adds a sidecar ``envoy`` after an init container ``init-osm``, as native injection does."""

    def __init__(self, *, sidecars: bool = True) -> None:
        self.sidecars = sidecars
        self.refusal = ""

    def inject(self, pod: RawObject, *, namespace: str, dry_run: bool = False) -> Injected | Skip:  # noqa: ARG002
        if self.refusal:
            raise InjectionError(self.refusal)
        if not self.sidecars:
            return Skip(reason="not wanted")
        added: list[dict[str, Any]] = [
            {"name": "init-osm", "command": ["sh"]},
            {"name": "envoy", "command": ["envoy"], "restartPolicy": "Always"},
        ]
        spec = {**pod["spec"], "initContainers": [*pod["spec"].get("initContainers", []), *added]}
        return Injected(pod={**pod, "spec": spec}, patch=[])
