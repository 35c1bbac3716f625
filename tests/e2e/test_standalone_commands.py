"""``osm standalone`` as a person uses it, with Pods outside the mesh: fast, and no Envoy needed."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.standalone import namespaces
from app.standalone.podlist import PodSummary, read_pods
from app.standalone.state import remove_state

pytestmark = pytest.mark.root

SECONDS = 60.0
_PAUSE = threading.Event()
CLI = (sys.executable, "-m", "app.cli.main", "standalone")
YAML = """\
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: code, namespace: shop}
data:
  colour: red
  web.py: |
    import os
    from http.server import BaseHTTPRequestHandler, HTTPServer
    class Web(BaseHTTPRequestHandler):
        def do_GET(self):
            body = f"{os.environ['NAME']} {os.environ['COLOUR']} {os.getuid()}".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        def log_message(self, *_): pass
    print("open", flush=True)
    HTTPServer(("", 80), Web).serve_forever(0.05)
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 8000, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: peers, namespace: shop}
spec: {clusterIP: None, selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web, namespace: shop}
spec:
  replicas: 1
  serviceName: peers
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
        - name: web
          command: [python3, -u, /app/web.py]
          ports: [{name: http, containerPort: 80}]
          env:
            - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
            - {name: COLOUR, valueFrom: {configMapKeyRef: {name: code, key: colour}}}
          readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
          volumeMounts: [{name: code, mountPath: /app}]
      volumes: [{name: code, configMap: {name: code}}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: once, namespace: shop}
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{name: once, command: [sh, -c, "echo done by $(id -u)"]}]
"""
ASK = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=5).read().decode())"


class Mesh:
    """One mesh and the commands about it."""

    def __init__(self, folder: Path) -> None:
        self.name = f"t{uuid.uuid4().hex[:8]}"
        self.state = folder / "state"
        self.file = folder / "yaml" / "all.yaml"
        self.file.parent.mkdir()
        self.file.write_text(YAML)
        self.process: subprocess.Popen[str] | None = None
        self._log = (folder / "up.log").open("w")
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SUDO_")},
            "OSM_STATE_DIR": str(self.state),
            "OSM_MESH_NAME": self.name,
            "OSM_ADS_PORT": "0",
            "OSM_API_PORT": "0",
        }

    def up(self) -> dict[str, Any]:
        """``up`` runs; what it said once all Pods were ready."""
        self.process = subprocess.Popen(
            [*CLI, "up", "-f", str(self.file.parent), "-o", "json"],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], SECONDS)[0], "up says nothing"
        said: dict[str, Any] = json.loads(self.process.stdout.readline())
        return said

    def end(self, number: int) -> int:
        """The exit status of ``up`` after the signal."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(SECONDS)

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*CLI, *words],
            env=self._environment,
            capture_output=True,
            text=True,
            check=check,
            timeout=SECONDS,
        )

    def pods(self) -> dict[str, PodSummary]:
        return {pod.name: pod for pod in read_pods(self.state)}

    def wait(self, **ready: str) -> dict[str, PodSummary]:
        """The Pods but for the Job's, once exactly these exist with so many ready containers."""
        wanted = {name.replace("_", "-"): word for name, word in ready.items()}
        deadline = time.monotonic() + SECONDS
        while True:
            pods = {n: p for n, p in self.pods().items() if not n.startswith("once")}
            if {name: pod.ready for name, pod in pods.items()} == wanted:
                return pods
            assert time.monotonic() < deadline, pods
            _PAUSE.wait(0.05)

    def ask(self, url: str, *, pod: str = "web-0") -> str:
        return self.run("exec", pod, "--", "python3", "-c", ASK, url).stdout.strip()

    def left_over(self) -> list[str]:
        links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True)
        found = [line for line in links.stdout.splitlines() if f"osm-{self.name}" in line]
        names = [name for name in namespaces.names("osm-") if self.name in name]
        return found + names + ([str(self.state)] if self.state.exists() else [])


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    found = Mesh(tmp_path_factory.mktemp("mesh"))
    try:
        yield found
    finally:
        if found.process is not None and found.process.poll() is None:
            found.process.kill()
            found.process.wait()
        remove_state(found.name, found.state)


