"""An injected Pod for real: a namespace with the redirect rules and Envoy as uid 1500 in it.

The start-up files are those of the plan. The control plane is the product's own server with an
empty configuration; the Pod reaches it over a veth to the namespace of its node.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from envoy_harness.netns import Namespace, namespace
from envoy_harness.process import envoy_path
from injections import FQDN, UUID, options, wanted
from relay import Relay

from app.certs.x509 import SigningRoot, new_root
from app.inject.plan import NewSidecar, Plan, plan
from app.inject.secret import Credentials, renewal, secret_files
from app.objects.config import MeshConfigSpec
from app.objects.meta import RawObject
from app.ports import CertificateRequest, IssuedCertificate
from xds.policy.bootstrap import AdsServer
from xds.policy.identity import Issuers, ProxyId, ServiceIdentity
from xds.policy.proxy import TrustBundle
from xds.resource import ResourceKind, ResourceSet
from xds.server.hub import Hub
from xds.server.ports import Admission, ServerIdentity, StreamInfo
from xds.server.serve import AdsServer as GrpcServer

POD_IP, NODE_IP, ADS_PORT = "10.77.0.1", "10.77.0.2", 15128
ADS_NAME = "ads.cluster.local"
IDENTITY = ServiceIdentity(namespace="shop", service_account="default")
DEADLINE_SECONDS = 20.0
_ENVOY_USER = 1500

Answer = tuple[int, str]


class ControlPlane:
    """The real ADS server; every proxy may connect and is configured with nothing."""

    def __init__(self, server_name: str = ADS_NAME) -> None:
        now = datetime.now(UTC)
        self.root = SigningRoot.parse(new_root(now=now), now=now, where="test")
        self.proxies: list[ProxyId] = []
        pair = self.issue(server_name).key_pair
        self._identity = ServerIdentity(
            certificate_chain=pair.certificate_chain,
            private_key=pair.private_key,
            roots=self.root.certificate_pem,
        )
        self._server = GrpcServer(Hub(self, self), self, host="127.0.0.1", port=0, pool_size=8)

    def __enter__(self) -> Self:
        self.port = self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0)

    def issue(self, name: str) -> IssuedCertificate:
        request = CertificateRequest(
            common_name=None, dns_names=(name,), lifetime=timedelta(hours=1)
        )
        return self.root.issue(request, now=datetime.now(UTC))

    def credentials(self) -> Credentials:
        issued = self.issue(f"{ProxyId(uuid=UUID, identity=IDENTITY)}.cluster.local")
        return Credentials(
            key_pair=issued.key_pair,
            trust=TrustBundle(roots=self.root.certificate_pem),
            expires=issued.not_after,
            signing_issuer_id="i",
            validating_issuer_id="i",
        )

    def server_identity(self) -> ServerIdentity:
        return self._identity

    def issuers(self) -> Issuers:
        return Issuers()

    def admit(self, _: ProxyId) -> Admission:
        return Admission.ADMITTED

    def current(self, _: ProxyId) -> ResourceSet:
        return ResourceSet(())

    def max_connections(self) -> int:
        return 0

    def connected(self, stream: StreamInfo) -> None:
        self.proxies.append(stream.proxy)

    def gone(self, stream: StreamInfo) -> None: ...

    def refused(self, peer: str, reason: str, code: str) -> None: ...

    def requested(self, stream: StreamInfo, kind: ResourceKind) -> None: ...

    def sent(self, stream: StreamInfo, kind: ResourceKind, size_bytes: int) -> None: ...

    def acked(self, stream: StreamInfo, kind: ResourceKind, version: str) -> None: ...

    def nacked(self, stream: StreamInfo, kind: ResourceKind, version: str, detail: str) -> None: ...


class Sidecar:
    """A running Envoy with its rules; ``pod`` and ``node`` are the two namespaces."""

    def __init__(self, pod: Namespace, node: Namespace, files: Path, log: Path) -> None:
        self.pod, self.node, self._files, self._log = pod, node, files, log

    def ask(self, path: str, port: int = 15902) -> Answer:
        """What the kubelet gets; ``OSError`` where the port is closed."""
        return self.node.call(lambda: _get(POD_IP, port, path))

    def admin(self, path: str, method: str = "GET") -> Answer:
        """What a process in the Pod gets from Envoy's admin."""
        return self.pod.call(lambda: _get("127.0.0.1", 15000, path, method))

    def listen(self, host: str, port: int) -> socket.socket:
        """A listening socket in the Pod."""
        return self.pod.call(lambda: socket.create_server((host, port)))

    def await_answer(self, path: str, answer: Answer, port: int = 15902) -> None:
        """The answer is the one expected, at the latest at the deadline."""
        last: object = None

        def seen() -> bool:
            nonlocal last
            try:
                last = self.ask(path, port)
            except OSError as error:
                last = error
            return last == answer

        assert wait_until(seen), f"{path}: {last!r}\n{self._log.read_text()[-3000:]}"

    def renew(self, credentials: Credentials) -> None:
        """The Secret's files change at once, as the kubelet changes them."""
        new = secret_files(renewal(credentials))
        publish(self._files, {**_read(self._files), **new})


