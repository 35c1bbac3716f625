"""The DNS server's answers, message by message, read by code of the test's own."""

import json
import socket
import struct
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.standalone import dns, nameserver

A, AAAA, PTR, ANY = 1, 28, 12, 255
NAMES = {
    "web.shop.svc.cluster.local": ["10.43.0.16"],
    "db.shop.svc.cluster.local": ["10.42.0.16", "10.42.0.17", "10.42.0.18"],
    "idle.shop.svc.cluster.local": [],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    code: int
    addresses: tuple[str, ...] = ()
    truncated: bool = False
    option: bool = False


def _zone(tmp_path: Path, names: dict[str, list[str]] | None = None) -> nameserver.Zone:
    dns.write_zone(tmp_path / "zone.json", NAMES if names is None else names)
    return nameserver.Zone(str(tmp_path / "zone.json"))


def _query(name: str, kind: int = A, *, size: int = 0, group: int = 1) -> bytes:
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    option = b"\0" + struct.pack("!2HIH", 41, size, 0, 0) if size else b""
    header = struct.pack("!6H", 4711, 0x0100, 1, 0, 0, 1 if size else 0)
    return header + labels + b"\0" + struct.pack("!2H", kind, group) + option


def _read(query: bytes, reply: bytes | None) -> Answer:
    assert reply is not None
    identity, flags, questions, answers, authorities, extras = struct.unpack_from("!6H", reply)
    assert (identity, flags & 0x8580, authorities) == (4711, 0x8580, 0)
    position = 12
    if questions:
        end = query.index(b"\0", 12) + 5
        assert reply[12:end] == query[12:end]
        position = end
    addresses = []
    for _ in range(answers):
        pointer, kind, group, ttl, length = struct.unpack_from("!3HIH", reply, position)
        assert (pointer, kind, group, ttl, length) == (0xC00C, A, 1, 5, 4)
        addresses.append(socket.inet_ntoa(reply[position + 12 : position + 16]))
        position += 16
    if extras:
        assert struct.unpack_from("!B2H", reply, position) == (0, 41, 1232)
        position += 11
    assert position == len(reply)
    return Answer(
        code=flags & 0xF,
        addresses=tuple(addresses),
        truncated=bool(flags & 0x200),
        option=bool(extras),
    )


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        pytest.param(
            _query("web.shop.svc.cluster.local"),
            Answer(code=0, addresses=("10.43.0.16",)),
            id="known",
        ),
        pytest.param(
            _query("WEB.Shop.svc.cluster.LOCAL"),
            Answer(code=0, addresses=("10.43.0.16",)),
            id="case-does-not-matter",
        ),
        pytest.param(
            _query("web.shop.svc.cluster.local", ANY),
            Answer(code=0, addresses=("10.43.0.16",)),
            id="any-type",
        ),
        pytest.param(_query("web.shop.svc.cluster.local", AAAA), Answer(code=0), id="no-ipv6"),
        pytest.param(_query("idle.shop.svc.cluster.local"), Answer(code=0), id="no-address"),
        pytest.param(_query("svc.cluster.local"), Answer(code=0), id="parent-of-names"),
        pytest.param(_query("other.shop.svc.cluster.local"), Answer(code=3), id="unknown"),
        pytest.param(_query("web.shop.svc"), Answer(code=3), id="suffixes-are-the-clients-task"),
        pytest.param(_query("example.com", AAAA), Answer(code=3), id="outside"),
        pytest.param(_query("16.0.42.10.in-addr.arpa", PTR), Answer(code=3), id="reverse"),
        pytest.param(
            _query("web.shop.svc.cluster.local", group=3), Answer(code=3), id="another-class"
        ),
        pytest.param(
            _query("web.shop.svc.cluster.local", size=1400),
            Answer(code=0, addresses=("10.43.0.16",), option=True),
            id="edns-is-answered",
        ),
    ],
)
def test_answers(tmp_path: Path, query: bytes, answer: Answer) -> None:
    assert _read(query, nameserver.answer(_zone(tmp_path), query, 1232)) == answer


def test_addresses_take_turns(tmp_path: Path) -> None:
    zone, query = _zone(tmp_path), _query("db.shop.svc.cluster.local")
    first = [_read(query, nameserver.answer(zone, query, 1232)).addresses[0] for _ in range(4)]
    assert first == ["10.42.0.16", "10.42.0.17", "10.42.0.18", "10.42.0.16"]


