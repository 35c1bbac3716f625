"""What the kubelet and its Pod workers stand on, as small Protocols.

Network, processes, objects and the time: ``cluster`` fills in the real parts, tests use fakes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from app.compute.local import LocalObjects
from app.objects.meta import ObjectKey
from app.standalone.launch import User
from app.standalone.nat import ServiceForward
from app.standalone.network import PodNetwork
from app.standalone.process import Place, Program, Running


class Network(Protocol):
    """The node's network; ``network.Node`` in truth."""

    host_address: str
    dns_address: str

    def add_pod(self, pod: ObjectKey) -> PodNetwork:
        """The Pod has a network; the one it has already, if so."""
        ...

    def remove_pod(self, pod: ObjectKey) -> None:
        """The Pod's network is gone, whether or not it existed."""
        ...

    def pods(self) -> dict[ObjectKey, PodNetwork]:
        """All Pods that have a network."""
        ...

    def release_service_address(self, service: ObjectKey) -> None:
        """The ClusterIP is free, whether or not there was one."""
        ...

    def forward(self, services: Iterable[ServiceForward]) -> None:
        """ClusterIPs lead to exactly these targets."""
        ...


class ProcessTable(Protocol):
    """Processes of containers; ``process.Processes`` in truth."""

    def start(self, place: Place, program: Program) -> Running:
        """The program runs; raises ``StartError``."""
        ...

    def stop(self, process: Running, grace_seconds: float) -> None:
        """The process has ended; blocks."""
        ...

    def kill_namespace(self, namespace: str) -> None:
        """No process lives in this network namespace."""
        ...

    def forget_pod(self, pod: ObjectKey) -> None:
        """Nothing of the Pod is on disk."""
        ...

    def attach_argv(self, process: Running, argv: tuple[str, ...]) -> tuple[str, ...]:
        """A command line that runs ``argv`` beside the process."""
        ...

    def bound_logs(self) -> None:
        """No log has grown beyond its bound."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One machine as its Pods see it."""

    objects: LocalObjects
    network: Network
    processes: ProcessTable
    pod_folder: Callable[[ObjectKey], Path]
    """Where a Pod's volumes and logs are kept."""
    default_user: User
    node_name: str
    dns_suffix: str
    control_plane: tuple[str, str, str]
    """Name, namespace and address of the Service that sidecars ask for configuration."""
    binaries: tuple[tuple[str, Path], ...] = ()
    pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(max_workers=32, thread_name_prefix="kubelet")
    )
    """For what blocks: probes, hooks, waiting for processes to end."""
    monotonic: Callable[[], float] = time.monotonic
