"""The book of who was sent, took and refused what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from xds.policy.identity import ProxyId, ServiceIdentity
from xds.resource import ResourceKind
from xds.stream.ledger import GRACE, KindStatus, Ledger, ProxyStatus

LDS, RDS = ResourceKind.LDS, ResourceKind.RDS
START = datetime(2030, 1, 1, tzinfo=UTC)
SOME = ServiceIdentity(namespace="shop", service_account="cart")
A = ProxyId(uuid="a", identity=SOME)
B = ProxyId(uuid="b", identity=SOME)


def at(seconds: int) -> datetime:
    return START + timedelta(seconds=seconds)


def opened(*proxies: ProxyId) -> Ledger:
    ledger = Ledger()
    for n, proxy in enumerate(proxies, 1):
        ledger.opened(proxy, n, peer=f"peer {n}", now=START)
    return ledger


def test_a_proxy_is_listed_from_its_first_stream_on() -> None:
    ledger = opened(B, A)
    assert ledger.statuses() == (
        ProxyStatus(
            proxy=A, stream_id=2, peer="peer 2", connected_at=START, gone_at=None, kinds={}
        ),
        ProxyStatus(
            proxy=B, stream_id=1, peer="peer 1", connected_at=START, gone_at=None, kinds={}
        ),
    )
    assert ledger.get("a") == ledger.statuses()[0]
    assert ledger.get("unknown") is None


def test_a_refusal_is_kept_with_envoys_words_until_another_version_is_taken() -> None:
    ledger = opened(A)
    ledger.sent(A, 1, kind=RDS, version="v1", now=at(1))
    ledger.acked(A, 1, kind=RDS, version="v1", now=at(2))
    ledger.sent(A, 1, kind=RDS, version="v2", now=at(3))
    ledger.rejected(A, 1, kind=RDS, version="v2", detail="bad route", now=at(4))
    ledger.sent(A, 1, kind=RDS, version="v3", now=at(5))
    rejected = KindStatus(
        sent_version="v3",
        sent_at=at(5),
        acked_version="v1",
        acked_at=at(2),
        rejected_version="v2",
        rejected_at=at(4),
        rejected_detail="bad route",
    )
    before = ledger.statuses()
    assert before[0].kinds == {RDS: rejected}
    assert rejected.is_rejected
    ledger.acked(A, 1, kind=RDS, version="v3", now=at(6))
    taken = KindStatus(sent_version="v3", sent_at=at(5), acked_version="v3", acked_at=at(6))
    assert ledger.statuses()[0].kinds == {RDS: taken}
    assert not taken.is_rejected
    assert before[0].kinds == {RDS: rejected}, "a view that was handed out never changes"


def test_the_newest_stream_of_a_proxy_counts() -> None:
    ledger = opened(A)
    ledger.opened(A, 2, peer="new", now=at(1))
    ledger.sent(A, 1, kind=LDS, version="old", now=at(2))
    ledger.rejected(A, 1, kind=LDS, version="old", detail="", now=at(2))
    ledger.acked(A, 1, kind=LDS, version="old", now=at(2))
    ledger.closed(A, 1, now=at(3))
    assert ledger.statuses() == (
        ProxyStatus(proxy=A, stream_id=2, peer="new", connected_at=at(1), gone_at=None, kinds={}),
    )


def test_a_proxy_is_forgotten_a_minute_after_it_left() -> None:
    ledger = opened(A, B)
    ledger.closed(A, 1, now=at(10))
    ledger.sweep(at(10) + GRACE - timedelta(microseconds=1))
    assert [status.gone_at for status in ledger.statuses()] == [at(10), None]
    ledger.sweep(at(10) + GRACE)
    assert [status.proxy for status in ledger.statuses()] == [B]


def test_a_proxy_that_came_back_is_not_forgotten() -> None:
    ledger = opened(A)
    ledger.closed(A, 1, now=at(10))
    ledger.opened(A, 2, peer="new", now=at(20))
    for _ in range(2):
        ledger.sweep(at(20) + GRACE)
    assert [(status.stream_id, status.gone_at) for status in ledger.statuses()] == [(2, None)]
