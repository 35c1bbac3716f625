"""All HTTP listeners of the process: one thread, one event loop, one uvicorn server per listener.

A listener is an application at an address, plain or with TLS, open always or while a condition
holds. Everything a stranger may do to it is bounded: connections, header bytes, the time for
handshake, headers, idling and reading our answer. The only door to uvicorn. Called by the CLI,
which hands in the applications of ``main``. Specification: HOUSE 4.7, kubernetes-surface 8.3.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import anyio.to_thread
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from app import logs
from app.errors import ListenError

CLIENT_KEEP_ALIVE_SECONDS = 120
"""Longer than the 90 s after which the API server drops an idle connection: were it shorter, we
might close one just as an admission request comes on it, which the API server does not repeat."""
_PLAIN_KEEP_ALIVE_SECONDS = 15
_HANDSHAKE_SECONDS = 5.0
_HEADER_SECONDS = 10.0
_READ_SECONDS = 30.0
_HEADER_BYTES = 32 * 1024
_BACKLOG = 512
_THREADS = 64
"""The common pool of plain handlers; ``AtMost`` keeps one listener from taking all of it."""
_FOLLOW_SECONDS = 0.5
_DRAIN_SECONDS = 12
"""For requests that are being answered at the end: the webhook timeout and a little."""

Application = ASGIApp
"""What a listener serves; those of ``main`` in truth."""
_Result = TypeVar("_Result")
_log = logs.logger("http")


class ServerIdentity(Protocol):
    """What a TLS listener shows and proves it owns, PEM."""

    @property
    def certificate_chain(self) -> bytes:
        """The leaf first."""
        ...

    @property
    def private_key(self) -> bytes:
        """The leaf's key."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """An application at an address."""

    name: str
    app: Application
    host: str
    port: int
    """0: a free one."""
    option: str
    """What to change where the port is taken, such as ``--api-port``."""
    certificate: Callable[[], ServerIdentity] | None = None
    """Asked at each handshake, so it shows the newest; None: plain HTTP."""
    is_wanted: Callable[[], bool] | None = None
    """Open only while it is true; None: always."""
    keep_alive_seconds: int = _PLAIN_KEEP_ALIVE_SECONDS
    most_connections: int = 256


class HttpServer:
    """The thread ``http``. Methods are called from other threads; ``stop`` may be called twice."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        self._open: dict[str, _Open] = {}
        self._followers: dict[str, asyncio.Task[None]] = {}
        self._leaving = False

    def start(self) -> None:
        """The thread runs; nothing is open yet."""
        self._thread.start()

    def open(self, listener: Listener) -> None:
        """The listener answers, or will while it is wanted; raise ``ListenError``."""
        if listener.is_wanted is None:
            bound = _bind(listener)
            self._ask(self._serve(listener, bound))
        else:
            self._ask(self._start_following(listener))

    def url(self, name: str) -> str:
        """Where the open listener of that name answers."""
        return self._open[name].url

    def is_open(self, name: str) -> bool:
        """True while it answers."""
        return name in self._open

    def leave(self) -> None:
        """Each answer ends its connection from now on, so that clients go elsewhere."""
        self._ask(self._leave())

    def close(self, *names: str) -> None:
        """These listeners are closed; what they were being asked has been answered."""
        self._ask(self._close(names))

    def stop(self) -> None:
        """All listeners are closed and the thread has ended."""
        if self._thread.is_alive():
            self._ask(self._close(tuple({*self._open, *self._followers})))
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        if not self._loop.is_closed():
            self._loop.close()

    def _ask(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _serve(self, listener: Listener, bound: socket.socket) -> None:
        anyio.to_thread.current_default_thread_limiter().total_tokens = _THREADS
        server = _Server(_config(listener))
        await server.startup(sockets=[bound])
        if self._leaving:
            server.leave()
        # Its loop writes the date of answers anew and waits for should_exit.
        task = asyncio.create_task(server.main_loop(), name=listener.name)
        self._open[listener.name] = _Open(listener=listener, server=server, bound=bound, task=task)

    async def _close(self, names: tuple[str, ...]) -> None:
        for name in names:
            if name in self._followers:
                self._followers.pop(name).cancel()
        closing = [self._open.pop(name) for name in names if name in self._open]
        await asyncio.gather(*(each.close() for each in closing))

    async def _leave(self) -> None:
        self._leaving = True
        for each in self._open.values():
            each.server.leave()

    async def _start_following(self, listener: Listener) -> None:
        self._followers[listener.name] = asyncio.create_task(self._follow(listener))

    async def _follow(self, listener: Listener) -> None:
        """The listener is open while it is wanted; one that cannot be is told once."""
        failed = False
        while listener.is_wanted is not None:
            wanted = listener.is_wanted()
            if wanted and not failed and not self.is_open(listener.name):
                try:
                    await self._serve(listener, _bind(listener))
                    _log.info("listener opened", listener=listener.name)
                except ListenError as error:
                    failed = True
                    _log.error("listener not opened", error=str(error), error_code=error.code)
            elif not wanted:
                failed = False
                if listener.name in self._open:
                    await self._open.pop(listener.name).close()
                    _log.info("listener closed", listener=listener.name)
            await asyncio.sleep(_FOLLOW_SECONDS)


class ApiServer:
    """One listener on a thread of its own, for a process that has no other."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._server = HttpServer()

    @property
    def url(self) -> str:
        """Where it answers, once started."""
        return self._server.url(self._listener.name)

    def start(self) -> None:
        """It answers; raise ``ListenError`` when the port is taken."""
        self._server.start()
        self._server.open(self._listener)

    def stop(self) -> None:
        """It is closed and its thread has ended."""
        self._server.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Open:
    """A listener that answers."""

    listener: Listener
    server: _Server
    bound: socket.socket
    task: asyncio.Task[None]

    @property
    def url(self) -> str:
        scheme = "http" if self.listener.certificate is None else "https"
        host, port = self.bound.getsockname()[:2]
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"

    async def close(self) -> None:
        """No new connection is taken, open ones have been answered."""
        self.server.should_exit = True
        await self.task
        await self.server.shutdown(sockets=[self.bound])


