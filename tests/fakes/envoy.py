"""A scripted Envoy: one discovery stream over gRPC, in either protocol, for tests and benchmarks.

The test says what it asks and how it answers; a thread collects what comes. Every wait has a
deadline.
"""

from __future__ import annotations

import queue
from dataclasses import dataclass
from threading import Thread
from typing import Self

import grpc

from xds.protos import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
    Node,
    Status,
)
from xds.resource import ResourceKind
from xds.stream.wire import Protocol

ADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"
METHODS = {
    ("ADS", Protocol.SOTW): ADS + "StreamAggregatedResources",
    ("ADS", Protocol.DELTA): ADS + "DeltaAggregatedResources",
    ("SDS", Protocol.SOTW): "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
    ("SDS", Protocol.DELTA): "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets",
}
WAIT_SECONDS = 10.0
_OPTIONS = (
    ("grpc.ssl_target_name_override", "ads.cluster.local"),
    ("grpc.max_receive_message_length", -1),
    # Streams of one process must not share a connection: each stands for a proxy of its own.
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True, kw_only=True)
class Keys:
    """What a client shows and whom it trusts, PEM."""

    roots: bytes
    chain: bytes | None = None
    key: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class Response:
    """What came from the server."""

    kind: ResourceKind
    version: str
    nonce: str
    bodies: dict[str, bytes]
    """By name; in state of the world the name is the body, as tests make them equal."""
    removed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ended:
    """The stream is over."""

    code: grpc.StatusCode
    details: str


class FakeEnvoy:
    """One stream; a context manager that closes it."""

    def __init__(
        self,
        port: int,
        keys: Keys,
        *,
        node_id: str,
        protocol: Protocol = Protocol.DELTA,
        service: str = "ADS",
    ) -> None:
        self._protocol = protocol
        self._node = Node(id=node_id)
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._events: queue.SimpleQueue[Response | Ended] = queue.SimpleQueue()
        credentials = grpc.ssl_channel_credentials(keys.roots, keys.key, keys.chain)
        self._channel = grpc.secure_channel(f"127.0.0.1:{port}", credentials, _OPTIONS)
        call = self._channel.stream_stream(METHODS[service, protocol])
        self._responses = call(iter(self._requests.get, None))
        self.names: dict[ResourceKind, tuple[str, ...]] = {}
        self.nonces: dict[ResourceKind, str] = {}
        self._reader = Thread(target=self._collect, name="fake-envoy", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """The connection is gone."""
        self._requests.put(None)
        self._responses.cancel()
        self._channel.close()
        self._reader.join(WAIT_SECONDS)

    def subscribe(
        self, kind: ResourceKind, *names: str, held: dict[str, str] | None = None
    ) -> None:
        """Ask for a kind, or for more names of it."""
        self.names[kind] = (*self.names.get(kind, ()), *names)
        if self._protocol is Protocol.DELTA:
            self._send(
                DeltaDiscoveryRequest(
                    type_url=kind.type_url,
                    resource_names_subscribe=names,
                    initial_resource_versions=held or {},
                )
            )
        else:
            self._send(self._sotw(kind))

    def answer(self, response: Response, error: str | None = None) -> None:
        """Take the response, or refuse it in these words."""
        self.nonces[response.kind] = response.nonce
        detail = None if error is None else Status(code=13, message=error)
        if self._protocol is Protocol.DELTA:
            self._send(
                DeltaDiscoveryRequest(
                    type_url=response.kind.type_url,
                    response_nonce=response.nonce,
                    error_detail=detail,
                )
            )
        else:
            self._send(self._sotw(response.kind, detail))

    def send_bytes(self, payload: bytes) -> None:
        """Send what may be no request at all."""
        self._requests.put(payload)

    def next(self) -> Response:
        """The next response; an ended stream is a failure."""
        event = self._events.get(timeout=WAIT_SECONDS)
        assert isinstance(event, Response), event
        return event

    def take(self) -> Response:
        """The next response, accepted."""
        response = self.next()
        self.answer(response)
        return response

    def ended(self) -> Ended:
        """How the stream ended; responses before that are passed over."""
        while True:
            event = self._events.get(timeout=WAIT_SECONDS)
            if isinstance(event, Ended):
                return event

    def is_silent(self) -> bool:
        """True when the server has sent nothing that was not looked at.

        Delta: what is owed in answer to a name that does not exist comes after all that was sent
        before.
        """
        self.subscribe(ResourceKind.SDS, "no such secret")
        response = self.take()
        return response.removed == ("no such secret",) and not response.bodies

    def _sotw(self, kind: ResourceKind, detail: Status | None = None) -> DiscoveryRequest:
        return DiscoveryRequest(
            type_url=kind.type_url,
            resource_names=self.names.get(kind, ()),
            response_nonce=self.nonces.get(kind, ""),
            error_detail=detail,
        )

    def _send(self, message: DiscoveryRequest | DeltaDiscoveryRequest) -> None:
        message.node.CopyFrom(self._node)
        self._node = Node()
        self._requests.put(message.SerializeToString())

    def _collect(self) -> None:
        try:
            for payload in self._responses:
                self._events.put(self._read(payload))
        except grpc.RpcError as error:
            self._events.put(Ended(error.code(), error.details()))
        else:
            self._events.put(Ended(self._responses.code(), self._responses.details()))

    def _read(self, payload: bytes) -> Response:
        if self._protocol is Protocol.DELTA:
            delta = DeltaDiscoveryResponse.FromString(payload)
            return Response(
                kind=_kind(delta.type_url),
                version=delta.system_version_info,
                nonce=delta.nonce,
                bodies={r.name: r.resource.value for r in delta.resources},
                removed=tuple(delta.removed_resources),
            )
        sotw = DiscoveryResponse.FromString(payload)
        return Response(
            kind=_kind(sotw.type_url),
            version=sotw.version_info,
            nonce=sotw.nonce,
            bodies={r.value.decode(): r.value for r in sotw.resources},
        )


def _kind(type_url: str) -> ResourceKind:
    kind = ResourceKind.from_type_url(type_url)
    assert kind is not None, type_url
    return kind
