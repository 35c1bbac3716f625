"""Where a stream's thread waits."""

from __future__ import annotations

from threading import Thread

from xds.server.mailbox import Ending, Mail, Mailbox, Status

OVER = Ending(status=Status.ABORTED, reason="over")
WAIT_SECONDS = 10.0


def test_ten_wakes_are_one() -> None:
    mailbox = Mailbox()
    for _ in range(10):
        mailbox.wake()
    assert mailbox.take() == Mail(requests=(), woken=True, ending=None)
    assert mailbox.take(0) == Mail(requests=(), woken=False, ending=None)


def test_requests_come_in_order_and_once() -> None:
    mailbox = Mailbox()
    assert mailbox.put(b"1")
    assert mailbox.put(b"2")
    assert mailbox.take() == Mail(requests=(b"1", b"2"), woken=False, ending=None)
    assert mailbox.take(0).requests == ()


def test_the_first_of_several_endings_counts() -> None:
    mailbox = Mailbox()
    mailbox.close(OVER)
    mailbox.close(Ending(status=Status.OK, reason="later"))
    assert mailbox.take().ending is OVER
    assert not mailbox.put(b"too late")
    assert mailbox.wait_for_wake(WAIT_SECONDS) is OVER


def test_waiting_for_a_wake_leaves_requests_where_they_are() -> None:
    mailbox = Mailbox()
    mailbox.put(b"1")
    assert mailbox.wait_for_wake(0) is None
    mailbox.wake()
    assert mailbox.wait_for_wake(WAIT_SECONDS) is None
    assert mailbox.take() == Mail(requests=(b"1",), woken=False, ending=None)


def test_a_client_that_floods_waits_until_its_requests_were_taken() -> None:
    mailbox = Mailbox()
    flood = Thread(target=lambda: [mailbox.put(b"%d" % n) for n in range(1000)], daemon=True)
    flood.start()
    taken: list[bytes] = []
    while len(taken) < 1000:
        requests = mailbox.take(WAIT_SECONDS).requests
        assert 0 < len(requests) <= 256
        taken += requests
    flood.join(WAIT_SECONDS)
    assert taken == [b"%d" % n for n in range(1000)]


def test_a_flood_ends_with_the_stream() -> None:
    mailbox = Mailbox()
    results: list[bool] = []
    flood = Thread(target=lambda: results.extend(mailbox.put(b"") for _ in range(257)), daemon=True)
    flood.start()
    while len(mailbox._requests) < 256:
        flood.join(0.001)
    mailbox.close(OVER)
    flood.join(WAIT_SECONDS)
    assert results == [True] * 256 + [False]


def test_large_requests_wait_one_at_a_time() -> None:
    mailbox = Mailbox()
    large = b"x" * 20_000_000
    flood = Thread(target=lambda: [mailbox.put(large) for _ in range(3)], daemon=True)
    flood.start()
    for _ in range(3):
        assert mailbox.take(WAIT_SECONDS).requests == (large,)
    flood.join(WAIT_SECONDS)
