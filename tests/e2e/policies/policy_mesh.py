"""A mesh on this machine that tests apply policies to, through the command as a user does.

``apply`` writes a file and takes it away again; ``ask`` sends one HTTP request from inside a Pod,
``talk`` opens one TCP connection.
"""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from e2e.caller import eventually

from app.standalone.podlist import read_pods

OSM = (sys.executable, "-m", "app.cli.main")
HERE = Path(__file__).parent
SECONDS = 60.0
REACTION_SECONDS = 10.0
"""For policies to take effect, on a machine that does other things besides."""
CONFIG = {
    "apiVersion": "config.openservicemesh.io/v1alpha2",
    "kind": "MeshConfig",
    "metadata": {"name": "osm-mesh-config", "namespace": "osm-system"},
}
TRAFFIC = {"enablePermissiveTrafficPolicyMode": True, "enableEgress": False}

ASK = """
import http.client, json, sys
asked = json.loads(sys.argv[1])
connection = http.client.HTTPConnection(asked["host"], asked["port"], timeout=asked["timeout"])
answer = {"status": 0, "headers": {}, "body": ""}
try:
    connection.putrequest(asked["method"], asked["path"], skip_host="host" in asked["headers"])
    for name, value in asked["headers"].items():
        connection.putheader(name, value)
    connection.putheader("connection", "close")
    connection.endheaders()
    found = connection.getresponse()
    headers = {name.lower(): value for name, value in found.getheaders()}
    answer = {"status": found.status, "headers": headers, "body": found.read().decode()}
except (OSError, http.client.HTTPException) as error:
    answer["body"] = type(error).__name__
print(json.dumps(answer))
"""
TALK = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5) as connection:
        connection.sendall(b"hello\\n")
        print(connection.recv(100).decode().strip())
except OSError as error:
    print(type(error).__name__)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a client saw; status 0: no answer, ``body`` is the error's name."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""

    @property
    def seen(self) -> dict[str, Any]:
        """The request as the server of the tests saw it: method, path, headers, pod, version."""
        found: dict[str, Any] = json.loads(self.body)
        return found


@contextmanager
def pod_python() -> Iterator[list[str]]:
    """The command of a Python with the project's packages that Pods see, wherever the checkout is.

    /tmp of a Pod is its own, so packages of a checkout below it are linked where Pods see them.
    """
    packages = sysconfig.get_path("purelib")
    with tempfile.TemporaryDirectory(prefix="osm-tests-", dir="/var/lib") as folder:
        Path(folder).chmod(0o755)
        site = Path(folder, "site")
        shutil.copytree(packages, site, copy_function=_link, symlinks=True)
        python = str(Path(sys.executable).resolve())
        yield ["env", f"PYTHONPATH={site}", "PYTHONDONTWRITEBYTECODE=1", python]


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target)


