from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from app.standalone.probes import Answer, ask
from app.standalone.specs import Action, Container


class Echo(BaseHTTPRequestHandler):
    """Answers with the status that the path names, or that of a header."""

    def do_GET(self) -> None:
        self.send_response(int(self.headers.get("X-Status") or self.path.strip("/")))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Silence."""


@pytest.fixture
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def answer(action: dict[str, Any], port: int = 0) -> Answer:
    container = Container.model_validate(
        {"name": "a", "ports": [{"name": "web", "containerPort": port}] if port else []}
    )
    return ask(
        Action.model_validate(action),
        container,
        address="127.0.0.1",
        timeout_seconds=5,
        beside=lambda argv: argv,
    )


@pytest.mark.parametrize(
    ("status", "ok"), [(200, True), (204, True), (302, True), (404, False), (500, False)]
)
def test_http_status_decides(port: int, status: int, ok: bool) -> None:
    found = answer({"httpGet": {"path": f"/{status}", "port": port}})
    assert found == Answer(ok=ok, detail=f"HTTP status {status}")


def test_headers_and_port_names_are_honoured(port: int) -> None:
    headers = [{"name": "X-Status", "value": "503"}]
    get = {"path": "/200", "port": "web", "httpHeaders": headers}
    assert answer({"httpGet": get}, port) == Answer(ok=False, detail="HTTP status 503")


def test_a_port_that_accepts_is_well(port: int) -> None:
    assert answer({"tcpSocket": {"port": port}}).ok


def test_a_port_that_refuses_is_not() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = unused.getsockname()[1]
        for action in ("tcpSocket", "httpGet"):
            found = answer({action: {"port": closed}})
            assert not found.ok
            assert "refused" in found.detail


def test_a_command_decides_by_its_exit_code() -> None:
    assert answer({"exec": {"command": [sys.executable, "-c", ""]}}).ok
    bad = answer({"exec": {"command": [sys.executable, "-c", "print('why'); exit(3)"]}})
    assert bad == Answer(ok=False, detail="exit code 3 why")
    assert not answer({"exec": {"command": ["/nowhere"]}}).ok


def test_a_server_without_tls_fails_an_https_probe(port: int) -> None:
    assert not answer({"httpGet": {"path": "/200", "port": port, "scheme": "HTTPS"}}).ok
