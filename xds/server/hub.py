"""The live streams: who is connected, who must be told that there is news, and who must go.

The servicer registers streams here; the loop thread wakes them after it has published; the API and
whoever waits for the mesh to agree ask it. A stream is woken only when its proxy's configuration is
another than the one it saw last, so a change costs those it concerns. Specification: data-plane
7.2, HOUSE 4.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from threading import Condition

from xds.policy.identity import ProxyId
from xds.resource import MeshError, ResourceSet
from xds.server.mailbox import Ending, Mailbox, Status
from xds.server.ports import Admission, ConfigReader, ProxyObserver, StreamInfo
from xds.stream.ledger import Ledger
from xds.stream.wire import Encoder

UNKNOWN_POD_CODE, WRONG_ACCOUNT_CODE = "E5002", "E5010"


class StreamError(MeshError):
    """A stream is refused or over; carries what the client is told."""

    code = "E5005"

    def __init__(self, status: Status, reason: str, *, code: str = code) -> None:
        """``code`` tells users why, where a more telling one than that of the class exists."""
        super().__init__(reason)
        self.code = code
        self.ending = Ending(status=status, reason=reason)


class Service(StrEnum):
    """Which gRPC service a stream is of."""

    ADS = "ADS"
    SDS = "SDS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a new stream may keep us waiting."""

    first_request_seconds: float = 15.0
    pod_seconds: float = 5.0
    """For the Pod of a sidecar that was quicker than the news of it (7.2)."""


class LiveStream:
    """One stream and what it has seen. The writer sets the fields, the hub reads them."""

    __slots__ = ("entered", "info", "mailbox", "seen", "service", "settled")

    def __init__(self, info: StreamInfo, service: Service) -> None:
        self.info = info
        self.service = service
        self.mailbox = Mailbox()
        self.entered = False
        """Admitted, and its first request has come."""
        self.seen: ResourceSet | None = None
        """The configuration its writer looked at last."""
        self.settled: ResourceSet | None = None
        """The configuration of which the proxy took all it wants, while that is the newest seen."""