class PolicyMesh:
    """One ``osm standalone up`` over a folder of its own."""

    def __init__(self, root: Path, python: list[str]) -> None:
        """``python`` is a command that Pods can run, with the project's packages."""
        self.python = python
        self.name = f"p{uuid.uuid4().hex[:8]}"
        self.folder = root / "objects"
        self.folder.mkdir()
        workloads = (HERE / "workloads.yaml").read_text().replace("MESH", self.name)
        (self.folder / "workloads.yaml").write_text(workloads)
        self.configure()
        self.api_address = ""
        self._state = root / "state"
        self._log = root / "up.log"
        self._process: subprocess.Popen[str] | None = None
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SUDO_")},
            "OSM_STATE_DIR": str(self._state),
            "OSM_MESH_NAME": self.name,
            "OSM_ADS_PORT": "0",
            "OSM_API_PORT": "0",
        }

    # Life

    def up(self) -> None:
        """Every Pod is ready and every proxy is in sync."""
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [*OSM, "standalone", "up", "-f", str(self.folder), "-o", "json"],
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        ready = select.select([self._process.stdout], [], [], SECONDS)[0]
        assert ready, self._log.read_text()[-3000:]
        said = json.loads(self._process.stdout.readline())
        self.api_address = said["api"]
        self.wait(self._is_settled, SECONDS)

    def down(self) -> None:
        """Nothing of it is left."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(SECONDS)

    # Policies

    @contextmanager
    def apply(self, text: str, name: str = "policy.yaml") -> Iterator[None]:
        """Inside, the objects of the YAML are in the mesh."""
        path = self.folder / name
        path.write_text(text)
        try:
            yield
        finally:
            path.unlink()

    def configure(self, **spec: Any) -> None:
        """The MeshConfig has these sections; those of ``traffic`` are added to the defaults."""
        traffic = {**TRAFFIC, **spec.pop("traffic", {})}
        document = {**CONFIG, "spec": {"traffic": traffic, **spec}}
        (self.folder / "config.yaml").write_text(yaml.safe_dump(document))

    @contextmanager
    def configured(self, **spec: Any) -> Iterator[None]:
        """Inside, the MeshConfig has these sections."""
        self.configure(**spec)
        try:
            yield
        finally:
            self.configure()

    # Asking

    def ask(
        self,
        client: str,
        host: str,
        path: str = "/",
        *,
        port: int = 8000,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        timeout: float = 10.0,
    ) -> Answer:
        """One request from inside the Pod of the workload ``client``."""
        asked = {
            "host": host,
            "port": port,
            "path": path,
            "method": method,
            "headers": dict(headers or {}),
            "timeout": timeout,
        }
        return Answer(**json.loads(self.exec(client, "python3", "-c", ASK, json.dumps(asked))))

    def talk(self, client: str, host: str, port: int) -> str:
        """What a TCP server answers to ``hello``; the error's name where it is not reached."""
        return self.exec(client, "python3", "-c", TALK, host, str(port)).strip()

    def exec(self, workload: str, *command: str) -> str:
        """What the command prints inside the only Pod of the workload."""
        pod = self.pod(workload)
        words = ["standalone", "exec", "-n", pod.namespace, pod.name, "--", *command]
        return self.osm(*words)

    def osm(self, *words: str) -> str:
        """What a command prints."""
        ended = subprocess.run(
            [*OSM, *words],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert ended.returncode == 0, f"{words}: {ended.stdout}{ended.stderr}"
        return ended.stdout

    def pod(self, workload: str) -> Any:
        """The only Pod of the Deployment."""
        pods = read_pods(self._state)
        (found,) = [pod for pod in pods if pod.name.rsplit("-", 2)[0] == workload]
        return found

    def has_ready(self, workload: str) -> bool:
        """True when the workload has one Pod, and it is ready."""
        found = [pod for pod in read_pods(self._state) if pod.name.startswith(f"{workload}-")]
        return len(found) == 1 and found[0].is_ready

    def api(self, path: str) -> Any:
        """The admin API's answer."""
        with urllib.request.urlopen(f"{self.api_address}{path}", timeout=10) as answer:
            text = answer.read().decode()
        return json.loads(text) if "json" in answer.headers["content-type"] else text

    def envoy(self, workload: str, path: str) -> str:
        """What the admin interface of the workload's sidecar answers."""
        pod = self.pod(workload)
        proxies = self.api("/api/v1/proxies")
        (uuid_,) = [proxy["uuid"] for proxy in proxies if proxy["pod"] == pod.name]
        return str(self.api(f"/api/v1/proxies/{uuid_}/envoy/{path}"))

    def wait(self, holds: Callable[[], bool], seconds: float = REACTION_SECONDS) -> None:
        """The condition holds; what the mesh knows is told when it never does."""
        eventually(holds, seconds, self.describe)

    def wait_for(self, status: int, *asked: Any, **how: Any) -> Answer:
        """``ask`` until it is answered with the status."""
        found: list[Answer] = []

        def holds() -> bool:
            found.append(self.ask(*asked, **how))
            return found[-1].status == status

        eventually(holds, REACTION_SECONDS, lambda: f"{found[-1]}\n{self.describe()}")
        return found[-1]

    def describe(self) -> str:
        """What is to be seen of the mesh, for messages."""
        pods = "\n".join(map(str, read_pods(self._state)))
        rejected = self.api("/api/v1/rejected") if self.api_address else []
        return f"{pods}\n{rejected}\n{self._log.read_text()[-2000:]}"

    def _is_settled(self) -> bool:
        pods = read_pods(self._state)
        proxies = self.api("/api/v1/proxies")
        meshed = [pod for pod in pods if pod.namespace == "shop"]
        in_sync = all(proxy["in_sync"] and proxy["pod"] for proxy in proxies)
        return all(pod.is_ready for pod in pods) and in_sync and len(proxies) == len(meshed)
