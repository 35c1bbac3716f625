"""What happens on streams, turned into events, metrics and log lines.

The gRPC server calls it from stream threads (``ProxyObserver``); what the loop must know is posted
to it. A proxy may have several streams for a moment: it is connected with its first and gone with
its last. Specification: data-plane 7.11; kubernetes-surface 8.4.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from datetime import timedelta

from app import logs
from app.events import ProxyConnected, ProxyGone
from app.metrics import Metrics
from app.ports import Clock, Post
from xds.policy.identity import ProxyId
from xds.resource import ResourceKind
from xds.server.ports import StreamInfo
from xds.stream.ledger import KindStatus, Ledger

_MOST_REMEMBERED = 10_000
_LAG = timedelta(seconds=30)


class StreamObserver:
    """Implements ``ProxyObserver``; safe across threads."""

    def __init__(
        self,
        post: Post,
        metrics: Metrics,
        *,
        most: Callable[[], int],
        on_full: Callable[[int], None] = lambda _: None,
    ) -> None:
        """``most`` tells the bound of connected proxies; 0 means none.

        ``on_full`` hears of it with each proxy that finds it reached; it must be quick.
        """
        self._post = post
        self._metrics = metrics
        self._most = most
        self._on_full = on_full
        self._log = logs.logger("ads")
        self._lock = threading.Lock()
        self._streams: Counter[ProxyId] = Counter()
        self._left: OrderedDict[str, None] = OrderedDict()
        """UUIDs of proxies that were connected before, oldest first."""

    def connected(self, stream: StreamInfo) -> None:
        """A stream was admitted."""
        proxy = stream.proxy
        with self._lock:
            self._streams[proxy] += 1
            is_first = self._streams[proxy] == 1
            is_known = not is_first or proxy.uuid in self._left
            self._left.pop(proxy.uuid, None)
            self._metrics.proxies.set(len(self._streams))
            if is_first:
                self._post(ProxyConnected(proxy=proxy))
        if is_known:
            self._metrics.reconnects.inc()
        self._log.info("proxy connected", proxy=str(proxy), stream=stream.stream_id)

    def gone(self, stream: StreamInfo) -> None:
        """An admitted stream has ended."""
        proxy = stream.proxy
        with self._lock:
            self._streams[proxy] -= 1
            if self._streams[proxy] <= 0:
                del self._streams[proxy]
                self._remember(proxy.uuid)
                self._metrics.drop_proxy(proxy.uuid)
                self._post(ProxyGone(proxy=proxy))
            self._metrics.proxies.set(len(self._streams))
        self._log.info("proxy gone", proxy=str(proxy), stream=stream.stream_id)

    def refused(self, peer: str, reason: str, code: str) -> None:
        """A stream was not admitted."""
        most = self._most()
        if 0 < most <= len(self._streams):
            self._metrics.max_connections_rejected.inc()
            self._on_full(most)
        self._log.warning("stream refused", peer=peer, reason=reason, error_code=code)

    def requested(self, stream: StreamInfo, kind: ResourceKind) -> None:
        """A request arrived."""
        self._metrics.xds_requests.inc(*_labels(stream, kind))

    def sent(self, stream: StreamInfo, kind: ResourceKind, size_bytes: int) -> None:
        """A response was handed to gRPC."""
        self._metrics.responses_sent.inc(*_labels(stream, kind))
        self._log.debug("sent", proxy=str(stream.proxy), kind=str(kind), size_bytes=size_bytes)

    def acked(self, stream: StreamInfo, kind: ResourceKind, version: str) -> None:
        """The proxy took a version."""
        self._log.debug("accepted", proxy=str(stream.proxy), kind=str(kind), version=version)

    def nacked(self, stream: StreamInfo, kind: ResourceKind, version: str, detail: str) -> None:
        """The proxy refused a version; it keeps what it had."""
        self._metrics.responses_failed.inc(*_labels(stream, kind))
        self._log.error(
            "proxy rejected its configuration",
            proxy=str(stream.proxy),
            kind=str(kind),
            version=version,
            error=detail,
            error_code="E5006",
        )

    def _remember(self, uuid: str) -> None:
        self._left[uuid] = None
        if len(self._left) > _MOST_REMEMBERED:
            self._left.popitem(last=False)


def watch_proxies(ledger: Ledger, metrics: Metrics, clock: Clock) -> None:
    """Gauges tell how many proxies reject, or have long not taken, what they were sent last."""

    def is_lagging(status: KindStatus) -> bool:
        is_open = status.sent_version != status.acked_version and not status.is_rejected
        sent_at = status.sent_at
        return is_open and sent_at is not None and clock.now() - sent_at > _LAG

    metrics.rejecting_proxies.set_function(_count(ledger, lambda status: status.is_rejected))
    metrics.lagging_proxies.set_function(_count(ledger, is_lagging))


def _count(ledger: Ledger, fits: Callable[[KindStatus], bool]) -> Callable[[], float]:
    def count() -> float:
        live = [status for status in ledger.statuses() if status.gone_at is None]
        return float(sum(any(map(fits, status.kinds.values())) for status in live))

    return count


def _labels(stream: StreamInfo, kind: ResourceKind) -> tuple[str, str, str]:
    return (stream.proxy.uuid, str(stream.proxy.identity), str(kind))
