"""What the kubelet and the control plane see of a real injected sidecar."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import pytest
from injected_sidecar import (
    IDENTITY,
    POD_IP,
    ControlPlane,
    Sidecar,
    running,
    wait_until,
)
from injections import UUID, container, pod
from relay import Relay

from xds.policy.identity import ProxyId

pytestmark = [pytest.mark.envoy, pytest.mark.root]

HTTP_PORT, TLS_PORT, TCP_PORT, GRPC_PORT = 8080, 8443, 6379, 9000
HEALTH_CHECK = "/grpc.health.v1.Health/Check"
SERVING = b"\x08\x01"
"""grpc.health.v1.HealthCheckResponse{status: SERVING}."""

RAW = pod(
    container(
        livenessProbe={"httpGet": {"path": "/alive?deep=1", "port": HTTP_PORT}},
        readinessProbe={"httpGet": {"path": "/tls", "port": TLS_PORT, "scheme": "HTTPS"}},
        startupProbe={"tcpSocket": {"port": TCP_PORT}, "periodSeconds": 1},
    ),
    container("app-two", livenessProbe={"httpGet": {"path": "/two", "port": HTTP_PORT}}),
    container("rpc", livenessProbe={"grpc": {"port": GRPC_PORT}}),
)


class Echo(BaseHTTPRequestHandler):
    """Answers with the path it was asked for."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.path.encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


class Application(ThreadingHTTPServer):
    """Ends although connections are open: Envoy keeps them."""

    block_on_close = False
    daemon_threads = True


