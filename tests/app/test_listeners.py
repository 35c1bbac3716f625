"""Listeners on real sockets: what is shown at each handshake, what is bounded, how they end."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from app import listeners
from app.certs.x509 import SigningRoot, new_root
from app.errors import ListenError
from app.listeners import HttpServer, Listener
from app.ports import CertificateRequest
from xds.policy.proxy import KeyPair

NOW = datetime.now(UTC)
ROOT = new_root(now=NOW)
SIGNER = SigningRoot.parse(ROOT, now=NOW, where="here")
PATIENCE = 10


async def say_hello(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"
    body = json.dumps({"path": scope["path"]}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def listener(app: Any = say_hello, **changes: Any) -> Listener:
    given = {"name": "api", "host": "127.0.0.1", "port": 0, "option": "--api-port", **changes}
    return Listener(app=app, **given)


def pair(name: str = "localhost") -> KeyPair:
    request = CertificateRequest(common_name=name, dns_names=(name,), lifetime=timedelta(hours=1))
    return SIGNER.issue(request, now=NOW).key_pair


@pytest.fixture
def server() -> Iterator[HttpServer]:
    running = HttpServer()
    running.start()
    yield running
    running.stop()


def get(url: str, context: ssl.SSLContext | None = None) -> Any:
    with urllib.request.urlopen(url, timeout=PATIENCE, context=context) as answer:
        return json.loads(answer.read())


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def connect(url: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port_of(url)), timeout=PATIENCE)


def verifying() -> ssl.SSLContext:
    return ssl.create_default_context(cadata=ROOT.certificate_chain.decode())


def shown(url: str, *, name: str | None = "localhost") -> str:
    """Fingerprint of what a new, verified handshake shows; without a name it is not checked."""
    context = verifying()
    context.check_hostname = name is not None
    with connect(url) as plain, context.wrap_socket(plain, server_hostname=name) as tls:
        return hashlib.sha256(tls.getpeercert(binary_form=True) or b"").hexdigest()


def fingerprint(key_pair: KeyPair) -> str:
    leaf = ssl.PEM_cert_to_DER_cert(key_pair.certificate_chain.decode())
    return hashlib.sha256(leaf).hexdigest()


@pytest.mark.parametrize("name", ["localhost", None], ids=["with-sni", "without-sni"])
def test_new_certificate_is_shown_to_the_next_handshake(
    server: HttpServer, name: str | None
) -> None:
    pairs = [pair(), pair()]
    server.open(listener(certificate=lambda: pairs[-1]))
    url = server.url("api")
    assert url.startswith("https://")
    assert shown(url, name=name) == fingerprint(pairs[-1])
    with connect(url) as plain, verifying().wrap_socket(plain, server_hostname="localhost") as old:
        pairs.append(pair())
        assert shown(url, name=name) == fingerprint(pairs[-1])
        # The open connection is not disturbed.
        old.sendall(b"GET /old HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert b'{"path": "/old"}' in b"".join(iter(lambda: old.recv(4096), b""))
    assert get(f"https://localhost:{port_of(url)}/new", verifying()) == {"path": "/new"}


def test_certificate_for_an_address_is_good_for_that_address(server: HttpServer) -> None:
    by_address = pair("127.0.0.1")
    server.open(listener(certificate=lambda: by_address))
    assert shown(server.url("api"), name="127.0.0.1") == fingerprint(by_address)


def test_certificate_that_cannot_be_used_leaves_the_old_one(server: HttpServer) -> None:
    good = pair()
    pairs = [good]
    server.open(listener(certificate=lambda: pairs[-1]))
    pairs.append(KeyPair(certificate_chain=b"nonsense", private_key=b"nonsense"))
    assert [shown(server.url("api")) for _ in range(2)] == [fingerprint(good)] * 2


def test_old_tls_is_refused(server: HttpServer) -> None:
    server.open(listener(certificate=pair))
    context = verifying()
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with connect(server.url("api")) as plain, pytest.raises((ssl.SSLError, OSError)):
        context.wrap_socket(plain, server_hostname="localhost")


def test_no_key_is_on_a_disk_or_in_an_open_file() -> None:
    before = set(Path("/proc/self/fd").iterdir())
    listeners.serving_context(pair)
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_port_that_is_taken_is_told_with_its_option(server: HttpServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=rf"127.0.0.1:{port}: .*choose another with --api-po"):
            server.open(listener(port=port))
    server.open(listener(port=port))
    assert get(server.url("api")) == {"path": "/"}


def test_listener_is_open_only_while_it_is_wanted(
    server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "_FOLLOW_SECONDS", 0.01)
    asked = _Asked()
    server.open(listener(name="debug", is_wanted=asked))
    asked.twice()
    assert not server.is_open("debug")
    asked.answer = True
    asked.twice()
    url = server.url("debug")
    assert get(url) == {"path": "/"}
    asked.answer = False
    asked.twice()
    assert not server.is_open("debug")
    with pytest.raises(ConnectionRefusedError):
        connect(url)


class _Asked:
    """A condition that knows how often it was asked."""

    def __init__(self) -> None:
        self.answer = False
        self._count = 0
        self._more = threading.Condition()

    def __call__(self) -> bool:
        with self._more:
            self._count += 1
            self._more.notify_all()
        return self.answer

    def twice(self) -> None:
        """Asked again, and what followed from an answer has been done."""
        with self._more:
            wanted = self._count + 2
            assert self._more.wait_for(lambda: self._count >= wanted, PATIENCE)


def test_what_is_being_answered_is_answered_before_the_end(server: HttpServer) -> None:
    came, may_answer = threading.Event(), threading.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        came.set()
        while not may_answer.is_set():
            await listeners.asyncio.sleep(0.01)
        await say_hello(scope, receive, send)

    server.open(listener(slow))
    url, answers = server.url("api"), []
    asking = threading.Thread(target=lambda: answers.append(get(url)))
    asking.start()
    assert came.wait(PATIENCE)
    closing = threading.Thread(target=server.close, args=("api",))
    closing.start()
    _until(lambda: _is_refused(url))
    may_answer.set()
    for thread in (asking, closing):
        thread.join(PATIENCE)
    assert answers == [{"path": "/"}]


def _is_refused(url: str) -> bool:
    try:
        connect(url).close()
    except ConnectionRefusedError:
        return True
    return False


def _until(holds: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(PATIENCE * 100):
        if holds():
            return
        pause.wait(0.01)
    raise TimeoutError


def test_leaving_server_ends_each_connection_after_its_answer(server: HttpServer) -> None:
    server.open(listener())
    with connect(server.url("api")) as early:
        server.leave()
        early.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        text = b"".join(iter(lambda: early.recv(4096), b"")).lower()
    assert b"connection: close" in text
    assert b'{"path": "/"}' in text


def test_connection_whose_headers_do_not_come_is_ended(
    server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "_HEADER_SECONDS", 0.2)
    server.open(listener())
    with connect(server.url("api")) as silent, connect(server.url("api")) as slow:
        with contextlib.suppress(OSError):
            for letter in b"GET / HTTP/1.1\r\nx: " + b"y" * 1000:
                slow.sendall(bytes([letter]))
                threading.Event().wait(0.01)
            pytest.fail("byte by byte, the headers went on for ever")
        with contextlib.suppress(ConnectionResetError):
            assert silent.recv(1) == b""


def test_headers_have_a_bound(server: HttpServer) -> None:
    server.open(listener())
    request = urllib.request.Request(server.url("api"), headers={"x": "y" * 1_000_000})
    # The answer is 400, unless the connection is closed before it is read.
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        urllib.request.urlopen(request, timeout=PATIENCE)


def test_connections_have_a_bound(server: HttpServer) -> None:
    server.open(listener(most_connections=2))
    url = server.url("api")
    with contextlib.ExitStack() as open_ones:
        for _ in range(4):
            open_ones.enter_context(connect(url))
        with contextlib.suppress(ConnectionResetError):
            assert open_ones.enter_context(connect(url)).recv(1) == b""


def test_server_stops_twice(server: HttpServer) -> None:
    server.open(listener())
    server.stop()
    server.stop()
    assert "http" not in {thread.name for thread in threading.enumerate()}