def test_a_mesh_from_up_to_down(mesh: Mesh) -> None:
    said = mesh.up()
    assert said["settled"] is True
    pods = mesh.wait(web_0="1/1")
    _check_commands(mesh, pods["web-0"])
    _check_edits(mesh)
    _check_crash(mesh)
    assert mesh.end(signal.SIGINT) == 0
    assert mesh.left_over() == []


def _check_commands(mesh: Mesh, web: PodSummary) -> None:
    """Environment, files, user, names and addresses are as declared."""
    answer = "web-0 red 65534"
    for url in (
        "http://web:8000/",
        "http://web.shop.svc.cluster:8000/",
        "http://web-0.peers.shop.svc.cluster.local/",
        f"http://{web.address}/",
    ):
        assert mesh.ask(url) == answer
    assert mesh.run("logs", "web-0").stdout == "open\n"
    (job,) = (pod for name, pod in mesh.pods().items() if name.startswith("once"))
    assert job.status == "Completed"
    assert mesh.run("logs", f"shop/{job.name}").stdout == "done by 65534\n"
    listed = json.loads(mesh.run("ps", "-n", "shop", "-o", "json").stdout)
    assert [(pod["name"], pod["status"]) for pod in listed] == [
        (job.name, "Completed"),
        ("web-0", "Running"),
    ]
    unknown = mesh.run("logs", "nobody", check=False)
    assert unknown.returncode == 1
    assert "there is no Pod nobody; there are: shop/" in " ".join(unknown.stderr.split())
    second = mesh.run("up", "-f", str(mesh.file), check=False)
    assert second.returncode == 1
    assert "a mesh is up already" in second.stderr


def _check_edits(mesh: Mesh) -> None:
    """Scale, kill, and a bad edit."""
    mesh.file.write_text(YAML.replace("replicas: 1", "replicas: 2"))
    before = mesh.wait(web_0="1/1", web_1="1/1")
    assert mesh.ask("http://web-1.peers/", pod="web-0") == "web-1 red 65534"
    mesh.run("kill", "web-1")
    deadline = time.monotonic() + SECONDS
    while mesh.wait(web_0="1/1", web_1="1/1")["web-1"].created == before["web-1"].created:
        assert time.monotonic() < deadline
        _PAUSE.wait(0.05)
    mesh.file.write_text("a: [")
    assert set(mesh.wait(web_0="1/1", web_1="1/1")) == {"web-0", "web-1"}
    mesh.file.write_text(YAML)
    mesh.wait(web_0="1/1")


def _check_crash(mesh: Mesh) -> None:
    """Pods outlive their controller, and one that cannot start; the next starts none anew."""
    before = mesh.pods()
    mesh.end(signal.SIGKILL)
    assert mesh.ask("http://web:8000/") == "web-0 red 65534"
    refused = mesh.run("kill", "web-0", check=False)
    assert refused.returncode == 1
    assert "no `osm standalone up` runs" in refused.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = mesh.run("up", "-f", str(mesh.file), "--api-port", port, check=False)
    assert (refused.returncode, "--api-port" in refused.stderr) == (1, True)
    assert mesh.ask("http://web:8000/") == "web-0 red 65534"
    mesh.up()
    after = mesh.wait(web_0="1/1")
    assert after["web-0"] == before["web-0"]


def test_down_works_after_a_crash(mesh: Mesh) -> None:
    mesh.up()
    mesh.wait(web_0="1/1")
    mesh.end(signal.SIGKILL)
    mesh.run("down")
    assert mesh.left_over() == []
    mesh.run("down")


def test_down_ends_a_running_up(mesh: Mesh) -> None:
    mesh.up()
    mesh.run("down")
    assert mesh.process is not None
    assert mesh.process.wait(SECONDS) == 0
    assert mesh.left_over() == []


def test_a_folder_that_is_not_there_leaves_nothing(mesh: Mesh) -> None:
    refused = mesh.run("up", "-f", "/nowhere", check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (
        1,
        refused.stderr.strip().count("\n") + 1,
    )
    assert "-f /nowhere: no such file or folder" in refused.stderr
    assert mesh.left_over() == []
