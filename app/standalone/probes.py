"""One question to a container, as its probe or hook asks it: over HTTP, TCP, or by a command.

Called from the kubelet's threads. The host reaches Pods by their address, so questions take the way
that a kubelet's take in a cluster: past the redirect rules, to the sidecar's probe ports
(kubernetes-surface 3.7).
"""

from __future__ import annotations

import http.client
import socket
import ssl
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from app.standalone.specs import Action, Container, HttpGet, TcpSocket

_BAD_REQUEST = 400
_MOST_BYTES = 10_240


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of it; ``detail`` tells people why it failed."""

    ok: bool
    detail: str = ""


def ask(
    action: Action,
    container: Container,
    *,
    address: str,
    timeout_seconds: float,
    beside: Callable[[tuple[str, ...]], tuple[str, ...]],
) -> Answer:
    """The answer within the time; never raises. ``beside`` makes a command run in the container."""
    try:
        if action.http_get is not None:
            return _ask_http(action.http_get, container, address, timeout_seconds)
        if action.tcp_socket is not None:
            return _ask_tcp(action.tcp_socket, container, address, timeout_seconds)
        if action.exec is not None:
            return _run(beside(action.exec.command), timeout_seconds)
    except (OSError, http.client.HTTPException, subprocess.SubprocessError) as error:
        return Answer(ok=False, detail=str(error) or type(error).__name__)
    return Answer(ok=True)


def _ask_http(get: HttpGet, container: Container, address: str, timeout: float) -> Answer:
    host, port = get.host or address, container.port_number(get.port) or 0
    connection: http.client.HTTPConnection
    if get.scheme == "HTTPS":
        # As a kubelet, which has no roots to check a workload's certificate with.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=timeout)
    headers = {"User-Agent": "kube-probe/osm", "Connection": "close"}
    headers |= {header.name: header.value for header in get.http_headers}
    try:
        connection.request("GET", get.path, headers=headers)
        answer = connection.getresponse()
        answer.read(_MOST_BYTES)
    finally:
        connection.close()
    return Answer(ok=answer.status < _BAD_REQUEST, detail=f"HTTP status {answer.status}")


def _ask_tcp(target: TcpSocket, container: Container, address: str, timeout: float) -> Answer:
    port = container.port_number(target.port) or 0
    with socket.create_connection((target.host or address, port), timeout=timeout):
        return Answer(ok=True)


def _run(argv: tuple[str, ...], timeout: float) -> Answer:
    done = subprocess.run(argv, timeout=timeout, capture_output=True, check=False)
    output = (done.stdout + done.stderr).decode("utf-8", "replace").strip()[:200]
    return Answer(ok=done.returncode == 0, detail=f"exit code {done.returncode} {output}".strip())