def wait_until(condition: Callable[[], bool]) -> bool:
    """True as soon as the condition is, False at the deadline."""
    deadline, pause = time.monotonic() + DEADLINE_SECONDS, threading.Event()
    while time.monotonic() < deadline:
        if condition():
            return True
        pause.wait(0.05)
    return False


@contextlib.contextmanager
def running(
    raw: RawObject, control: ControlPlane, config: RawObject | None = None, *, native: bool = True
) -> Iterator[Sidecar]:
    """The Pod's sidecar; it may not be ready yet."""
    planned = plan(
        raw,
        wanted(raw),
        sidecar=NewSidecar(uuid=UUID, credentials=control.credentials()),
        config=MeshConfigSpec.model_validate(config or {}),
        options=options(
            native=native,
            ads=AdsServer(
                host=NODE_IP, port=ADS_PORT, server_name=FQDN, certificate_names=(ADS_NAME,)
            ),
        ),
    )
    with contextlib.ExitStack() as stack:
        pod, node = stack.enter_context(namespace()), stack.enter_context(namespace())
        _connect(pod, node)
        relay = Relay(
            node.call(lambda: socket.create_server((NODE_IP, ADS_PORT))),
            lambda: socket.create_connection(("127.0.0.1", control.port)),
        )
        stack.callback(relay.close)
        _redirect(planned, pod)
        directory = Path(tempfile.mkdtemp(prefix="osm-sidecar-"))
        stack.callback(shutil.rmtree, directory)
        directory.chmod(0o755)
        stack.callback(_stop, process := _start(planned, pod, directory))
        yield Sidecar(pod, node, directory / "etc", directory / "log")
        assert process.poll() is None, (directory / "log").read_text()[-3000:]


def _connect(pod: Namespace, node: Namespace) -> None:
    node.run("ip", "link", "add", "pod", "type", "veth", "peer", "name", "eth0", "netns", pod.name)
    for inside, link, address in ((pod, "eth0", POD_IP), (node, "pod", NODE_IP)):
        inside.run("ip", "address", "add", f"{address}/24", "dev", link)
        inside.run("ip", "link", "set", link, "up")


def _redirect(planned: Plan, pod: Namespace) -> None:
    init = next(c for c in planned.pod["spec"]["initContainers"] if c["name"] == "osm-init")
    pod.run("env", f"POD_IP={POD_IP}", *init["command"], *init["args"])


def _start(planned: Plan, pod: Namespace, directory: Path) -> subprocess.Popen[bytes]:
    files = directory / "etc"
    files.mkdir()
    publish(files, secret_files(planned.secret))
    spec = planned.pod["spec"]
    every = [*spec["initContainers"], *spec["containers"]]
    envoy = next(container for container in every if container["name"] == "envoy")
    user = ["setpriv", f"--reuid={_ENVOY_USER}", f"--regid={_ENVOY_USER}", "--clear-groups"]
    given = [argument.replace("/etc/envoy", str(files)) for argument in envoy["args"]]
    command = [*pod.prefix, *user, str(_readable_envoy(directory)), *given]
    with (directory / "log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=directory)


def _readable_envoy(directory: Path) -> Path:
    """The binary where another user may run it; the checkout may be closed to others."""
    link = directory / "envoy"
    shutil.copy(envoy_path(), link)
    link.chmod(0o755)
    return link


def publish(directory: Path, files: dict[str, bytes]) -> None:
    """The directory shows these files from one moment on: a link to a new directory is moved."""
    new = Path(tempfile.mkdtemp(prefix="..", dir=directory))
    new.chmod(0o755)
    for name, content in files.items():
        (new / name).write_bytes(content.replace(b"/etc/envoy", bytes(directory)))
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(Path("..data") / name)
    (directory / "..new").symlink_to(new.name)
    os.replace(directory / "..new", directory / "..data")  # noqa: PTH105 moves the link itself


def _read(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (directory / "..data").iterdir()}


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _get(host: str, port: int, path: str, method: str = "GET") -> Answer:
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()
