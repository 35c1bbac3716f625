"""``osm controller run`` as a process of its own against a real API server, for tests.

The process has nothing but the rights of ``manifests/rbac.yaml``; the API server reaches its
webhooks by URL, since it has no way to a Service.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from kube_server import KubeServer
from until import until

MANIFESTS = Path(__file__).parents[1] / "manifests"
OSM = "osm-system"
_PORTS = ("api", "injector", "validator", "debug", "ads")
_PATHS = {
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
    "ConfigMap": "/api/v1/namespaces/{namespace}/configmaps",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings",
}


def install_rights(kube: KubeServer) -> None:
    """Namespace, accounts, roles and presets of an installation exist."""
    kube.new_namespace(OSM)
    for file in ("rbac.yaml", "config.yaml"):
        for raw in yaml.safe_load_all((MANIFESTS / file).read_text()):
            path = _PATHS[raw["kind"]].format(namespace=raw["metadata"].get("namespace"))
            kube.call("POST", path, raw)


def account_token(kube: KubeServer, namespace: str, name: str) -> str:
    """A token of the service account; it is waited for."""

    def secret() -> Any:
        account = kube.call("GET", f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}")
        found = account.get("secrets")
        path = f"/api/v1/namespaces/{namespace}/secrets"
        return found and kube.call("GET", f"{path}/{found[0]['name']}").get("data", {}).get("token")

    return b64decode(until(secret, "a token of the account")).decode()


class ControllerProcess:
    """One controller; ``ports`` stay the same over restarts."""

    def __init__(self, kubeconfig: Path, folder: Path, **environment: str) -> None:
        self.ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
        self.log = folder / "controller.log"
        self._kubeconfig = kubeconfig
        self._environment = {
            "OSM_WEBHOOK_URL": "https://localhost",
            "OSM_WEBHOOK_HOST": "127.0.0.1",
            "OSM_API_HOST": "127.0.0.1",
            "OSM_ADS_HOST": "127.0.0.1",
            "OSM_SHUTDOWN_DELAY": "1s",
            **{f"OSM_{name.upper()}_PORT": str(port) for name, port in self.ports.items()},
            **environment,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """The process runs; nothing is waited for."""
        known = {"PATH", "HOME", "LANG", "KUBEBUILDER_ASSETS"}
        kept = {name: value for name, value in os.environ.items() if name in known}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    str(Path(sys.executable).with_name("osm")),
                    f"--kubeconfig={self._kubeconfig}",
                    "controller", "run", "--mesh-name=osm", f"--osm-namespace={OSM}",
                ],
                env={**kept, **self._environment}, stdout=log, stderr=log,
            )  # fmt: skip

    def wait_until_ready(self) -> None:
        """Health says ready; the log's end is shown where it does not in time."""
        try:
            until(lambda: self.get("/health/ready"), "readiness", seconds=60)
        except TimeoutError:
            raise AssertionError(self.log.read_text()[-4000:]) from None

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """The exit status; the process is killed where it does not end in time."""
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(number)
        try:
            return process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def get(self, path: str, *, method: str = "GET", token: str = "", port: str = "api") -> Any:
        """The answer's JSON, or its text."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        url = f"http://127.0.0.1:{self.ports[port]}{path}"
        request = urllib.request.Request(url, method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read().decode()
        return json.loads(text) if text.startswith(("{", "[")) else text

    def status(self, path: str, **options: Any) -> int:
        """The status of the answer; 0 where nobody answers."""
        try:
            self.get(path, **options)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0
        return 200


@contextlib.contextmanager
def ended(process: ControllerProcess) -> Iterator[ControllerProcess]:
    """The process has ended after the context, whatever happened."""
    try:
        yield process
    finally:
        process.end(signal.SIGKILL)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("", 0))) for _ in range(count)]
        return [int(one.getsockname()[1]) for one in sockets]
