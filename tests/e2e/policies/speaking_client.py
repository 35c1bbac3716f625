"""Runs in a Pod beside a sidecar: calls the speaker and prints what it heard, as JSON."""

import json
import queue
import socket
import sys
from collections.abc import Callable, Iterator

import grpc

HOST = "speaker.shop"
SECONDS = 10.0


def echo(channel: grpc.Channel) -> list[str]:
    """One answer to one message."""
    return [channel.unary_unary("/test.Speaker/Echo")(b"ann", timeout=SECONDS).decode()]


def count(channel: grpc.Channel) -> list[str]:
    """Many answers to one message."""
    answers = channel.unary_stream("/test.Speaker/Count")(b"ann", timeout=SECONDS)
    return [answer.decode() for answer in answers]


def chat(channel: grpc.Channel) -> list[str]:
    """Each word is sent when the one before was answered: nothing on the way may wait for more."""
    words: queue.Queue[bytes] = queue.Queue()

    def said() -> Iterator[bytes]:
        yield from iter(words.get, b"")

    heard = []
    words.put(b"a")
    for answer in channel.stream_stream("/test.Speaker/Chat")(said(), timeout=SECONDS):
        heard.append(answer.decode())
        words.put({b"a!": b"b", b"b!": b"c"}.get(answer, b""))
    return heard


def fail(channel: grpc.Channel) -> list[str]:
    """A call that the server refuses."""
    channel.unary_unary("/test.Speaker/Fail")(b"ann", timeout=SECONDS)
    return []


def websocket() -> list[str]:
    """Status of the upgrade, and the echo of two messages."""
    with socket.create_connection((HOST, 7000), timeout=SECONDS) as connection:
        stream = connection.makefile("rwb")
        stream.write(
            b"GET /socket HTTP/1.1\r\nhost: speaker.shop:7000\r\nupgrade: websocket\r\n"
            b"connection: upgrade\r\nsec-websocket-version: 13\r\n"
            b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        stream.flush()
        heard = [stream.readline().split()[1].decode()]
        while stream.readline().strip():
            pass
        for text in (b"hello", b"again"):
            mask = b"\1\2\3\4"
            masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(text))
            stream.write(bytes([0x81, 0x80 | len(text)]) + mask + masked)
            stream.flush()
            head = stream.read(2)
            heard.append(stream.read(head[1]).decode())
        return heard


def main(what: str) -> list[str]:
    """What was heard; the status of gRPC where a call failed."""
    if what == "websocket":
        return websocket()
    calls: dict[str, Callable[[grpc.Channel], list[str]]] = {
        "echo": echo,
        "count": count,
        "chat": chat,
        "fail": fail,
    }
    with grpc.insecure_channel(f"{HOST}:7001") as channel:
        try:
            return calls[what](channel)
        except grpc.RpcError as error:
            return [error.code().name, error.details()]


sys.stdout.write(json.dumps(main(sys.argv[1])))
