"""What stands before every application of a listener: counting, bounds, the guard of loopback.

Pure ASGI, so that nothing is read or kept that the application itself would not read. Called by
``main``, which wraps each listener's application. Specification: kubernetes-surface 8.2, 8.4.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.metrics import Metrics

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_MISDIRECTED = 421
_FORBIDDEN = 403
_TOO_LARGE = 413
_BUSY = 503
_MOST_DIGITS = 20
_LINGER_SECONDS = 0.5
_LINGER_BYTES = 16 * 1024 * 1024
_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
"""Methods that get a series of their own; there are no bounds to what a client may invent."""


class AnswerCounter:
    """Counts and times answers by the template of their route, never by the raw path."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and count what was answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, began = "500", time.monotonic()

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            path = getattr(scope.get("route"), "path", "")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.http_responses.inc(status, method, path)
            duration = self._metrics.http_duration.labels(status, method, path)
            duration.observe(time.monotonic() - began)


class LoopbackGuard:
    """Refuses requests that a web page elsewhere could have made a browser send."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what was addressed to loopback by its name and came from no foreign page."""
        refusal = _refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)


def _refusal(scope: Scope) -> JSONResponse | None:
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    host = headers.get(b"host", "")
    if _name_of(host) not in _LOOPBACK_NAMES:
        detail = f"Host {host!r} is not this machine's loopback; use http://127.0.0.1 or localhost"
        return JSONResponse({"detail": detail}, status_code=_MISDIRECTED)
    origin = headers.get(b"origin")
    if origin is not None and origin.partition("://")[2] != host:
        detail = f"Origin {origin!r} is foreign; this API answers no other page's scripts"
        return JSONResponse({"detail": detail}, status_code=_FORBIDDEN)
    return None


def _name_of(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].lower()


class AtMost:
    """Lets so many requests be worked on at once; as many again wait in line for each.

    One listener's slow requests then leave threads of the common pool to the others. Paths in
    ``free`` need no thread and do not wait.
    """

    def __init__(self, app: ASGIApp, most: int, free: frozenset[str] = frozenset()) -> None:
        self._app = app
        self._room = asyncio.Semaphore(most)
        self._most = most
        self._free = free
        self._present = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on when there is room; answer 503 where even the line is full."""
        if scope["type"] != "http" or scope["path"] in self._free:
            await self._app(scope, receive, send)
        elif self._present >= 2 * self._most:
            detail = "too many requests at once; try again in a moment"
            refusal = JSONResponse({"detail": detail}, status_code=_BUSY)
            refusal.headers["retry-after"] = "1"
            await refusal(scope, receive, send)
        else:
            await self._pass(scope, receive, send)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        inside = False

        def leave() -> None:
            nonlocal inside
            if inside:
                inside = False
                self._present -= 1
                self._room.release()

        async def release_then_send(message: Message) -> None:
            # The work is done; a client that reads slowly takes no room.
            leave()
            await send(message)

        self._present += 1
        try:
            await self._room.acquire()
        except BaseException:
            self._present -= 1
            raise
        inside = True
        try:
            await self._app(scope, receive, release_then_send)
        finally:
            leave()


class BodyBudget:
    """How many bytes of request bodies are in memory at once, over all listeners of one loop.

    Each byte of JSON may cost tens of bytes once it is decoded. The oldest request may always go
    on, so that two that wait cannot wait for each other.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._held: dict[object, int] = {}
        self._changed = asyncio.Condition()

    async def take(self, ticket: object, count: int) -> None:
        """The request holds so many bytes more; waits until they fit."""
        self._held.setdefault(ticket, 0)
        async with self._changed:
            await self._changed.wait_for(lambda: self._fits(ticket, count))
            self._held[ticket] += count

    async def give_back(self, ticket: object) -> None:
        """The request holds nothing any more."""
        if self._held.pop(ticket, None) is not None:
            async with self._changed:
                self._changed.notify_all()

    def _fits(self, ticket: object, count: int) -> bool:
        is_oldest = next(iter(self._held)) is ticket
        return is_oldest or sum(self._held.values()) + count <= self._most


class BodyGuard:
    """Refuses bodies declared too large, and lets in only so many bytes at a time."""

    def __init__(self, app: ASGIApp, most_bytes: int, budget: BodyBudget) -> None:
        self._app = app
        self._most = most_bytes
        self._budget = budget

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; what is received counts against the budget until the request is answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _declared_length(scope) > self._most:
            text = f"the body has more than {self._most} bytes"
            await PlainTextResponse(text, status_code=_TOO_LARGE)(scope, receive, send)
            return
        ticket = object()

        async def receive_within_budget() -> Message:
            message = await receive()
            await self._budget.take(ticket, len(message.get("body", b"")))
            return message

        try:
            await self._app(scope, receive_within_budget, send)
        finally:
            await self._budget.give_back(ticket)


class UnreadBodyCloses:
    """Ends the connection after an answer that did not wait for the whole body.

    The server would read the rest to find the next request, however long it is. A little of it is
    thrown away first: who is still sending when a connection is closed never sees the answer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and add ``connection: close`` where the body was not read to its end."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_unread = _has_body(scope)

        async def note(message: Message) -> None:
            starts = message["type"] == "http.response.start"
            if starts and is_unread and not await _is_soon_read(scope, receive):
                headers = [*message.get("headers", []), (b"connection", b"close")]
                message = {**message, "headers": headers}
            await send(message)

        async def watch() -> Message:
            nonlocal is_unread
            message = await receive()
            if message["type"] != "http.request" or not message.get("more_body", False):
                is_unread = False
            return message

        await self._app(scope, watch, note)


async def _is_soon_read(scope: Scope, receive: Receive) -> bool:
    """True when the rest of the body was short and quick; it was thrown away."""
    count = 0
    if _header(scope, b"expect"):  # who waits for "100 Continue" sends nothing before our answer
        return False
    with suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_SECONDS):
            while count < _LINGER_BYTES:
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return True
                count += len(message.get("body", b""))
    return False


def _has_body(scope: Scope) -> bool:
    return bool(_header(scope, b"transfer-encoding")) or _declared_length(scope) > 0


def _declared_length(scope: Scope) -> int:
    value = _header(scope, b"content-length")
    return int(value[:_MOST_DIGITS]) if value.isdigit() else 0


def _header(scope: Scope, wanted: bytes) -> bytes:
    return next((value for name, value in scope["headers"] if name == wanted), b"")
