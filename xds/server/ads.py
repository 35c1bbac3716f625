"""The discovery services: one conversation per stream, a pump thread in, a pool thread out.

A proxy is who its client certificate says, never what it says itself (data-plane 7.2). The pool
thread admits the stream, then owns its ``Subscription``: it takes requests and wake-ups from the
mailbox and yields bytes. Errors end here: the client gets a status, the log gets what we did not
expect.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from threading import Thread
from typing import assert_never

import grpc

from xds.policy.identity import IdentityError, Issuers, ProxyId
from xds.resource import ResourceKind
from xds.server.hub import Hub, LiveStream, Service, StreamError
from xds.server.mailbox import Ending, Status
from xds.stream.subscription import (
    ALL_KINDS,
    Ack,
    Asked,
    Ignored,
    Nack,
    Outcome,
    Stale,
    Subscription,
)
from xds.stream.wire import Protocol, ProtocolError, Request, decode

_log = logging.getLogger(__name__)

_ADS = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_SDS = "envoy.service.secret.v3.SecretDiscoveryService"
_SHOWN = 64
"""Characters of a client's own words in logs and statuses."""
_CLIENT_LEFT = Ending(status=Status.OK, reason="the client has closed the stream")


def handlers(hub: Hub) -> tuple[grpc.GenericRpcHandler, ...]:
    """The services as grpcio takes them; requests and responses are raw bytes."""
    ads, sds = Servicer(hub, Service.ADS), Servicer(hub, Service.SDS)
    return (
        grpc.method_handlers_generic_handler(
            _ADS,
            {
                "StreamAggregatedResources": grpc.stream_stream_rpc_method_handler(ads.sotw),
                "DeltaAggregatedResources": grpc.stream_stream_rpc_method_handler(ads.delta),
            },
        ),
        grpc.method_handlers_generic_handler(
            _SDS,
            {
                "StreamSecrets": grpc.stream_stream_rpc_method_handler(sds.sotw),
                "DeltaSecrets": grpc.stream_stream_rpc_method_handler(sds.delta),
            },
        ),
    )


