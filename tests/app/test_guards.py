"""The guards before an application, each by itself: who waits, who is refused, what is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import guards
from app.guards import AtMost, BodyBudget, BodyGuard, UnreadBodyCloses

PATIENCE = 5


def scope(path: str = "/", **headers: str) -> dict[str, Any]:
    named = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
    return {"type": "http", "method": "POST", "path": path, "headers": named}


class Asked:
    """One request to an application, with the answer as it comes."""

    def __init__(self, app: ASGIApp, scope: dict[str, Any], *chunks: bytes) -> None:
        self.messages: list[Message] = []
        self._chunks = list(chunks or (b"",))
        self.task = asyncio.create_task(self._ask(app, scope))

    @property
    def status(self) -> int | None:
        return self.messages[0]["status"] if self.messages else None

    async def answered(self) -> int:
        await asyncio.wait_for(self.task, PATIENCE)
        assert self.status is not None
        return self.status

    async def _ask(self, app: ASGIApp, scope: dict[str, Any]) -> None:
        await app(scope, self._receive, self._send)

    async def _receive(self) -> Message:
        body = self._chunks.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(self._chunks)}

    async def _send(self, message: Message) -> None:
        self.messages.append(message)


class Worker:
    """An application that answers once it is let; knows how many it works for."""

    def __init__(self) -> None:
        self.inside = 0
        self.open = asyncio.Event()

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        self.inside += 1
        await self.open.wait()
        self.inside -= 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_only_so_many_are_worked_on_and_as_many_wait() -> None:
    async def script() -> None:
        worker = Worker()
        app = AtMost(worker, 2, free=frozenset({"/health"}))
        asked = [Asked(app, scope()) for _ in range(5)]
        await settled()
        assert (worker.inside, [one.status for one in asked]) == (2, [None] * 4 + [503])
        free = Asked(app, scope("/health"))
        await settled()
        assert worker.inside == 3
        worker.open.set()
        assert [await one.answered() for one in asked] == [200] * 4 + [503]
        assert await free.answered() == 200
        assert await Asked(app, scope()).answered() == 200

    asyncio.run(script())


def test_client_that_reads_slowly_takes_no_room() -> None:
    async def script() -> None:
        worker = Worker()
        worker.open.set()
        app, blocked = AtMost(worker, 1), asyncio.Event()

        async def send(message: Message) -> None:
            await blocked.wait()

        slow = asyncio.create_task(app(scope(), Asked(worker, scope())._receive, send))
        await settled()
        assert await Asked(app, scope()).answered() == 200
        blocked.set()
        await slow

    asyncio.run(script())


def test_request_that_is_given_up_leaves_its_place() -> None:
    async def script() -> None:
        worker = Worker()
        app = AtMost(worker, 1)
        first, second = Asked(app, scope()), Asked(app, scope())
        await settled()
        for one in (second, first):
            one.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await one.task
        worker.open.set()
        assert await Asked(app, scope()).answered() == 200

    asyncio.run(script())


def test_bytes_wait_for_room_but_the_oldest_request_goes_on() -> None:
    async def script() -> None:
        budget = BodyBudget(10)
        old, young = object(), object()
        await budget.take(old, 6)
        waiting = asyncio.create_task(budget.take(young, 6))
        await settled()
        assert not waiting.done()
        await asyncio.wait_for(budget.take(old, 100), PATIENCE)
        await budget.give_back(old)
        await asyncio.wait_for(waiting, PATIENCE)
        await budget.give_back(young)
        await budget.give_back(young)
        await asyncio.wait_for(budget.take(object(), 10), PATIENCE)

    asyncio.run(script())


def test_request_that_is_given_up_gives_its_bytes_back() -> None:
    async def script() -> None:
        budget = BodyBudget(10)
        stuck = Asked(BodyGuard(read_then(asyncio.Event().wait), 100, budget), scope(), b"x" * 10)
        await settled()
        young = Asked(BodyGuard(read_then(nothing), 100, budget), scope(), b"x")
        await settled()
        assert young.status is None
        stuck.task.cancel()
        assert await young.answered() == 200

    asyncio.run(script())


@pytest.mark.parametrize(
    ("length", "status"),
    [
        pytest.param("100", 200, id="at-the-bound"),
        pytest.param("101", 413, id="over-the-bound"),
        pytest.param("9" * 50, 413, id="astronomical"),
        pytest.param("-1", 200, id="no-number"),
    ],
)
def test_body_that_is_declared_too_large_is_not_read(length: str, status: int) -> None:
    async def script() -> int:
        app = BodyGuard(read_then(nothing), 100, BodyBudget(1000))
        return await Asked(app, scope(content_length=length)).answered()

    assert asyncio.run(script()) == status


@pytest.mark.parametrize(
    ("headers", "chunks", "reads", "closes"),
    [
        pytest.param({}, [], False, False, id="no-body"),
        pytest.param({"content_length": "0"}, [], False, False, id="empty-body"),
        pytest.param({"content_length": "2"}, [b"a", b"b"], True, False, id="body-read"),
        pytest.param({"content_length": "2"}, [b"a", b"b"], False, False, id="body-thrown-away"),
        pytest.param(
            {"transfer_encoding": "chunked"}, [b"a"] * 9, False, False, id="chunks-thrown-away"
        ),
        pytest.param(
            {"transfer_encoding": "chunked"}, [b"a" * 2**20] * 99, False, True, id="too-much"
        ),
        pytest.param(
            {"content_length": "2", "expect": "100-continue"}, [], False, True, id="not-yet-sent"
        ),
    ],
)
def test_connection_is_closed_over_an_unread_body(
    headers: dict[str, str], chunks: list[bytes], reads: bool, closes: bool
) -> None:
    async def script() -> list[Any]:
        app = UnreadBodyCloses(read_then(nothing) if reads else refuse)
        asked = Asked(app, scope(**headers), *chunks)
        await asked.answered()
        return list(asked.messages[0]["headers"])

    assert ((b"connection", b"close") in asyncio.run(script())) == closes


def test_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "_LINGER_SECONDS", 0.01)

    async def script() -> list[Any]:
        sent: list[Message] = []

        async def receive() -> Message:
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Message) -> None:
            sent.append(message)

        await asyncio.wait_for(
            UnreadBodyCloses(refuse)(scope(content_length="2"), receive, send), PATIENCE
        )
        return list(sent[0]["headers"])

    assert (b"connection", b"close") in asyncio.run(script())


def read_then(work: Callable[[], Awaitable[Any]]) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await work()
        await refuse(scope, receive, send)

    return app


async def nothing() -> None:
    pass


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})
