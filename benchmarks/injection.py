"""What injection costs: a real API server asks the real controller while sidecars are connected.

``python -m benchmarks.injection [--rate 20] [--seconds 20] [--proxies 500] [-o json]``. Pods are
created at a steady rate; each gets its certificate and its Secret. Latency is the API server's own
measurement of the webhook (its histogram has a bucket at 100 ms) and the creator's of the whole.
Needs ``KUBEBUILDER_ASSETS``, as tests against an API server do.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

from app.metrics import parse_samples
from app.objects.meta import RawObject
from benchmarks.mesh import PODS_PER_SERVICE, MeshObjects, sidecar_keys
from benchmarks.streams import Result, Sidecars, rendered

# The API server is that of the tests. Last on the path: tests/app must not hide app.
sys.path.append(str(Path(__file__).parents[1] / "tests"))
import kube_server

READY_SECONDS = 120.0
_OSM = Path(sys.executable).with_name("osm")
_WEBHOOK = "apiserver_admission_webhook_admission_duration_seconds"
_PATHS = {
    "Namespace": "/api/v1/namespaces",
    "Pod": "/api/v1/namespaces/{}/pods",
    "Service": "/api/v1/namespaces/{}/services",
    "Endpoints": "/api/v1/namespaces/{}/endpoints",
    "HTTPRouteGroup": "/apis/specs.smi-spec.io/v1alpha4/namespaces/{}/httproutegroups",
    "TrafficTarget": "/apis/access.smi-spec.io/v1alpha3/namespaces/{}/traffictargets",
    "TrafficSplit": "/apis/split.smi-spec.io/v1alpha2/namespaces/{}/trafficsplits",
}
_BEFORE = ("Namespace", "Service", "Endpoints", "Pod")
"""Kinds that exist before the controller starts: no webhook is asked about them."""


class Creator:
    """Creates objects over connections that stay open, one per thread."""

    def __init__(self, server: kube_server.KubeServer) -> None:
        self._server = server
        self._local = threading.local()
        self._context = ssl.create_default_context(cafile=str(server.ca_file))

    def send(self, method: str, path: str, body: RawObject) -> RawObject:
        """The API server's answer; a refusal raises."""
        connection = getattr(self._local, "connection", None)
        if connection is None:
            host, port = self._server.url.removeprefix("https://").split(":")
            connection = HTTPSConnection(host, int(port), context=self._context, timeout=30)
            self._local.connection = connection
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Authorization": f"Bearer {kube_server.ADMIN_TOKEN}", "Content-Type": kind}
        connection.request(method, path, json.dumps(body), headers)
        answer = connection.getresponse()
        found: RawObject = json.loads(answer.read())
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {found.get('message')}")
        return found

    def create(self, raw: RawObject) -> RawObject:
        return self.send("POST", path_of(raw), raw)


def path_of(raw: RawObject) -> str:
    """The collection an object belongs to."""
    return _PATHS[raw["kind"]].format(raw["metadata"].get("namespace", ""))


def load(creator: Creator, objects: list[RawObject]) -> None:
    """The objects exist, Pods with their status."""
    with ThreadPoolExecutor(8) as pool:
        for kind in dict.fromkeys(raw["kind"] for raw in objects):
            of_kind = [_acceptable(raw) for raw in objects if raw["kind"] == kind]
            for raw in pool.map(creator.create, of_kind):
                assert raw["metadata"]["uid"]
        pods = [raw for raw in objects if raw["kind"] == "Pod"]
        for _ in pool.map(lambda raw: _set_status(creator, raw), pods):
            pass


def _acceptable(raw: RawObject) -> RawObject:
    """What a server takes: images, no versions of its own, no addresses that it gives itself."""
    raw = json.loads(json.dumps(raw))
    raw["metadata"].pop("resourceVersion", None)
    if raw["kind"] == "Pod":
        raw["spec"]["containers"][0]["image"] = "app:1"
    if raw["kind"] == "Service":
        raw["spec"].pop("clusterIP")
    return raw


def _set_status(creator: Creator, pod: RawObject) -> None:
    path = f"{path_of(pod)}/{pod['metadata']['name']}/status"
    status = {name: pod["status"][name] for name in ("phase", "podIP")}
    creator.send("PATCH", path, {"status": status})


