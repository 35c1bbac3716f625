"""What goes over the wire between Pods, read from the node's bridge."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from app.standalone import namespaces

NODE = "osm-osm@node"
_ALL_PROTOCOLS = 0x0003
_IPV4 = 0x0800
_TCP = 6


@contextmanager
def captured_between_pods(addresses: set[str], node: str = NODE) -> Iterator[list[bytes]]:
    """TCP payloads between the addresses while inside; the list is complete afterwards."""
    sniffer = namespaces.inside(node, open_sniffer)
    payloads: list[bytes] = []
    ended = threading.Event()
    thread = threading.Thread(target=sniff, args=(sniffer, addresses, payloads, ended))
    thread.start()
    try:
        yield payloads
    finally:
        ended.set()
        thread.join()
        sniffer.close()


def open_sniffer() -> socket.socket:
    sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL_PROTOCOLS))
    sniffer.settimeout(0.2)
    return sniffer


def sniff(
    sniffer: socket.socket, addresses: set[str], payloads: list[bytes], ended: threading.Event
) -> None:
    while not ended.is_set():
        try:
            packet, (_, protocol, *_) = sniffer.recvfrom(65535)
        except TimeoutError:
            continue
        payload = payload_between(packet, addresses) if protocol == _IPV4 else b""
        if payload:
            payloads.append(payload)


def payload_between(packet: bytes, addresses: set[str]) -> bytes:
    """The TCP payload of an IPv4 packet between two of the addresses; else nothing."""
    header = (packet[0] & 0x0F) * 4
    (total,) = struct.unpack_from("!H", packet, 2)
    ends = {socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])}
    if packet[9] != _TCP or not ends <= addresses:
        return b""
    return packet[header + (packet[header + 12] >> 4) * 4 : total]
