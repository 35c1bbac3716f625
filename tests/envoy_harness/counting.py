"""A real Envoy that counts requests as a sidecar does: our access logger, our names of clusters.

Its listener and its admin are on loopback, so that a Prometheus finds the metrics. Nothing is
redirected and nothing encrypted: the metrics are what matters here.
"""

from __future__ import annotations

import http.server
import json
import os
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from envoy_harness.process import envoy_path
from until import until

from xds.builders.telemetry import ENDPOINT_METADATA, stats_log
from xds.policy.service import Workload
from xds.protos import to_dict

HCM = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = "envoy.extensions.filters.http.router.v3.Router"


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


class CountingEnvoy:
    """The sidecar of a caller; a context manager that returns once it serves.

    ``/ok`` and ``/broken`` lead to the service, which answers 200 and 500; ``/nowhere`` is answered
    by Envoy itself with 503.
    """

    def __init__(
        self, folder: Path, *, source: Workload, service: str, destination: dict[str, str]
    ) -> None:
        self._folder, self._source, self._service = folder, source, service
        self._destination = destination
        self._port, self.admin_port = free_port(), free_port()
        self._backend = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Backend)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        threading.Thread(target=self._backend.serve_forever, daemon=True).start()
        bootstrap, log = self._folder / "bootstrap.json", self._folder / "envoy.log"
        bootstrap.write_text(json.dumps(self._bootstrap()))
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [str(envoy_path()), "-c", str(bootstrap), "--concurrency", "1",
                 "--disable-hot-restart"],
                env={**os.environ, "POD_NAME": "bookbuyer-pod"}, stdout=out, stderr=out,
            )  # fmt: skip
        until(lambda: self.call("/nowhere"), f"an Envoy ({log})")
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
        self._backend.shutdown()
        self._backend.server_close()

    def call(self, path: str) -> int:
        """The status that the caller gets."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=5) as found:
                return int(found.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    def _bootstrap(self) -> dict[str, Any]:
        routes = [
            {"match": {"path": "/nowhere"}, "direct_response": {"status": 503}},
            {"match": {"prefix": "/"}, "route": {"cluster": self._service}},
        ]
        hcm = {
            "@type": f"type.googleapis.com/{HCM}",
            "stat_prefix": "outbound",
            "route_config": {"virtual_hosts": [{"name": "a", "domains": ["*"], "routes": routes}]},
            "http_filters": [
                {"name": "router", "typed_config": {"@type": f"type.googleapis.com/{ROUTER}"}}
            ],
            "access_log": [to_dict(stats_log(self._source))],
        }
        backend = {
            "endpoint": {"address": _address(self._backend.server_address[1])},
            "metadata": {"filter_metadata": {ENDPOINT_METADATA: self._destination}},
        }
        return {
            "node": {"id": "test", "cluster": "test"},
            "admin": {"address": _address(self.admin_port)},
            "static_resources": {
                "listeners": [
                    {
                        "name": "outbound-listener",
                        "address": _address(self._port),
                        "filter_chains": [{"filters": [{"name": "hcm", "typed_config": hcm}]}],
                    }
                ],
                "clusters": [_cluster(self._service, [backend]), _cluster("osm-controller", [])],
            },
        }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _cluster(name: str, endpoints: list[dict[str, Any]]) -> dict[str, Any]:
    assignment = {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}
    return {"name": name, "type": "STATIC", "load_assignment": assignment}


class _Backend(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(500 if self.path == "/broken" else 200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing is written."""
