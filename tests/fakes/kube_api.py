"""A web server that plays an API server by script: odd answers, silence, other releases."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from websocket import ABNF, WebSocket

_ACCEPT_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One answer; ``silent``: none (or no more) until the server ends."""

    status: int = 200
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)
    silent: bool = False
    chunks: tuple[bytes, ...] = ()
    """A body that comes in parts."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


class FakeApi:
    """Answers by path: each path's replies in order, its last one for ever, else 404."""

    def __init__(self) -> None:
        self.replies: dict[str, list[Reply]] = {}
        self.requests: list[Request] = []
        self.ended = threading.Event()
        self.url = ""
        self._lock = threading.Lock()

    def on(self, path: str, *replies: Reply) -> None:
        """The path is answered so."""
        self.replies[path] = list(replies)

    def serve(self, group_version: str, **plurals: str) -> None:
        """Discovery has these kinds, all namespaced."""
        path = f"/apis/{group_version}" if "/" in group_version else f"/api/{group_version}"
        resources = [
            {"name": plural, "kind": kind, "namespaced": True} for kind, plural in plurals.items()
        ]
        self.on(path, Reply(body={"kind": "APIResourceList", "resources": resources}))

    def asked(self, path: str) -> list[Request]:
        """The requests of that path."""
        with self._lock:
            return [request for request in self.requests if request.path == path]

    def take(self, request: Request) -> Reply:
        with self._lock:
            self.requests.append(request)
            replies = self.replies.get(request.path, [Reply(status=404)])
            return replies.pop(0) if len(replies) > 1 else replies[0]


@contextmanager
def running() -> Iterator[FakeApi]:
    """The server answers as long as the context lasts."""
    api = FakeApi()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"api": api}))
    server.daemon_threads = True
    api.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield api
    finally:
        api.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    """One connection to the ``api`` of a subclass."""

    api: FakeApi
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Tests need no log."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def answer(self) -> None:
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query))
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        reply = self.api.take(
            Request(
                method=self.command,
                path=url.path,
                query=query,
                headers={name.lower(): value for name, value in self.headers.items()},
                body=json.loads(text) if text else None,
            )
        )
        if reply.chunks:
            self.begin(reply.status, **{"Transfer-Encoding": "chunked"})
            for chunk in reply.chunks:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
                self.wfile.flush()
        if reply.silent:
            self.api.ended.wait(60)
            self.close_connection = True
        elif reply.chunks:
            self.wfile.write(b"0\r\n\r\n")
        elif reply.status == 101:
            self.forward(int(query["ports"]))
        else:
            self.send(reply)

    def send(self, reply: Reply) -> None:
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.begin(reply.status, **reply.headers, **{"Content-Length": str(len(body))})
        self.wfile.write(body)

    def begin(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.flush()

    def forward(self, port: int) -> None:
        """A port-forward whose Pod answers in capitals and hangs up after ``bye``."""
        key = self.headers["Sec-WebSocket-Key"] + _ACCEPT_GUID
        headers = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Accept": base64.b64encode(hashlib.sha1(key.encode()).digest()).decode(),
            "Sec-WebSocket-Protocol": self.headers["Sec-WebSocket-Protocol"],
        }
        self.begin(101, **headers)
        peer = WebSocket()
        peer.sock, peer.connected = self.connection, True
        for channel in (0, 1):
            peer.send_binary(bytes((channel, port & 255, port >> 8)))
        while True:
            opcode, data = peer.recv_data()
            if opcode != ABNF.OPCODE_BINARY or data[1:] == b"bye":
                break
            peer.send_binary(data[:1] + data[1:].upper())
        peer.send_close()
        self.close_connection = True
