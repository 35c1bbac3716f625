"""A node of its own for one test: Pods, containers run to their end, sockets inside and outside."""

from __future__ import annotations

import contextlib
import queue
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from app.objects.meta import ObjectKey, ObjectKind
from app.standalone import container_logs, namespaces
from app.standalone.network import Node, PodNetwork, tear_down
from app.standalone.process import Exited, Place, Processes, Program, Running

NOBODY = 65534
SECONDS = 20.0


def pod_key(name: str) -> ObjectKey:
    return ObjectKey(kind=ObjectKind.POD, namespace="shop", name=name)


def service_key(name: str) -> ObjectKey:
    return ObjectKey(kind=ObjectKind.SERVICE, namespace="shop", name=name)


@dataclass
class Machine:
    mesh: str
    state_dir: Path
    node: Node
    exits: queue.Queue[Exited] = field(default_factory=queue.Queue)

    def __post_init__(self) -> None:
        self.processes = Processes(self.state_dir, self.exits.put)

    def place(self, name: str = "web") -> Place:
        """The Pod's place; its network is there."""
        network = self.node.add_pod(pod_key(name))
        return Place(
            pod=pod_key(name),
            namespace=network.namespace,
            address=network.address,
            hostname=name,
            nameserver=self.node.dns_address,
            search=("shop.svc.cluster.local", "svc.cluster.local", "cluster.local"),
        )

    def start(self, program: Program, *, pod: str = "web") -> Running:
        return self.processes.start(self.place(pod), program)

    def run(self, program: Program, *, pod: str = "web") -> tuple[int | None, str]:
        """Exit code and output of a container that ends by itself."""
        log = container_logs.log_path(self.state_dir, pod_key(pod), program.name)
        log.unlink(missing_ok=True)
        process = self.start(program, pod=pod)
        exited = self.exits.get(timeout=SECONDS)
        assert exited.process == process
        return exited.code, log.read_text()


def shell(script: str, **fields: object) -> Program:
    """A container that runs a shell script, as nobody unless told otherwise."""
    given = {"name": "app", "uid": NOBODY, "gid": NOBODY, **fields}
    return Program(argv=("/bin/sh", "-c", script), **given)  # type: ignore[arg-type]


def python(script: str, **fields: object) -> Program:
    given = {"name": "app", "uid": NOBODY, "gid": NOBODY, **fields}
    return Program(argv=("python3", "-I", "-S", "-c", script), **given)  # type: ignore[arg-type]


@contextmanager
def machine(state_dir: Path) -> Iterator[Machine]:
    """A node under a name of its own; nothing of it is left afterwards."""
    mesh = f"t{uuid.uuid4().hex[:8]}"
    try:
        made = Machine(mesh=mesh, state_dir=state_dir, node=Node.up(mesh, state_dir))
        try:
            yield made
        finally:
            made.processes.close()
    finally:
        tear_down(mesh, state_dir)


class Server:
    """A TCP server inside a namespace that says its name to everybody, from this process."""

    def __init__(self, network: PodNetwork, port: int, name: str) -> None:
        def listen() -> socket.socket:
            return socket.create_server(("", port), backlog=64)

        self._listener = namespaces.inside(network.namespace, listen)
        self._name = name
        self.clients: list[str] = []

    def serve_one(self) -> None:
        self._listener.settimeout(SECONDS)
        connection, (address, _) = self._listener.accept()
        self.clients.append(address)
        with connection:
            connection.sendall(self._name.encode())

    def close(self) -> None:
        with contextlib.suppress(OSError):  # nobody waits in it any more
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def dial(address: str, port: int, *, inside: str | None = None) -> socket.socket:
    """A connection made in the namespace, or from the host."""

    def connect() -> socket.socket:
        return socket.create_connection((address, port), timeout=SECONDS)

    return namespaces.inside(inside, connect) if inside else connect()
