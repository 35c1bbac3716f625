"""One pod without a controller: a network namespace, a real Envoy fed by hand, servers and clients.

Whatever a client inside dials in 10.77.0.0/24 is redirected by iptables to one of the sidecar's
listeners, with the original destination kept; only Envoy itself (uid 1500) gets out.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from envoy_harness.feeder import AdsFeeder
from envoy_harness.netns import Namespace, namespace
from envoy_harness.process import RealEnvoy

from xds.resource import Resource, ResourceKind

NETWORK = "10.77.0"
ENVOY_UID = "1500"
PATIENCE_SECONDS = 5.0
AS_ENVOY = ["setpriv", "--reuid", ENVOY_UID, "--regid", ENVOY_UID, "--clear-groups"]

Answer = Callable[[socket.socket], None]


def say(connection: socket.socket, text: bytes) -> None:
    """The peer has the text and the end; what it sends is read, or closing would reset it all."""
    connection.sendall(text)
    connection.shutdown(socket.SHUT_WR)
    with contextlib.suppress(OSError):
        while connection.recv(4096):
            pass


class Pod:
    """What a test does inside the pod."""

    def __init__(self, inner: Namespace, envoy: RealEnvoy, feeder: AdsFeeder) -> None:
        self.inner = inner
        self.envoy = envoy
        self.feeder = feeder
        self._servers: list[socket.socket] = []

    def feed(self, resources: Iterable[Resource]) -> None:
        """Envoy has taken the resources, and its listeners and clusters are warm."""
        wanted = list(resources)
        self.feeder.feed(wanted)
        kinds = {r.kind for r in wanted} & {ResourceKind.LDS, ResourceKind.CDS}
        assert self.feeder.settled(kinds) == []
        listeners = sum(1 for r in wanted if r.kind is ResourceKind.LDS)
        self.envoy.await_stats(
            "listener_manager",
            {
                "listener_manager.total_listeners_active": listeners,
                "listener_manager.total_listeners_warming": 0,
            },
        )
        self.envoy.await_stats("cluster_manager", {"cluster_manager.warming_clusters": 0})

    def serve(self, address: str, port: int, answer: Answer) -> None:
        """A server inside the pod; ``answer`` is called for each connection, in a thread."""

        def listen() -> socket.socket:
            return socket.create_server((address, port))

        server = self.inner.call(listen)
        self._servers.append(server)
        threading.Thread(target=_accept, args=(server, answer), daemon=True).start()

    def own_address(self, address: str) -> None:
        """The address is the pod's own: Envoy reaches servers there without the redirect."""
        self.inner.run("ip", "address", "add", f"{address}/32", "dev", "lo")

    def dial(self, address: str, port: int) -> socket.socket:
        """An open connection of an application in the pod."""

        def connect() -> socket.socket:
            return socket.create_connection((address, port), timeout=PATIENCE_SECONDS)

        return self.inner.call(connect)

    def close(self) -> None:
        for server in self._servers:
            server.close()


@contextlib.contextmanager
def pod(*, captured_by: int) -> Iterator[Pod]:
    """A pod whose applications' connections go to the listener on this port."""
    # Not under tmp_path, which only root may read: Envoy runs as uid 1500.
    with namespace() as inner, tempfile.TemporaryDirectory(prefix="osmtest-") as directory:
        inner.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "away")
        inner.run("ip", "address", "add", f"{NETWORK}.1/24", "dev", "eth0")
        for link in ("away", "eth0"):
            inner.run("ip", "link", "set", link, "up")
        inner.run(
            "iptables", "-t", "nat", "-A", "OUTPUT", "-p", "tcp", "-d", f"{NETWORK}.0/24",
            "-m", "owner", "!", "--uid-owner", ENVOY_UID,
            "-j", "REDIRECT", "--to-ports", str(captured_by),
        )  # fmt: skip
        envoy = RealEnvoy(Path(directory), prefix=[*inner.prefix, *AS_ENVOY])
        with AdsFeeder(envoy.ads_socket) as feeder, envoy:
            running = Pod(inner, envoy, feeder)
            try:
                yield running
            finally:
                running.close()


def greet(text: bytes) -> Answer:
    """A server that talks first and then only listens until the client has gone."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)
        everything(connection)  # closing with unread input would reset, and lose the greeting

    return answer


def everything(connection: socket.socket) -> bytes:
    """All that the other side sends until it closes; a reset or a TLS alert ends it as well."""
    received = b""
    with contextlib.suppress(ConnectionResetError, ssl.SSLError):
        while piece := connection.recv(65536):
            received += piece
    return received


def _accept(server: socket.socket, answer: Answer) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return  # closed at the end of the test
        # A thread each: Envoy keeps connections of several clusters open at a time.
        threading.Thread(target=_answer, args=(connection, answer), daemon=True).start()


def _answer(connection: socket.socket, answer: Answer) -> None:
    with contextlib.suppress(OSError), connection:
        answer(connection)