@pytest.mark.parametrize(
    ("size", "largest", "shown", "truncated"),
    [
        pytest.param(0, 1232, 29, True, id="classic-size"),
        pytest.param(100, 1232, 28, True, id="edns-below-the-classic-size"),
        pytest.param(4096, 1232, 73, True, id="edns-up-to-ours"),
        pytest.param(0, None, 100, False, id="tcp-has-room-for-all"),
    ],
)
def test_long_answers_are_cut_over_udp(
    tmp_path: Path, size: int, largest: int | None, shown: int, truncated: bool
) -> None:
    zone = _zone(tmp_path, {"db.shop.svc.cluster.local": [f"10.42.1.{n}" for n in range(100)]})
    query = _query("db.shop.svc.cluster.local", size=size)
    reply = nameserver.answer(zone, query, largest)
    answer = _read(query, reply)
    assert (len(answer.addresses), answer.truncated) == (shown, truncated)
    assert reply is not None
    assert largest is None or len(reply) <= max(512, min(size, 1232))


@pytest.mark.parametrize(
    "query",
    [
        pytest.param(_query("web.shop")[:-1], id="cut-short"),
        pytest.param(_query("web.shop")[:12], id="no-question"),
        pytest.param(struct.pack("!6H", 4711, 0x0100, 2, 0, 0, 0), id="two-questions"),
        pytest.param(_query("web.shop")[:12] + b"\xc0\x0c\0\1\0\1", id="pointer-to-itself"),
        pytest.param(_query("web.shop")[:12] + b"\3\xff\xff\xff\0\0\1\0\1", id="not-ascii"),
        pytest.param(_query("web.shop")[:12] + b"\x3f" + b"a" * 63, id="name-runs-out"),
    ],
)
def test_malformed_queries_are_refused(tmp_path: Path, query: bytes) -> None:
    assert _read(query, nameserver.answer(_zone(tmp_path), query, 1232)) == Answer(code=1)


@pytest.mark.parametrize(
    ("query", "reply"),
    [
        pytest.param(b"", None, id="empty"),
        pytest.param(b"short", None, id="no-header"),
        pytest.param(struct.pack("!6H", 1, 0x8180, 1, 0, 0, 0), None, id="an-answer-is-no-query"),
        pytest.param(
            struct.pack("!6H", 1, 0x2800, 1, 0, 0, 0),
            struct.pack("!6H", 1, 0xAC84, 0, 0, 0, 0),
            id="update-is-not-implemented",
        ),
    ],
)
def test_what_is_no_query(tmp_path: Path, query: bytes, reply: bytes | None) -> None:
    assert nameserver.answer(_zone(tmp_path), query, 1232) == reply


def test_the_zone_follows_its_file(tmp_path: Path) -> None:
    zone, path = _zone(tmp_path), tmp_path / "zone.json"
    assert zone.lookup("new.shop") is None
    dns.write_zone(path, {"new.shop": ["10.43.0.17"]})
    assert (zone.lookup("new.shop"), zone.lookup("web.shop.svc.cluster.local")) == (
        ["10.43.0.17"],
        None,
    )


@pytest.mark.parametrize(
    "content", [pytest.param("{", id="torn"), pytest.param("{}", id="no-names")]
)
def test_a_bad_file_changes_nothing(tmp_path: Path, content: str) -> None:
    zone, path = _zone(tmp_path), tmp_path / "zone.json"
    assert zone.lookup("web.shop.svc.cluster.local") == ["10.43.0.16"]
    path.write_text(content)
    assert zone.lookup("web.shop.svc.cluster.local") == ["10.43.0.16"]
    path.unlink()
    assert zone.lookup("web.shop.svc.cluster.local") == ["10.43.0.16"]


def test_a_zone_without_a_file_knows_no_name(tmp_path: Path) -> None:
    assert nameserver.Zone(str(tmp_path / "missing.json")).lookup("web.shop") is None


def test_the_written_zone_is_sorted_and_readable_by_all(tmp_path: Path) -> None:
    path = dns.zone_path(tmp_path)
    dns.write_zone(path, {"b.shop": ["10.43.0.17"], "a.shop": ["10.43.0.16"]})
    assert json.loads(path.read_text()) == {
        "names": {"a.shop": ["10.43.0.16"], "b.shop": ["10.43.0.17"]}
    }
    assert list(json.loads(path.read_text())["names"]) == ["a.shop", "b.shop"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_connection_carries_many_queries(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    places = threading.BoundedSemaphore(1)
    places.acquire()
    arguments = (_zone(tmp_path), theirs, threading.Lock(), places)
    server = threading.Thread(target=nameserver.serve_connection, args=arguments)
    server.start()
    with ours:
        for _ in range(2):
            query = _query("web.shop.svc.cluster.local")
            ours.sendall(len(query).to_bytes(2, "big") + query)
            length = int.from_bytes(nameserver.receive(ours, 2), "big")
            answer = _read(query, nameserver.receive(ours, length))
            assert answer == Answer(code=0, addresses=("10.43.0.16",))
    server.join(timeout=5)
    assert not server.is_alive()
    assert places.acquire(blocking=False)
