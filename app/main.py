"""One application per listener, with its own routes only and its guards around it.

Health, metrics and the admin API share one. In standalone mode it trusts whoever reaches loopback,
so a browser must not be made to reach it; in a cluster callers show a bearer token. The API server
asks two more, and a debug server is open while MeshConfig says so. Called by the CLI, which gives
the applications to ``listeners``. Specification: HOUSE 4.7, kubernetes-surface 8.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app import logs
from app.api import debug, errors, explain, health, mesh, namespaces, policies, proxies
from app.controller.runtime import Runtime
from app.deps import authorised
from app.errors import AppError, NotFoundError, UnauthenticatedError
from app.guards import (
    AnswerCounter,
    AtMost,
    BodyBudget,
    BodyGuard,
    LoopbackGuard,
    UnreadBodyCloses,
)
from app.inject.decide import Skip
from app.inject.plan import Injected
from app.metrics import Metrics
from app.objects.meta import RawObject
from app.validate.check import Operation, check
from app.validate.verdict import Verdict
from app.webhooks.handlers import mutation_router, validation_router
from app.webhooks.review import MAX_BODY_BYTES

_API_REQUESTS = 16
"""Worked on at once; each may wait for the API server, and none may hold up an admission."""
_HEALTH = frozenset({"/health/alive", "/health/ready", "/healthz"})
_BODY_BUDGET = 8 * 1024 * 1024
_SERVER_ERROR = 500
_SURPRISE = "E5000"
_ADMIN = (
    mesh.router,
    namespaces.router,
    proxies.router,
    policies.router,
    explain.router,
    errors.router,
)
_CLUSTER_ONLY = (namespaces.changes,)
_DEBUG_REQUESTS = 4
_NEWS_SECONDS = 0.2
"""How long a warning waits for what it misses; the API server tells of a write sooner."""


def create_api(runtime: Runtime) -> FastAPI:
    """Health, metrics, version and the admin API; with tokens where there is an authenticator."""
    api = FastAPI(
        title="Open Service Mesh admin API",
        version=version("openservicemesh"),
        summary="What the mesh knows, what each proxy was sent and took, and what is not in force.",
    )
    api.include_router(health.router)
    is_open = runtime.compute.authenticator is None
    for router in _ADMIN if is_open else (*_ADMIN, *_CLUSTER_ONLY):
        api.include_router(router, dependencies=[] if is_open else [Depends(authorised)])
    api.add_middleware(AtMost, most=_API_REQUESTS, free=_HEALTH)
    if is_open:
        api.add_middleware(LoopbackGuard)
    _finish(api, runtime)
    return api


def create_injection(runtime: Runtime, budget: BodyBudget) -> FastAPI:
    """What the API server asks while a Pod is created; nothing else."""

    def inject(pod: RawObject, *, namespace: str, dry_run: bool) -> Injected | Skip:
        return runtime.injector.inject(pod, namespace=namespace, dry_run=dry_run)

    return _admission(runtime, budget, mutation_router(inject, _counted(runtime.metrics)))


def create_validation(runtime: Runtime, budget: BodyBudget) -> FastAPI:
    """What the API server asks before it stores an object of the mesh; nothing else."""

    def validate(new: RawObject | None, old: RawObject | None, operation: Operation) -> Verdict:
        def judged() -> Verdict:
            namespace = runtime.settings.osm_namespace
            return check(new, old, operation, snapshot=runtime.snapshot, osm_namespace=namespace)

        verdict = judged()
        if verdict.allowed and verdict.warnings:
            # What is missed may have been written a moment ago, by the same kubectl apply.
            runtime.hear_news(_NEWS_SECONDS)
            verdict = judged()
        return verdict

    return _admission(runtime, budget, validation_router(validate, _counted(runtime.metrics)))


def create_debug(runtime: Runtime) -> FastAPI:
    """The pages of the debug server, without authentication; nothing else."""
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    app.include_router(debug.router)
    app.add_middleware(AtMost, most=_DEBUG_REQUESTS)
    _finish(app, runtime)
    return app


def body_budget() -> BodyBudget:
    """What the bodies of both webhooks may take together."""
    return BodyBudget(_BODY_BUDGET)


def _admission(runtime: Runtime, budget: BodyBudget, router: APIRouter) -> FastAPI:
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    app.include_router(router)
    app.add_middleware(BodyGuard, most_bytes=MAX_BODY_BYTES, budget=budget)
    _finish(app, runtime)
    return app


def _counted(metrics: Metrics) -> Callable[[str, bool], None]:
    def answered(kind: str, is_allowed: bool) -> None:  # noqa: FBT001 as webhooks call it
        metrics.admissions.inc(kind, str(is_allowed).lower())

    return answered


def _finish(app: FastAPI, runtime: Runtime) -> None:
    app.state.runtime = runtime
    app.add_exception_handler(AppError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_unrouted)
    app.add_exception_handler(Exception, _answer_surprise)
    app.add_middleware(UnreadBodyCloses)
    app.add_middleware(AnswerCounter, metrics=runtime.metrics)


def _answer_error(_: Request, error: Exception) -> JSONResponse:
    status = error.http_status if isinstance(error, AppError) else AppError.http_status
    code = error.code if isinstance(error, AppError) else AppError.code
    if status >= _SERVER_ERROR:
        logs.logger("http").warning("request not answered", error=str(error), error_code=code)
    headers = {"www-authenticate": "Bearer"} if isinstance(error, UnauthenticatedError) else None
    return JSONResponse({"detail": str(error), "code": code}, status_code=status, headers=headers)


def _answer_unrouted(_: Request, error: Exception) -> JSONResponse:
    """No such path, or no such method there."""
    assert isinstance(error, HTTPException)  # noqa: S101 what it is registered for
    body = {"detail": str(error.detail), "code": NotFoundError.code}
    return JSONResponse(body, status_code=error.status_code, headers=error.headers)


def _answer_surprise(_: Request, __: Exception) -> JSONResponse:
    """The server logs the traceback itself; the caller learns nothing of our insides."""
    detail = "the request failed for a reason of its own; the log of the controller tells more"
    return JSONResponse({"detail": detail, "code": _SURPRISE}, status_code=_SERVER_ERROR)