class Servicer:
    """The streams of one service, in both protocols."""

    def __init__(self, hub: Hub, service: Service) -> None:
        self._hub = hub
        self._service = service

    def sotw(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Serve a state-of-the-world stream."""
        return self._serve(Protocol.SOTW, requests, context)

    def delta(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Serve a delta stream."""
        return self._serve(Protocol.DELTA, requests, context)

    def _serve(
        self, protocol: Protocol, requests: Iterator[bytes], context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        hub = self._hub
        stream: LiveStream | None = None
        try:
            proxy = proxy_of(context, hub.reader.issuers())
            stream = hub.reserve(proxy, peer=context.peer(), service=self._service)
            _pump(requests, stream, context)
            yield from _Conversation(hub, stream, protocol).run()
        except StreamError as end:
            unasked = end.ending.status is not Status.OK
            if unasked and (stream is None or not stream.entered):
                hub.observer.refused(context.peer(), str(end), end.code)
            _end(context, end.ending)
        except Exception:
            _log.exception("a stream failed", extra={"peer": context.peer()})
            _end(context, Ending(status=Status.INTERNAL, reason="the control plane failed"))
        finally:
            if stream is not None:
                stream.mailbox.close(_CLIENT_LEFT)
                hub.leave(stream)


def proxy_of(context: grpc.ServicerContext, issuers: Issuers) -> ProxyId:
    """The proxy that the client's certificate names; raise :class:`StreamError` if none."""
    facts = context.auth_context()
    uris = [uri.decode() for uri in facts.get("peer_uri", ())]
    # The original named its sidecars in the common name; it counts where no other name does.
    names = facts.get("peer_dns") or (() if uris else facts.get("x509_common_name", ()))
    dns_names = [name.decode() for name in names]
    if not dns_names and not uris:
        raise StreamError(Status.UNAUTHENTICATED, "the client has shown no certificate with names")
    try:
        return issuers.parse_proxy(dns_names, uris)
    except IdentityError as error:
        raise StreamError(Status.PERMISSION_DENIED, str(error), code=error.code) from error


class _Conversation:
    """What one pool thread does from admission to the end of the stream."""

    def __init__(self, hub: Hub, stream: LiveStream, protocol: Protocol) -> None:
        self._hub = hub
        self._stream = stream
        self._protocol = protocol
        kinds = ALL_KINDS if stream.service is Service.ADS else frozenset({ResourceKind.SDS})
        self._subscription = Subscription(protocol, kinds)
        self._acked: dict[ResourceKind, str] = {}

    def run(self) -> Iterator[bytes]:
        """Bytes for the client, until the stream ends by :class:`StreamError` or by the client."""
        first = self._first_requests()
        self._hub.await_pod(
            self._stream, time.monotonic() + self._hub.patience.pod_seconds, time.monotonic
        )
        self._hub.enter(self._stream)
        self._receive(first)
        while True:
            mail = self._stream.mailbox.take(self._timeout())
            if mail.ending is _CLIENT_LEFT:
                return
            if mail.ending is not None:
                raise StreamError(mail.ending.status, mail.ending.reason)
            self._receive(mail.requests)
            if mail.woken:
                # Whoever publishes in between must find that this stream has not seen it.
                self._stream.seen = None
                self._stream.seen = self._hub.reader.current(self._stream.info.proxy)
            yield from self._pushes()

    def _first_requests(self) -> tuple[bytes, ...]:
        """The requests that opened the stream; the first must name the certificate's proxy."""
        deadline = time.monotonic() + self._hub.patience.first_request_seconds
        mail = self._stream.mailbox.take(self._hub.patience.first_request_seconds)
        while not mail.requests and mail.ending is None and time.monotonic() < deadline:
            mail = self._stream.mailbox.take(deadline - time.monotonic())
        if mail.ending is not None:
            raise StreamError(mail.ending.status, mail.ending.reason)
        if not mail.requests:
            raise StreamError(Status.UNAVAILABLE, "the client has asked for nothing")
        node_id = self._decode(mail.requests[0]).node_id
        uuid = self._stream.info.proxy.uuid
        if node_id != uuid:
            raise StreamError(
                Status.PERMISSION_DENIED,
                f"node.id {node_id[:_SHOWN]!r} is not {uuid!r} of the certificate",
            )
        return mail.requests

    def _receive(self, payloads: tuple[bytes, ...]) -> None:
        for payload in payloads:
            request = self._decode(payload)
            try:
                outcome = self._subscription.receive(request)
            except ProtocolError as error:
                raise StreamError(Status.INVALID_ARGUMENT, str(error)) from error
            self._note(outcome)

    def _pushes(self) -> Iterator[bytes]:
        target = self._stream.seen
        if target is None:
            return
        hub, info = self._hub, self._stream.info
        for push in self._subscription.update(target, now=time.monotonic()):
            if self._stream.settled is not None:
                hub.settled(self._stream, None)
            payload = hub.encoder.encode(self._protocol, push)
            yield payload
            hub.observer.sent(info, push.kind, len(payload))
            if self._stream.service is Service.ADS:
                hub.ledger.sent(
                    info.proxy, info.stream_id, kind=push.kind, version=push.version, now=hub.now()
                )
        self._note_accepted()
        hub.settled(self._stream, target if self._subscription.is_settled else None)

    def _note(self, outcome: Outcome) -> None:
        hub, info = self._hub, self._stream.info
        match outcome:
            case Ignored(type_url=type_url):
                _log.warning(
                    "a type is asked for that is not served", extra={"type": type_url[:_SHOWN]}
                )
                return
            case Ack(kind=kind, version=version):
                hub.observer.acked(info, kind, version)
            case Nack(kind=kind, version=version, detail=detail):
                hub.observer.nacked(info, kind, version, detail)
                self._acked.pop(kind, None)
                if self._stream.service is Service.ADS:
                    hub.ledger.rejected(
                        info.proxy,
                        info.stream_id,
                        kind=kind,
                        version=version,
                        detail=detail,
                        now=hub.now(),
                    )
            case Asked() | Stale():
                pass
            case _:
                assert_never(outcome)
        hub.observer.requested(info, outcome.kind)

    def _note_accepted(self) -> None:
        """The ledger knows what the proxy holds, also where nothing had to be sent for it."""
        if self._stream.service is not Service.ADS:
            return
        hub, info = self._hub, self._stream.info
        for kind in ResourceKind:
            version = self._subscription.accepted(kind)
            if version is not None and version != self._acked.get(kind):
                self._acked[kind] = version
                hub.ledger.acked(
                    info.proxy, info.stream_id, kind=kind, version=version, now=hub.now()
                )

    def _timeout(self) -> float | None:
        deadline = self._subscription.deadline
        return None if deadline is None else max(0.0, deadline - time.monotonic())

    def _decode(self, payload: bytes) -> Request:
        try:
            return decode(self._protocol, payload)
        except ProtocolError as error:
            raise StreamError(Status.INVALID_ARGUMENT, str(error)) from error


def _pump(requests: Iterator[bytes], stream: LiveStream, context: grpc.ServicerContext) -> None:
    """Requests flow into the mailbox from now on; it is closed when the client leaves."""
    mailbox = stream.mailbox

    def leave() -> None:
        mailbox.close(_CLIENT_LEFT)

    def pump() -> None:
        try:
            for request in requests:
                if not mailbox.put(request):
                    break
        except Exception as error:  # grpcio raises bare ones
            _log.debug("a stream broke off", extra={"error": str(error)})
        leave()

    if context.add_callback(leave):
        Thread(target=pump, name=f"xds-pump-{stream.info.stream_id}", daemon=True).start()
    else:
        leave()


def _end(context: grpc.ServicerContext, ending: Ending) -> None:
    """The client is told how its stream ended; does not return unless it ended well."""
    if ending.status is not Status.OK:
        context.abort(grpc.StatusCode[ending.status.value], ending.reason)