class _Server(uvicorn.Server):
    """uvicorn with bounds for the handshake, which its configuration does not have."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """The sockets are listened on."""
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        is_tls = self.config.ssl is not None
        self.servers = [
            await asyncio.get_running_loop().create_server(
                self._new_protocol,
                sock=bound,
                ssl=self.config.ssl,
                backlog=_BACKLOG,
                ssl_handshake_timeout=_HANDSHAKE_SECONDS if is_tls else None,
                ssl_shutdown_timeout=_HANDSHAKE_SECONDS if is_tls else None,
            )
            for bound in sockets or []
        ]
        self.started = True

    def leave(self) -> None:
        """Each answer carries ``connection: close`` from now on."""
        self.config.encoded_headers = [*self.config.encoded_headers, (b"connection", b"close")]
        self.server_state.default_headers = list(self.config.encoded_headers)

    def _new_protocol(self) -> _BoundedProtocol:
        return _BoundedProtocol(config=self.config, server_state=self.server_state, app_state={})


class _BoundedProtocol(H11Protocol):
    """One connection: its headers come in time, and its client reads what it asked for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._due: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Note it, or end it at once where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > 2 * (self.config.limit_concurrency or len(self.connections)):
            transport.abort()
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing of it is waited for any more."""
        super().connection_lost(exc)
        self._drop_due()
        self._drop_unread()

    def data_received(self, data: bytes) -> None:
        """Headers that come byte by byte do not put the deadline off."""
        super().data_received(data)
        self._await_headers()

    def pause_writing(self) -> None:
        """The client must read on soon."""
        super().pause_writing()
        self._drop_unread()
        self._unread = self.loop.call_later(_READ_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads."""
        super().resume_writing()
        self._drop_unread()

    def _await_headers(self) -> None:
        cycle: RequestResponseCycle | None = self.cycle
        is_answering = cycle is not None and not cycle.response_complete
        if is_answering or self.transport.is_closing() or self.timeout_keep_alive_task:
            self._drop_due()
        elif self._due is None:
            self._due = self.loop.call_later(_HEADER_SECONDS, self.transport.abort)

    def _drop_due(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _drop_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


def _config(listener: Listener) -> uvicorn.Config:
    certificate = listener.certificate
    context = None if certificate is None else serving_context(certificate)
    return uvicorn.Config(
        listener.app,
        http=_BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=listener.most_connections,
        timeout_keep_alive=listener.keep_alive_seconds,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
        h11_max_incomplete_event_size=_HEADER_BYTES,
        ssl_context_factory=None if context is None else lambda _config, _default: context,
    )


def _bind(listener: Listener) -> socket.socket:
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    try:
        return socket.create_server((listener.host, listener.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ListenError(
            f"the {listener.name} listener cannot listen on {listener.host}:{listener.port}: "
            f"{error.strerror}; choose another with {listener.option}"
        ) from error


def serving_context(certificate: Callable[[], ServerIdentity]) -> ssl.SSLContext:
    """A TLS context whose every handshake shows the newest certificate; TLS 1.2 or later."""
    shown = certificate()
    newest = _context(shown)

    def choose(connection: ssl.SSLObject, _name: str | None, _front: ssl.SSLContext) -> None:
        nonlocal shown, newest
        pair = certificate()
        if pair is not shown:
            shown = pair
            try:
                newest = _context(pair)
            except (ssl.SSLError, OSError) as error:
                _log.error("new certificate not usable", error=str(error), error_code="E6101")
        connection.context = newest

    front = _context(shown)
    front.sni_callback = choose
    return front


def _context(pair: ServerIdentity) -> ssl.SSLContext:
    """A server's context, made without a key on any disk."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    file = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        with os.fdopen(file, "wb", closefd=False) as memory:
            memory.write(pair.certificate_chain + b"\n" + pair.private_key)
        context.load_cert_chain(f"/proc/self/fd/{file}")
    finally:
        os.close(file)
    return context
