from __future__ import annotations

import pytest

from app.controller.observer import StreamObserver
from app.events import Event, ProxyConnected, ProxyGone
from app.metrics import Metrics
from xds.policy.identity import ProxyId, ServiceIdentity
from xds.resource import ResourceKind
from xds.server.ports import StreamInfo

UUID = "00000000-0000-4000-8000-000000000001"
PROXY = ProxyId(uuid=UUID, identity=ServiceIdentity(namespace="shop", service_account="buyer"))
OTHER = ProxyId(uuid=UUID[:-1] + "2", identity=PROXY.identity)
LABELS = (UUID, "buyer.shop", "CDS")


def stream(number: int, proxy: ProxyId = PROXY) -> StreamInfo:
    return StreamInfo(stream_id=number, proxy=proxy, peer="ipv4:10.0.0.1:4000")


class Desk:
    def __init__(self, most: int = 0) -> None:
        self.posted: list[Event] = []
        self.metrics = Metrics()
        self.full: list[int] = []
        self.observer = StreamObserver(
            self.posted.append, self.metrics, most=lambda: most, on_full=self.full.append
        )

    def connected(self) -> bytes:
        page = self.metrics.render()
        return next(
            line for line in page.splitlines() if line.startswith(b"osm_proxy_connect_count ")
        )


def test_proxy_is_connected_with_its_first_stream_and_gone_with_its_last() -> None:
    desk = Desk()
    desk.observer.connected(stream(1))
    desk.observer.connected(stream(2))
    desk.observer.gone(stream(1))
    assert desk.posted == [ProxyConnected(proxy=PROXY)]
    assert desk.connected() == b"osm_proxy_connect_count 1.0"
    desk.observer.gone(stream(2))
    assert desk.posted == [ProxyConnected(proxy=PROXY), ProxyGone(proxy=PROXY)]
    assert desk.connected() == b"osm_proxy_connect_count 0.0"


def test_reconnects_of_known_proxies_are_counted() -> None:
    desk = Desk()
    desk.observer.connected(stream(1))
    desk.observer.connected(stream(2, OTHER))
    assert desk.metrics.reconnects.get() == 0
    desk.observer.connected(stream(3))
    desk.observer.gone(stream(1))
    desk.observer.gone(stream(3))
    desk.observer.connected(stream(4))
    assert desk.metrics.reconnects.get() == 2


def test_series_of_a_proxy_live_as_long_as_it_is_connected() -> None:
    desk = Desk()
    desk.observer.connected(stream(1))
    desk.observer.requested(stream(1), ResourceKind.CDS)
    desk.observer.sent(stream(1), ResourceKind.CDS, 100)
    desk.observer.acked(stream(1), ResourceKind.CDS, "v1")
    desk.observer.sent(stream(1), ResourceKind.CDS, 100)
    desk.observer.nacked(stream(1), ResourceKind.CDS, "v2", "no such cluster")
    metrics = desk.metrics
    counts = [metrics.xds_requests, metrics.responses_sent, metrics.responses_failed]
    assert [counter.get(*LABELS) for counter in counts] == [1, 2, 1]
    assert UUID.encode() in metrics.render()
    desk.observer.gone(stream(1))
    assert UUID.encode() not in metrics.render()


@pytest.mark.parametrize(
    ("most", "counted"),
    [
        pytest.param(0, 0, id="no-bound"),
        pytest.param(2, 0, id="not-full"),
        pytest.param(1, 1, id="full"),
    ],
)
def test_refusals_while_full_are_counted(most: int, counted: int) -> None:
    desk = Desk(most)
    desk.observer.connected(stream(1))
    desk.observer.refused("peer", "reason", "E5005")
    assert desk.metrics.max_connections_rejected.get() == counted
    assert desk.full == [most] * counted