class Hub:
    """All streams of one server. Every method may be called from any thread."""

    def __init__(
        self,
        reader: ConfigReader,
        observer: ProxyObserver,
        *,
        ledger: Ledger | None = None,
        patience: Patience = Patience(),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.reader = reader
        self.observer = observer
        self.ledger = ledger if ledger is not None else Ledger()
        self.encoder = Encoder()
        self.patience = patience
        self.now = now
        self._ids = itertools.count(1)
        self._changed = Condition()
        self._streams: dict[int, LiveStream] = {}
        self._by_uuid: dict[str, list[LiveStream]] = {}
        """Streams per proxy, oldest first; never empty lists."""
        self._draining = False

    def wake(self) -> int:
        """Every stream whose proxy has news looks at it; the number of streams woken.

        To be called after every publication, also when only Pods have changed: streams that wait
        for their Pod look again.
        """
        woken = 0
        for stream in self._list():
            if not stream.entered or self._has_news(stream):
                stream.mailbox.wake()
                woken += 1
        self.ledger.sweep(self.now())
        return woken

    def connected(self) -> tuple[StreamInfo, ...]:
        """The admitted ADS streams, one per proxy (the newest), sorted by proxy."""
        newest = {
            stream.info.proxy.uuid: stream.info
            for stream in self._list()
            if stream.entered and stream.service is Service.ADS
        }
        return tuple(sorted(newest.values(), key=lambda info: str(info.proxy)))

    def lagging(self) -> tuple[StreamInfo, ...]:
        """The admitted streams whose proxy has not taken all it wants of what is current.

        A proxy that refuses a version lags; the ledger tells which. Sorted by stream id.
        """
        return tuple(s.info for s in self._list() if s.entered and not self._is_settled(s))

    def wait_until_settled(self, timeout_seconds: float) -> bool:
        """True as soon as no proxy lags behind what is current; False after so long."""
        with self._changed:
            return self._changed.wait_for(self._all_settled, timeout_seconds)

    def close(self, proxy: ProxyId, reason: str) -> None:
        """The streams of the proxy end with ABORTED: its Pod is gone or has left the mesh."""
        ending = Ending(status=Status.ABORTED, reason=reason)
        for stream in self._streams_of(proxy.uuid):
            stream.mailbox.close(ending)

    def drain(self) -> None:
        """All streams end with UNAVAILABLE, no new one is let in; proxies keep what they have."""
        self._draining = True
        for stream in self._list():
            stream.mailbox.close(_STOPPING)

    def reserve(self, proxy: ProxyId, *, peer: str, service: Service) -> LiveStream:
        """A place for a stream that is not admitted yet; to be given back with ``leave``.

        Raises :class:`StreamError` when there is none.
        """
        with self._changed:
            if self._draining:
                raise StreamError(_STOPPING.status, _STOPPING.reason)
            if len(self._by_uuid.get(proxy.uuid, ())) >= _MOST_STREAMS:
                raise StreamError(
                    Status.RESOURCE_EXHAUSTED, f"{proxy} has {_MOST_STREAMS} streams already"
                )
            most = self.reader.max_connections()
            if 0 < most <= len(self._by_uuid) and proxy.uuid not in self._by_uuid:
                raise StreamError(
                    Status.RESOURCE_EXHAUSTED, f"{most} proxies are connected, no more are let in"
                )
            info = StreamInfo(stream_id=next(self._ids), proxy=proxy, peer=peer)
            stream = LiveStream(info, service)
            self._streams[info.stream_id] = stream
            self._by_uuid.setdefault(proxy.uuid, []).append(stream)
            return stream

    def await_pod(self, stream: LiveStream, deadline: float, clock: Callable[[], float]) -> None:
        """The stream's Pod is known; raise :class:`StreamError` when it does not appear in time."""
        proxy = stream.info.proxy
        while (admission := self.reader.admit(proxy)) is not Admission.ADMITTED:
            left = deadline - clock()
            if admission is Admission.WRONG_ACCOUNT:
                text = f"the Pod of {proxy} has another service account"
                raise StreamError(Status.PERMISSION_DENIED, text, code=WRONG_ACCOUNT_CODE)
            if left <= 0:
                text = f"no Pod carries the UUID of {proxy} yet"
                raise StreamError(Status.UNAVAILABLE, text, code=UNKNOWN_POD_CODE)
            ending = stream.mailbox.wait_for_wake(min(left, _POD_LOOK_SECONDS))
            if ending is not None:
                raise StreamError(ending.status, ending.reason)

    def enter(self, stream: LiveStream) -> None:
        """The stream is admitted; older ones of the same proxy and service end."""
        info = stream.info
        stream.entered = True
        if stream.service is Service.ADS:
            self.ledger.opened(info.proxy, info.stream_id, peer=info.peer, now=self.now())
        self.observer.connected(info)
        self._supersede(stream)
        stream.mailbox.wake()

    def leave(self, stream: LiveStream) -> None:
        """The stream's place is free; whoever was told of it is told that it is gone."""
        info = stream.info
        with self._changed:
            del self._streams[info.stream_id]
            siblings = self._by_uuid[info.proxy.uuid]
            siblings.remove(stream)
            if not siblings:
                del self._by_uuid[info.proxy.uuid]
            self._changed.notify_all()
        if stream.entered:
            self.ledger.closed(info.proxy, info.stream_id, now=self.now())
            self.observer.gone(info)

    def settled(self, stream: LiveStream, target: ResourceSet | None) -> None:
        """The stream's proxy took all it wants of the set; None: there is something it has not."""
        if stream.settled is target:
            return
        with self._changed:
            stream.settled = target
            if target is not None:
                self._changed.notify_all()

    def _list(self) -> list[LiveStream]:
        with self._changed:
            return list(self._streams.values())

    def _has_news(self, stream: LiveStream) -> bool:
        return not _equal(self.reader.current(stream.info.proxy), stream.seen)

    def _is_settled(self, stream: LiveStream) -> bool:
        current = self.reader.current(stream.info.proxy)
        return current is not None and _equal(current, stream.settled)

    def _all_settled(self) -> bool:
        return all(self._is_settled(stream) for stream in self._list() if stream.entered)

    def _streams_of(self, uuid: str) -> list[LiveStream]:
        with self._changed:
            return list(self._by_uuid.get(uuid, ()))

    def _supersede(self, newer: LiveStream) -> None:
        for stream in self._streams_of(newer.info.proxy.uuid):
            if stream.service is newer.service and stream.info.stream_id < newer.info.stream_id:
                stream.mailbox.close(_SUPERSEDED)


_MOST_STREAMS = 16
"""Of one proxy: ADS, SDS and reconnects overlap; one proxy must not take the pool from all."""
_POD_LOOK_SECONDS = 0.25
_STOPPING = Ending(status=Status.UNAVAILABLE, reason="the control plane is stopping")
_SUPERSEDED = Ending(status=Status.ABORTED, reason="the proxy has opened a newer stream")


def _equal(one: ResourceSet | None, other: ResourceSet | None) -> bool:
    if one is other:
        return True
    return one is not None and other is not None and one.versions == other.versions
