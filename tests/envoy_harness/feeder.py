"""The smallest ADS server that a real Envoy takes: delta only, one proxy, a unix socket, no TLS.

Tests feed it resources and ask what Envoy acknowledged or refused. It knows no order and no policy;
the server of the product is tested elsewhere.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc

from xds.protos import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryResource,
    StreamAccessLogsMessage,
    StreamAccessLogsResponse,
)
from xds.resource import Resource, ResourceKind

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
ALS = "envoy.service.accesslog.v3.AccessLogService"
DEADLINE_SECONDS = 20.0


class AdsFeeder:
    """Feeds one Envoy; a context manager. ``nacks`` holds (kind, Envoy's text)."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.nacks: list[tuple[ResourceKind, str]] = []
        self._changed = threading.Condition()
        self._wanted: dict[ResourceKind, dict[str, Resource]] = {k: {} for k in ResourceKind}
        self._sent: dict[ResourceKind, dict[str, str]] = {k: {} for k in ResourceKind}
        self._asked: dict[ResourceKind, set[str]] = {k: set() for k in ResourceKind}
        self._open: dict[str, ResourceKind] = {}
        self._acked: set[ResourceKind] = set()
        self._nonce = 0
        self._tapped: list[str] = []
        self._outbox: queue.SimpleQueue[DeltaDiscoveryResponse | None] = queue.SimpleQueue()
        self._server = grpc.server(ThreadPoolExecutor(max_workers=4))

    def __enter__(self) -> Self:
        handler = grpc.stream_stream_rpc_method_handler(
            self._stream,
            request_deserializer=DeltaDiscoveryRequest.FromString,
            response_serializer=DeltaDiscoveryResponse.SerializeToString,
        )
        generic = grpc.method_handlers_generic_handler(
            SERVICE, {"DeltaAggregatedResources": handler}
        )
        logs = grpc.method_handlers_generic_handler(
            ALS,
            {
                "StreamAccessLogs": grpc.stream_unary_rpc_method_handler(
                    self._log,
                    request_deserializer=StreamAccessLogsMessage.FromString,
                    response_serializer=StreamAccessLogsResponse.SerializeToString,
                )
            },
        )
        self._server.add_generic_rpc_handlers((generic, logs))
        self._server.add_insecure_port(f"unix:{self.socket}")
        self._server.start()
        self.socket.chmod(0o777)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._outbox.put(None)
        self._server.stop(grace=0).wait()

    def feed(self, resources: Iterable[Resource]) -> None:
        """The set is what Envoy shall have; what differs is sent."""
        with self._changed:
            self._wanted = {k: {} for k in ResourceKind}
            for resource in resources:
                self._wanted[resource.kind][resource.name] = resource
            for kind, wanted in self._wanted.items():
                if {name: r.version for name, r in wanted.items()} != self._sent[kind]:
                    self._acked.discard(kind)
                self._send(kind)

    def settled(self, kinds: Iterable[ResourceKind] = ()) -> list[tuple[ResourceKind, str]]:
        """The NACKs, once nothing is open and what is fed of the kinds was acknowledged."""
        awaited = set(kinds)
        with self._changed:
            ready = self._changed.wait_for(
                lambda: (not self._open and awaited <= self._acked) or self.nacks,
                timeout=DEADLINE_SECONDS,
            )
            assert ready, f"waiting for {awaited - self._acked}, open {self._open}"
            return list(self.nacks)

    def tapped(self, count: int) -> list[str]:
        """Paths of the requests that the tap has reported, once there are so many."""
        with self._changed:
            ready = self._changed.wait_for(
                lambda: len(self._tapped) >= count, timeout=DEADLINE_SECONDS
            )
            assert ready, self._tapped
            return list(self._tapped)

    def _log(
        self, messages: Iterator[StreamAccessLogsMessage], _: grpc.ServicerContext
    ) -> StreamAccessLogsResponse:
        with contextlib.suppress(grpc.RpcError):  # Envoy has gone
            for message in messages:
                with self._changed:
                    self._tapped += [entry.request.path for entry in message.http_logs.log_entry]
                    self._changed.notify_all()
        return StreamAccessLogsResponse()

    def _stream(
        self, requests: Iterator[DeltaDiscoveryRequest], _: grpc.ServicerContext
    ) -> Iterator[DeltaDiscoveryResponse]:
        reader = threading.Thread(target=self._read, args=(requests,), daemon=True)
        reader.start()
        while (response := self._outbox.get()) is not None:
            yield response

    def _read(self, requests: Iterator[DeltaDiscoveryRequest]) -> None:
        with contextlib.suppress(grpc.RpcError):  # Envoy has gone
            for request in requests:
                with self._changed:
                    self._take(request)
                    self._changed.notify_all()

    def _take(self, request: DeltaDiscoveryRequest) -> None:
        kind = ResourceKind.from_type_url(request.type_url)
        assert kind is not None, request.type_url
        if request.response_nonce:
            self._open.pop(request.response_nonce, None)
            if request.error_detail.code:
                self.nacks.append((kind, request.error_detail.message))
            else:
                self._acked.add(kind)
        self._asked[kind] |= set(request.resource_names_subscribe)
        for name in request.resource_names_subscribe:
            self._sent[kind].pop(name, None)
        self._asked[kind] -= set(request.resource_names_unsubscribe)
        if not request.response_nonce and kind.is_wildcard:
            self._asked[kind].add("*")
        self._send(kind)

    def _send(self, kind: ResourceKind) -> None:
        wanted, sent, asked = self._wanted[kind], self._sent[kind], self._asked[kind]
        new = [
            r
            for r in wanted.values()
            if (r.name in asked or "*" in asked) and sent.get(r.name) != r.version
        ]
        gone = [name for name in sent if name not in wanted] if kind.is_wildcard else []
        if not new and not gone:
            return
        self._nonce += 1
        response = DeltaDiscoveryResponse(type_url=kind.type_url, nonce=str(self._nonce))
        for resource in new:
            entry = DiscoveryResource(name=resource.name, version=resource.version)
            entry.resource.type_url, entry.resource.value = kind.type_url, resource.body
            response.resources.append(entry)
            sent[resource.name] = resource.version
        for name in gone:
            response.removed_resources.append(name)
            del sent[name]
        self._open[response.nonce] = kind
        self._outbox.put(response)
