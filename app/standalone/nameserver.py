"""The mesh's DNS server: a process of its own, so that Pods resolve names while no controller runs.

Run by dns.py as ``python -I -S nameserver.py ADDRESS ZONE`` in the node's namespace, as an ordinary
user; standard library only. Answers A from the zone file, which it reads anew when it was replaced;
a name without such addresses has no AAAA; any other name does not exist: the mesh forwards nothing.
Source: RFC 1035 section 4 (messages), RFC 2308 (negative answers), RFC 6891 (EDNS: sizes over UDP).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import sys
import threading

TTL_SECONDS = 5
"""Short, because Services change while clients look."""
CLASSIC_SIZE, LARGEST_SIZE = 512, 1232
TYPE_A, TYPE_SOA, TYPE_OPT, TYPE_ANY = 1, 6, 41, 255
CLASS_IN = 1
NO_ERROR, FORMAT_ERROR, NO_SUCH_NAME, NOT_IMPLEMENTED = 0, 1, 3, 4
RESPONSE, AUTHORITATIVE, TRUNCATED, RECURSION_DESIRED, RECURSION_AVAILABLE = (
    0x8000,
    0x0400,
    0x0200,
    0x0100,
    0x0080,
)
_HEADER = struct.Struct("!6H")
_TCP_SECONDS = 5.0
_TCP_CONNECTIONS = 64


class Zone:
    """Names and addresses of the file as it is now; while it is unreadable, as it was."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._names: dict[str, list[str]] = {}
        self._parents: set[str] = set()
        self._turns: dict[str, int] = {}

    def lookup(self, name: str) -> list[str] | None:
        """Addresses in an order that turns with each call; None when there is no such name."""
        self._refresh()
        key = name.lower()
        addresses = self._names.get(key)
        if not addresses:
            return [] if addresses is not None or key in self._parents else None
        turn = self._turns[key] = (self._turns.get(key, -1) + 1) % len(addresses)
        return addresses[turn:] + addresses[:turn]

    def _refresh(self) -> None:
        try:
            status = os.stat(self._path)
            seen = (status.st_ino, status.st_mtime_ns)
            if seen == self._seen:
                return
            with open(self._path, encoding="utf-8") as file:
                names = json.load(file)["names"]
        except (OSError, ValueError, KeyError):
            return
        self._seen = seen
        self._names = {name.lower(): list(addresses) for name, addresses in names.items()}
        self._parents = {
            name.split(".", cut)[cut]
            for name in self._names
            for cut in range(1, name.count(".") + 1)
        }
        self._turns = {}


def answer(zone: Zone, query: bytes, largest: int | None) -> bytes | None:
    """The message to send back, over UDP at most ``largest`` bytes; None for what is no query."""
    if len(query) < _HEADER.size:
        return None
    identity, flags, questions, answers, authorities, extras = _HEADER.unpack_from(query)
    if flags & RESPONSE:
        return None
    kept = RESPONSE | AUTHORITATIVE | RECURSION_AVAILABLE | flags & (0x7800 | RECURSION_DESIRED)
    if flags & 0x7800:
        return _HEADER.pack(identity, kept | NOT_IMPLEMENTED, 0, 0, 0, 0)
    refusal = _HEADER.pack(identity, kept | FORMAT_ERROR, 0, 0, 0, 0)
    if questions != 1 or answers or authorities:
        return refusal
    try:
        name, end = read_name(query, _HEADER.size)
        kind, group = struct.unpack_from("!2H", query, end)
        size = read_size(query, end + 4, extras)
    except (ValueError, struct.error, IndexError):
        return refusal
    question = query[_HEADER.size : end + 4]
    found = zone.lookup(name) if group == CLASS_IN else None
    code = NO_SUCH_NAME if found is None else NO_ERROR
    records = [record(address) for address in found or () if kind in (TYPE_A, TYPE_ANY)]
    option = b"\0" + struct.pack("!2HIH", TYPE_OPT, LARGEST_SIZE, 0, 0) if size else b""
    if largest is not None:
        room = min(largest, size or CLASSIC_SIZE) - _HEADER.size - len(question) - len(option)
        fitting = max(0, room // 16)
        kept |= TRUNCATED if len(records) > fitting else 0
        records = records[:fitting]
    header = _HEADER.pack(identity, kept | code, 1, len(records), 0, 1 if option else 0)
    return header + question + b"".join(records) + option


def record(address: str) -> bytes:
    """An A record of the question's name (a pointer to it), 16 bytes."""
    return struct.pack("!3HIH", 0xC00C, TYPE_A, CLASS_IN, TTL_SECONDS, 4) + socket.inet_aton(
        address
    )


def read_name(message: bytes, start: int) -> tuple[str, int]:
    """A name without compression, and where it ends; raise ValueError for any other."""
    labels, position = [], start
    while length := message[position]:
        if length > 63 or position - start > 255:  # noqa: PLR2004 RFC 1035, 2.3.4
            raise ValueError("a label is too long, or a pointer")
        labels.append(message[position + 1 : position + 1 + length].decode("ascii"))
        position += 1 + length
    return ".".join(labels), position + 1


def read_size(message: bytes, start: int, extras: int) -> int:
    """How long an answer the client takes over UDP, by its OPT record; 0 when it sent none."""
    if not extras or message[start] != 0:
        return 0
    kind, size = struct.unpack_from("!2H", message, start + 1)
    return max(CLASSIC_SIZE, size) if kind == TYPE_OPT else 0


def serve_datagrams(zone: Zone, listener: socket.socket, lock: threading.Lock) -> None:
    """Answers queries over UDP, for ever."""
    while True:
        query, client = listener.recvfrom(4096)
        with lock:
            reply = answer(zone, query, LARGEST_SIZE)
        if reply:
            with contextlib.suppress(OSError):  # a client that has gone
                listener.sendto(reply, client)


def serve_connections(zone: Zone, listener: socket.socket, lock: threading.Lock) -> None:
    """Answers queries over TCP, for ever; each connection has a thread and few seconds."""
    places = threading.BoundedSemaphore(_TCP_CONNECTIONS)
    while True:
        connection, _ = listener.accept()
        places.acquire()
        arguments = (zone, connection, lock, places)
        threading.Thread(target=serve_connection, args=arguments, daemon=True).start()


def serve_connection(
    zone: Zone, connection: socket.socket, lock: threading.Lock, places: threading.BoundedSemaphore
) -> None:
    """Answers the queries of one connection until the client ends it or is slow."""
    try:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(_TCP_SECONDS)
            while length := receive(connection, 2):
                query = receive(connection, int.from_bytes(length, "big"))
                with lock:
                    reply = answer(zone, query, None)
                if reply is None:
                    return
                connection.sendall(len(reply).to_bytes(2, "big") + reply)
    finally:
        places.release()


def receive(connection: socket.socket, length: int) -> bytes:
    """Exactly so many bytes; empty when the client ended before."""
    received = b""
    while len(received) < length:
        piece = connection.recv(length - len(received))
        if not piece:
            return b""
        received += piece
    return received


def main(address: str, zone_path: str) -> None:
    """Serves for ever."""
    zone, lock = Zone(zone_path), threading.Lock()
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind((address, 53))
    connections = socket.create_server((address, 53), backlog=128)
    arguments = (zone, connections, lock)
    threading.Thread(target=serve_connections, args=arguments, daemon=True).start()
    serve_datagrams(zone, datagrams, lock)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
