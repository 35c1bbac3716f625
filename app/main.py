"""The admin API as one FastAPI application, and the uvicorn server that carries it on a thread.

Health, metrics and the API share one listener. In standalone mode it listens on loopback only and
trusts whoever reaches it; so a browser must not be made to reach it: a foreign Host (DNS rebinding)
or Origin (another page's script) is refused. Called by the CLI.
"""

from __future__ import annotations

import socket
import threading
import time
from importlib.metadata import version

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api import health, policies, proxies
from app.controller.runtime import Runtime
from app.errors import AppError, SettingError
from app.metrics import Metrics

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_MISDIRECTED = 421
_FORBIDDEN = 403
_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
"""Methods that get a series of their own; there are no bounds to what a client may invent."""


def create_api(runtime: Runtime) -> FastAPI:
    """The application of the admin listener."""
    api = FastAPI(
        title="Open Service Mesh admin API",
        version=version("openservicemesh"),
        summary="What the mesh knows, what each proxy was sent and took, and what is not in force.",
    )
    api.state.runtime = runtime
    for router in (health.router, proxies.router, policies.router):
        api.include_router(router)
    api.add_exception_handler(AppError, _answer_error)
    api.add_middleware(LoopbackGuard)
    api.add_middleware(AnswerCounter, metrics=runtime.metrics)
    return api


def _answer_error(_: Request, error: Exception) -> JSONResponse:
    status = error.http_status if isinstance(error, AppError) else AppError.http_status
    code = error.code if isinstance(error, AppError) else AppError.code
    return JSONResponse({"detail": str(error), "code": code}, status_code=status)


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


class ApiServer:
    """uvicorn on a thread of its own; the listening socket is bound before ``start`` returns."""

    def __init__(self, api: FastAPI, host: str, port: int) -> None:
        self._host = host
        self._requested_port = port
        config = uvicorn.Config(api, log_config=None, access_log=False, lifespan="off")
        self._server = uvicorn.Server(config)
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where the API answers, once started."""
        port = self._socket.getsockname()[1] if self._socket else self._requested_port
        return f"http://{self._host}:{port}"

    def start(self) -> None:
        """The API answers; raise ``SettingError`` when the port is taken."""
        try:
            self._socket = socket.create_server((self._host, self._requested_port))
        except OSError as error:
            raise SettingError(
                f"the admin API cannot listen on {self._host}:{self._requested_port}: "
                f"{error.strerror}; choose another with --api-port"
            ) from error
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="http", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """The listener is closed and its thread has ended."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join()
        if self._socket is not None:
            self._socket.close()
