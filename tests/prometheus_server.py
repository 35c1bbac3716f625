"""A real Prometheus for tests, with the scrape configuration that we ship.

Debian builds it without the discovery of Kubernetes. In its place stands a small server that gives
the same labels for Pods, endpoints and nodes, read from an API server; all the rest of the
configuration is the shipped one, but for faster scrapes and for the paths of token and root.
Source: Prometheus, “Configuration”, kubernetes_sd_config.
"""

from __future__ import annotations

import http.server
import json
import re
import shutil
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from envoy_harness.counting import free_port
from until import until

OBSERVABILITY = Path(__file__).parents[1] / "manifests" / "observability"
META = "__meta_kubernetes_"

Target = dict[str, Any]


def shipped_config() -> dict[str, Any]:
    """The scrape configuration of the manifests."""
    raw = yaml.safe_load((OBSERVABILITY / "prometheus-config.yaml").read_text())
    return dict(yaml.safe_load(raw["data"]["prometheus.yml"]))


def config_for_test(discovery: str, token: Path, root: Path) -> dict[str, Any]:
    """The shipped configuration, made for this machine."""
    config = shipped_config()
    config["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s"}
    for job in config["scrape_configs"]:
        (kubernetes,) = job.pop("kubernetes_sd_configs")
        url = f"{discovery}/{kubernetes['role']}"
        job["http_sd_configs"] = [{"url": url, "refresh_interval": "1s"}]
        if "authorization" in job:
            job["authorization"]["credentials_file"] = str(token)
        if "ca_file" in job.get("tls_config", {}):
            job["tls_config"]["ca_file"] = str(root)
    return config


class Prometheus:
    """One server with an empty store; a context manager that returns once it is ready."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self._folder, self._config = folder, config
        self._url = f"http://127.0.0.1:{free_port()}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        program = shutil.which("prometheus")
        assert program, "there is no prometheus: apt-get install prometheus"
        config, log = self._folder / "prometheus.yml", self._folder / "prometheus.log"
        config.write_text(yaml.safe_dump(self._config))
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [program, f"--config.file={config}", f"--storage.tsdb.path={self._folder / 'data'}",
                 f"--web.listen-address={self._url.removeprefix('http://')}"],
                stdout=out, stderr=out,
            )  # fmt: skip
        until(lambda: self._get("/-/ready"), f"a Prometheus ({log})")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query; a bad one is an AssertionError in Prometheus' words."""
        found: dict[str, Any] = self._api("query", query=expression)
        return list(found["result"])

    def labels(self, expression: str) -> list[dict[str, str]]:
        """The labels of each series."""
        return [series["metric"] for series in self.query(expression)]

    def names(self, job: str) -> set[str]:
        """The metrics that came of a job, without those that Prometheus adds."""
        found = {one["__name__"] for one in self.labels(f'group by (__name__) ({{job="{job}"}})')}
        return {name for name in found if name != "up" and not name.startswith("scrape_")}

    def targets(self) -> list[dict[str, Any]]:
        """What is scraped."""
        return list(self._api("targets", state="active")["activeTargets"])

    def _api(self, path: str, **parameters: str) -> Any:
        try:
            answer = self._get(f"/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None
        return json.loads(answer)["data"]

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(f"{self._url}{path}", timeout=10) as answer:
            return str(answer.read().decode())


class Discovery:
    """Answers ``/<role>`` with the targets that a function finds; a context manager."""

    def __init__(self, **find: Callable[[], list[Target]]) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps(find[self.path.strip("/")]()).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing is written."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def pod_targets(pod: dict[str, Any]) -> Iterator[Target]:
    """One target for each port of each container, as the role ``pod`` has them."""
    metadata, address = pod["metadata"], pod["status"].get("podIP")
    if not address:
        return
    labels = {
        "namespace": metadata["namespace"],
        "pod_name": metadata["name"],
        "pod_ip": address,
        "pod_phase": pod["status"]["phase"],
    }
    for owner in metadata.get("ownerReferences") or ():
        if owner.get("controller"):
            labels |= {"pod_controller_kind": owner["kind"], "pod_controller_name": owner["name"]}
    for word in ("label", "annotation"):
        for name, value in (metadata.get(f"{word}s") or {}).items():
            plain = re.sub(r"[^a-zA-Z0-9_]", "_", name)
            labels |= {f"pod_{word}_{plain}": value, f"pod_{word}present_{plain}": "true"}
    for container in pod["spec"]["containers"]:
        for port in container.get("ports") or ():
            own = {"pod_container_port_number": str(port["containerPort"])}
            yield _target(f"{address}:{port['containerPort']}", {**labels, **own})


def endpoint_target(address: str, *, namespace: str, service: str, port: str) -> Target:
    """An address of a Service, as the role ``endpoints`` has it."""
    labels = {"namespace": namespace, "service_name": service, "endpoint_port_name": port}
    return _target(address, labels)


def node_target(address: str, name: str) -> Target:
    """A kubelet, as the role ``node`` has it."""
    return _target(address, {"node_name": name})


def _target(address: str, labels: dict[str, str]) -> Target:
    return {
        "targets": [address],
        "labels": {f"{META}{name}": value for name, value in labels.items()},
    }