class Controller:
    """``osm controller run`` as a process outside the cluster."""

    def __init__(self, server: kube_server.KubeServer) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="osm-benchmark-")
        ports = {name: _free_port() for name in ("injector", "validator", "api", "ads")}
        self.api = f"http://127.0.0.1:{ports['api']}"
        self.ads_port = ports["ads"]
        command = [str(_OSM), "--kubeconfig", str(server.kubeconfig()), "controller", "run"]
        command += ["--mesh-name", "osm", "--osm-namespace", "osm-system"]
        environment = {f"OSM_{name.upper()}_PORT": str(port) for name, port in ports.items()}
        environment |= {"OSM_WEBHOOK_URL": "https://127.0.0.1", "OSM_WEBHOOK_HOST": "127.0.0.1"}
        environment |= {"OSM_ADS_HOST": "127.0.0.1", "OSM_API_HOST": "127.0.0.1"}
        self.log = Path(self._folder.name, "controller.log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, env=os.environ | environment, stdout=log, stderr=log
            )

    def wait_ready(self) -> None:
        """It serves; its log's end is told where it does not in time."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError):
                self.read("/health/ready")
                return
            time.sleep(0.1)
        raise TimeoutError(self.log.read_text()[-3000:])

    def read(self, path: str) -> str:
        with urllib.request.urlopen(f"{self.api}{path}", timeout=10) as answer:  # loopback
            return str(answer.read().decode())

    def resident_mb(self) -> float:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1000
        raise RuntimeError("no VmRSS on this machine")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=60)
        self._folder.cleanup()


@contextlib.contextmanager
def mesh(proxies: int) -> Iterator[tuple[kube_server.KubeServer, Creator, Controller]]:
    """A cluster with the mesh's controller and so many connected sidecars."""
    objects = MeshObjects(max(3, proxies // PODS_PER_SERVICE))
    with kube_server.running() as server:
        creator = Creator(server)
        creator.create({"kind": "Namespace", "metadata": {"name": "osm-system"}})
        everything = objects.all()
        load(creator, [raw for raw in everything if raw["kind"] in _BEFORE])
        controller = Controller(server)
        try:
            controller.wait_ready()
            path = "/apis/config.openservicemesh.io/v1alpha2/namespaces/osm-system/meshconfigs"
            config = objects.config(permissive=False)
            with contextlib.suppress(RuntimeError):
                creator.send("POST", path, config)
            creator.send("PATCH", f"{path}/osm-mesh-config", {"spec": config["spec"]})
            load(creator, [r for r in everything if r["kind"] not in (*_BEFORE, "MeshConfig")])
            secret = server.call("GET", "/api/v1/namespaces/osm-system/secrets/osm-ca-bundle")
            roots, keys = sidecar_keys(secret, objects.proxies())
            sidecars = Sidecars(roots, [one.as_json() for one in keys])
            try:
                sidecars.connect(controller.ads_port)
                sidecars.wait_until_complete()
                yield server, creator, controller
            finally:
                sidecars.stop()
        finally:
            controller.stop()


def inject(creator: Creator, *, rate: float, seconds: float) -> list[float]:
    """Pods are created at the rate, each with its sidecar; seconds that each took, sorted."""
    namespace = "crowd"
    creator.create(
        {
            "kind": "Namespace",
            "metadata": {
                "name": namespace,
                "labels": {"openservicemesh.io/monitored-by": "osm"},
                "annotations": {"openservicemesh.io/sidecar-injection": "enabled"},
            },
        }
    )
    began = time.monotonic() + 0.5

    def one(number: int) -> float:
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        asked = time.monotonic()
        pod = creator.create(_pod(namespace, number))
        names = [container["name"] for container in pod["spec"]["containers"]]
        if "envoy" not in names + [c["name"] for c in pod["spec"]["initContainers"]]:
            raise RuntimeError(f"Pod {number} has no sidecar: {names}")
        return time.monotonic() - asked

    with ThreadPoolExecutor(16) as pool:
        return sorted(pool.map(one, range(int(rate * seconds))))


def _pod(namespace: str, number: int) -> dict[str, Any]:
    probe = {"httpGet": {"path": "/ready", "port": "http"}}
    container = {
        "name": "app",
        "image": "app:1",
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": probe,
        "livenessProbe": probe,
    }
    metadata = {"name": f"pod-{number:05}", "namespace": namespace, "labels": {"app": "crowd"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [container]},
    }


def webhook_calls(server: kube_server.KubeServer, bound: str) -> tuple[float, float, float]:
    """Calls of the injection webhook, their mean seconds, and the share within the bound."""
    page = server.call("GET", "/metrics")
    lines = [line for line in page.splitlines() if line.startswith(_WEBHOOK)]
    samples = parse_samples("\n".join(lines) + "\n")
    ours = [s for s in samples if s.labels["name"] == "osm-inject.k8s.io"]
    count = sum(s.value for s in ours if s.name.endswith("_count"))
    inside = sum(s.value for s in ours if s.labels.get("le") == bound)
    seconds = sum(s.value for s in ours if s.name.endswith("_sum"))
    return count, seconds / count, inside / count


def main() -> int:
    """Print what was measured; a number out of reach is marked, not a failure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=20.0, help="Pods per second (default 20)")
    parser.add_argument("--seconds", type=float, default=20.0, help="for so long (default 20)")
    parser.add_argument("--proxies", type=int, default=500, help="synthetic sidecars (default 500)")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    options = parser.parse_args()
    if not kube_server.ASSETS:
        sys.exit(kube_server.HOW_TO_GET_ONE)
    with mesh(options.proxies) as (server, creator, controller):
        began = time.monotonic()
        took = inject(creator, rate=options.rate, seconds=options.seconds)
        seconds = time.monotonic() - began - 0.5
        count, mean, share = webhook_calls(server, "0.1")
        resident = controller.resident_mb()
    results = [
        Result(case="Pods injected per second", value=round(count / seconds, 1), unit="Pods/s"),
        Result(case="whole creation, p50", value=round(_share(took, 0.5), 1), unit="ms"),
        Result(case="whole creation, p99", value=round(_share(took, 0.99), 1), unit="ms"),
        Result(case="webhook call, mean", value=round(mean * 1000, 1), unit="ms"),
        Result(
            case="webhook calls over 100 ms, as the API server saw them",
            value=round(100 * (1 - share), 2),
            unit="%",
            reach=1.0,
        ),
        Result(case="memory of the controller", value=round(resident, 1), unit="MB"),
    ]
    print(rendered(results, as_json=options.output == "json"))
    return 0


def _share(took: list[float], share: float) -> float:
    return took[min(len(took) - 1, int(share * len(took)))] * 1000


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
