"""Runs in a Pod: tells by which protocol it was asked, echoes a WebSocket, and serves gRPC.

The first port takes HTTP/1.1 and HTTP/2 without TLS, told apart by their first bytes; the second
one is a gRPC server with one method of each kind.
"""

import base64
import hashlib
import socketserver
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, HEADERS, DATA, PING = 4, 1, 0, 6
ACK, END_STREAM, END_HEADERS = 1, 1, 4
STATUS_200 = b"\x88"
"""In HPACK: entry 8 of the static table."""
WEBSOCKET_KEY = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame of HTTP/2."""
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags])
    return head + stream.to_bytes(4, "big") + payload


class Web(socketserver.StreamRequestHandler):
    """One connection of either protocol."""

    def handle(self) -> None:
        start = self.rfile.readline()
        if PREFACE.startswith(start) and start:
            self.rfile.read(len(PREFACE) - len(start))
            self._http2()
        elif start:
            self._http1(start)

    def _http1(self, start: bytes) -> None:
        headers = {}
        while line := self.rfile.readline().strip():
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        if headers.get(b"upgrade") == b"websocket":
            self._websocket(headers[b"sec-websocket-key"])
            return
        body = start.split()[2]
        self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n" % len(body))
        self.wfile.write(b"connection: close\r\n\r\n" + body)

    def _websocket(self, key: bytes) -> None:
        accept = base64.b64encode(hashlib.sha1(key + WEBSOCKET_KEY).digest())
        self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n")
        self.wfile.write(b"connection: upgrade\r\nsec-websocket-accept: " + accept + b"\r\n\r\n")
        while head := self.rfile.read(2):
            mask = self.rfile.read(4)
            text = self.rfile.read(head[1] & 0x7F)
            plain = bytes(byte ^ mask[place % 4] for place, byte in enumerate(text))
            self.wfile.write(bytes([head[0], len(plain)]) + plain)

    def _http2(self) -> None:
        self.wfile.write(frame(SETTINGS, 0, 0))
        while head := self.rfile.read(9):
            kind, flags = head[3], head[4]
            stream = int.from_bytes(head[5:], "big")
            payload = self.rfile.read(int.from_bytes(head[:3], "big"))
            if kind == SETTINGS and not flags & ACK:
                self.wfile.write(frame(SETTINGS, ACK, 0))
            elif kind == PING and not flags & ACK:
                self.wfile.write(frame(PING, ACK, 0, payload))
            elif kind == HEADERS:
                self.wfile.write(frame(HEADERS, END_HEADERS, stream, STATUS_200))
                self.wfile.write(frame(DATA, END_STREAM, stream, b"HTTP/2"))


class Server(socketserver.ThreadingTCPServer):
    """Takes many connections at once."""

    allow_reuse_address = daemon_threads = True


def echo(name: bytes, _: Any) -> bytes:
    """The name again."""
    return name


def count(name: bytes, _: Any) -> Iterator[bytes]:
    """As many answers as the name has letters."""
    for number in range(len(name)):
        yield str(number + 1).encode()


def chat(words: Iterable[bytes], _: Any) -> Iterator[bytes]:
    """An answer to each word as it comes."""
    for word in words:
        yield word + b"!"


def fail(name: bytes, context: Any) -> None:
    """A status of gRPC's own, in trailers."""
    context.abort(grpc.StatusCode.NOT_FOUND, f"nobody is called {name.decode()}")


def main(web: int, rpc: int) -> None:
    """Serve both ports until killed."""
    methods = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "Count": grpc.unary_stream_rpc_method_handler(count),
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
    }
    server = grpc.server(ThreadPoolExecutor(4))
    handlers = [grpc.method_handlers_generic_handler("test.Speaker", methods)]
    server.add_generic_rpc_handlers(handlers)
    server.add_insecure_port(f"0.0.0.0:{rpc}")
    server.start()
    Server(("", web), Web).serve_forever(0.05)


main(int(sys.argv[1]), int(sys.argv[2]))
