"""The two encodings of the protocol, state-of-the-world and delta: bytes ↔ Request, Push.

A request is decoded into plain values, so the state machine never sees protobuf. A push is encoded
by hand: its resources are bytes already, and a protobuf message may be put together from pieces.
The piece that holds the resources is made once and shared by all streams that are sent the same
ones; version and nonce are added per stream. Called by the gRPC servicer. Specification: data-plane
7.3, 7.4; https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from xds.protos import DecodeError, DeltaDiscoveryRequest, DiscoveryRequest
from xds.resource import MeshError, Resource, ResourceKind

MAX_NAMES = 100_000
"""Most names a client may want of one kind: ten times those of the largest mesh."""

_MAX_ERROR = 4096
_LENGTH_DELIMITED = 2
_SHARED_BYTES = 8 * 1024 * 1024


class ProtocolError(MeshError):
    """A request is not of the xDS protocol; its stream is closed with INVALID_ARGUMENT."""

    code = "E5012"


class Protocol(StrEnum):
    """The two forms of the discovery protocol."""

    SOTW = "state of the world"
    DELTA = "delta"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client asked, in either protocol."""

    type_url: str
    node_id: str = ""
    """Only in the first request of a stream."""
    nonce: str = ""
    """Of the response that this answers; empty when it answers none."""
    error: str | None = None
    """Envoy's text when it refuses that response."""
    names: frozenset[str] = frozenset()
    """State of the world: all names wanted. Delta: names wanted in addition."""
    unsubscribe: frozenset[str] = frozenset()
    """Delta only."""
    initial_versions: Mapping[str, str] = field(default_factory=dict)
    """Delta only, first request of a kind: what the client holds from an earlier stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """One response the server decided to send."""

    kind: ResourceKind
    version: str
    """Version of the kind in the set that is being sent."""
    nonce: str
    resources: tuple[Resource, ...] = ()
    removed: tuple[str, ...] = ()
    """Delta only: names the client is to forget, or need not wait for."""


def decode(protocol: Protocol, payload: bytes) -> Request:
    """The request in the bytes; raise :class:`ProtocolError` when they hold none."""
    try:
        if protocol is Protocol.DELTA:
            return _decode_delta(payload)
        return _decode_sotw(payload)
    except DecodeError as error:
        raise ProtocolError("the request is not a discovery request of xDS v3") from error


class Encoder:
    """Turns pushes into bytes; all streams share one, from any thread.

    The encoded resources of recent pushes are kept, at most 16 MiB, in two generations: when the
    young one is full it becomes the old one. Each step is one atomic assignment, so no lock is
    needed; the worst that a race costs is one body encoded twice.
    """

    __slots__ = ("_old", "_size", "_young")

    def __init__(self) -> None:
        self._young: dict[tuple[Protocol, tuple[Resource, ...]], bytes] = {}
        self._old: dict[tuple[Protocol, tuple[Resource, ...]], bytes] = {}
        self._size = 0

    def encode(self, protocol: Protocol, push: Push) -> bytes:
        """The push as a DiscoveryResponse or DeltaDiscoveryResponse."""
        return b"".join(
            (
                _text(1, push.version),
                self._resources(protocol, push.resources),
                _text(4, push.kind.type_url),
                _text(5, push.nonce),
                *(_text(6, name) for name in push.removed if protocol is Protocol.DELTA),
            )
        )

    def _resources(self, protocol: Protocol, resources: tuple[Resource, ...]) -> bytes:
        key = (protocol, resources)
        found = self._young.get(key) or self._old.get(key)
        if found is None:
            found = b"".join(_wrap(protocol, resource) for resource in resources)
            self._remember(key, found)
        return found

    def _remember(self, key: tuple[Protocol, tuple[Resource, ...]], encoded: bytes) -> None:
        if self._size + len(encoded) > _SHARED_BYTES:
            self._old, self._young, self._size = self._young, {}, 0
        if len(encoded) <= _SHARED_BYTES:
            self._young[key] = encoded
            self._size += len(encoded)


def _decode_sotw(payload: bytes) -> Request:
    message = DiscoveryRequest.FromString(payload)
    return Request(
        type_url=message.type_url,
        node_id=message.node.id,
        nonce=message.response_nonce,
        error=_error(message),
        names=_names(message.resource_names),
    )


def _decode_delta(payload: bytes) -> Request:
    message = DeltaDiscoveryRequest.FromString(payload)
    held = message.initial_resource_versions
    _check_count(len(held))
    return Request(
        type_url=message.type_url,
        node_id=message.node.id,
        nonce=message.response_nonce,
        error=_error(message),
        names=_names(message.resource_names_subscribe),
        unsubscribe=_names(message.resource_names_unsubscribe),
        initial_versions={sys.intern(n): sys.intern(v) for n, v in held.items()},
    )


def _error(message: DiscoveryRequest | DeltaDiscoveryRequest) -> str | None:
    """The client's refusal, bounded: it is logged, and kept while the proxy is listed."""
    return message.error_detail.message[:_MAX_ERROR] if message.HasField("error_detail") else None


def _names(names: Iterable[str]) -> frozenset[str]:
    # Interned: a thousand proxies that name the same services share the strings.
    found = frozenset(map(sys.intern, names))
    _check_count(len(found))
    return found


def _check_count(count: int) -> None:
    if count > MAX_NAMES:
        raise ProtocolError(f"a request names {count} resources; at most {MAX_NAMES} are accepted")


def _wrap(protocol: Protocol, resource: Resource) -> bytes:
    packed = (_text(1, resource.kind.type_url), _field(2, resource.body))
    if protocol is Protocol.SOTW:
        return _field(2, *packed)
    return _field(2, _text(3, resource.name), _text(1, resource.version), _field(2, *packed))


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode()) if text else b""


def _field(number: int, *pieces: bytes) -> bytes:
    length = sum(map(len, pieces))
    return b"".join((_varint(number << 3 | _LENGTH_DELIMITED), _varint(length), *pieces))


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:  # noqa: PLR2004
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