def serve(listener: socket.socket) -> Application:
    server = Application(("", 0), Echo, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def tls(control: ControlPlane, listener: socket.socket, directory: Path) -> ssl.SSLSocket:
    pair = control.issue("container.test").key_pair
    (directory / "pair.pem").write_bytes(pair.certificate_chain + pair.private_key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "pair.pem")
    return context.wrap_socket(listener, server_side=True)


def health_server() -> tuple[grpc.Server, int]:
    server = grpc.server(ThreadPoolExecutor(2))
    handler = grpc.unary_unary_rpc_method_handler(lambda _request, _context: SERVING)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


@pytest.fixture(scope="module", params=["Localhost", "PodIP"])
def sidecar(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sidecar]:
    """A ready sidecar whose application listens where the local proxy mode wants it."""
    host = "127.0.0.1" if request.param == "Localhost" else POD_IP
    config = {"sidecar": {"localProxyMode": request.param, "drainDelay": "1s"}}
    with ControlPlane() as control, running(RAW, control, config) as found:
        servers = [
            serve(found.listen(host, HTTP_PORT)),
            serve(tls(control, found.listen(host, TLS_PORT), tmp_path_factory.mktemp("tls"))),
        ]
        health, port = health_server()
        relay = Relay(
            found.listen(host, GRPC_PORT), lambda: socket.create_connection(("127.0.0.1", port))
        )
        try:
            found.await_answer("/osm-ready", (200, "LIVE\n"))
            found.app_host = host  # type: ignore[attr-defined]
            yield found
        finally:
            relay.close()
            health.stop(0).wait()
            for server in servers:
                server.shutdown()
                server.server_close()


@pytest.mark.parametrize(
    ("path", "port", "answer"),
    [
        pytest.param("/ready", 15902, (404, ""), id="only-osm-ready-of-the-admin"),
        pytest.param("/stats", 15902, (404, ""), id="no-other-path-of-the-admin"),
        pytest.param("/osm-ready/x", 15902, (404, ""), id="exact"),
        pytest.param("/osm-liveness-probe/app?deep=1", 15901, (200, "/alive?deep=1"), id="http"),
        pytest.param("/osm-liveness-probe/app-two", 15901, (200, "/two"), id="name-alike"),
        pytest.param("/osm-liveness-probe/app/x", 15901, (404, ""), id="longer-path"),
        pytest.param("/osm-liveness-probe/ap", 15901, (404, ""), id="shorter-path"),
        pytest.param("/osm-drain", 15901, (404, ""), id="drain-is-on-the-readiness-port-only"),
    ],
)
def test_kubelet_gets(sidecar: Sidecar, path: str, port: int, answer: tuple[int, str]) -> None:
    assert sidecar.ask(path, port) == answer


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/osm-drain", id="as-it-is-written"),
        pytest.param("//osm-drain", id="as-kubelets-before-1.25-ask"),
    ],
)
def test_drain_answers_after_the_delay_while_others_are_served(sidecar: Sidecar, path: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        started = time.monotonic()
        draining = pool.submit(sidecar.ask, path)
        assert sidecar.ask("/osm-ready") == (200, "LIVE\n")
        assert not draining.done()
        assert draining.result() == (200, "drained\n")
        # Envoy's timer may be a few milliseconds early.
        assert time.monotonic() - started >= 0.95


def test_tls_of_an_https_probe_ends_in_the_container(sidecar: Sidecar) -> None:
    def ask() -> tuple[bytes, bytes]:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with (
            socket.create_connection((POD_IP, 15902), timeout=10) as plain,
            context.wrap_socket(plain) as secure,
        ):
            secure.sendall(b"GET /tls HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            certificate = secure.getpeercert(binary_form=True) or b""
            answer = b""
            while chunk := secure.recv(4096):
                answer += chunk
            return certificate, answer

    certificate, answer = sidecar.node.call(ask)
    assert b"container.test" in certificate
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"/tls")


def test_tcp_probe_follows_the_port(sidecar: Sidecar) -> None:
    path, port = "/osm-startup-probe/app", 15903
    sidecar.await_answer(path, (503, ""), port)
    with sidecar.listen(sidecar.app_host, TCP_PORT):  # type: ignore[attr-defined]
        sidecar.await_answer(path, (200, ""), port)
    sidecar.await_answer(path, (503, ""), port)


def test_grpc_probe_reaches_the_container(sidecar: Sidecar) -> None:
    relay = Relay(
        socket.create_server(("127.0.0.1", 0)),
        lambda: sidecar.node.call(lambda: socket.create_connection((POD_IP, 15901))),
    )
    try:
        with grpc.insecure_channel(f"127.0.0.1:{relay.port}") as channel:
            assert channel.unary_unary(HEALTH_CHECK)(b"", timeout=10) == SERVING
    finally:
        relay.close()


def test_runtime_of_a_live_sidecar_can_be_changed(sidecar: Sidecar) -> None:
    assert sidecar.admin("/runtime_modify?osm.tap=7", "POST") == (200, "OK\n")
    status, body = sidecar.admin("/runtime")
    assert (status, json.loads(body)["entries"]["osm.tap"]["final_value"]) == (200, "7")


def test_new_credentials_are_taken_without_a_restart() -> None:
    with ControlPlane() as control, running(pod(), control) as found:
        found.await_answer("/osm-ready", (200, "LIVE\n"))
        assert control.proxies == [ProxyId(uuid=UUID, identity=IDENTITY)]

        def serials() -> set[str]:
            shown = json.loads(found.admin("/certs")[1])["certificates"]
            return {c["serial_number"] for entry in shown for c in entry["cert_chain"]}

        before = serials()
        assert len(before) == 1
        found.renew(control.credentials())
        assert wait_until(lambda: not serials() & before)


def test_another_certificate_of_the_mesh_cannot_pose_as_the_control_plane() -> None:
    with ControlPlane(server_name="thief.shop.cluster.local") as control:  # noqa: SIM117
        with running(pod(), control) as found:

            def refusals() -> int:
                try:
                    shown = json.loads(found.admin("/stats?filter=fail_verify_san&format=json")[1])
                except OSError:
                    return 0
                return sum(s["value"] for s in shown["stats"])

            assert wait_until(lambda: refusals() > 0)
            assert control.proxies == []
            with pytest.raises(ConnectionRefusedError):
                found.ask("/osm-ready")
