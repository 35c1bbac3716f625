"""``POST /mutate-pod-creation``: the API server asks, the injector decides, a patch goes back.

The body is read with a limit and a deadline on the event loop; the rest is a plain function on
FastAPI's pool, since it issues a certificate and writes a Secret (kubernetes-surface 3.1).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Protocol

from fastapi import APIRouter, Depends, Request, Response
from starlette.requests import ClientDisconnect

from app.inject.decide import Skip
from app.inject.plan import Injected
from app.logs import logger
from app.objects.meta import RawObject
from app.webhooks.review import (
    MAX_BODY_BYTES,
    Allowed,
    HttpRefusal,
    PodReview,
    Refused,
    check_content_type,
    decode,
    encode,
)
from xds.resource import MeshError

MUTATE_PATH = "/mutate-pod-creation"
BODY_DEADLINE_SECONDS = 5.0


class PodInjector(Protocol):
    """Who gives a Pod its sidecar; ``Injector.inject`` in truth. Raises ``MeshError`` to refuse."""

    def __call__(self, pod: RawObject, *, namespace: str, dry_run: bool) -> Injected | Skip:
        """The Pod with its sidecar, or why it has none; nothing is written on a dry run."""
        ...


Answered = Callable[[bool], None]
"""Told after each answer whether the Pod was allowed."""


def mutation_router(
    inject: PodInjector,
    answered: Answered = lambda _: None,
    *,
    deadline_seconds: float = BODY_DEADLINE_SECONDS,
) -> APIRouter:
    """The route of the injection listener; a body must have arrived by the deadline."""
    router = APIRouter()
    read_body = _body_reader(deadline_seconds)

    # Annotations are real objects here, not text: FastAPI could not look up ``read_body`` by name.
    # The answer is bytes on purpose: a review that API server and we read alike, without a model.
    @router.post(MUTATE_PATH, response_model=None)
    def mutate_pod(body: Annotated[bytes | HttpRefusal, Depends(read_body)]) -> Response:
        review = body if isinstance(body, HttpRefusal) else decode(body)
        if isinstance(review, HttpRefusal):
            return Response(review.text, status_code=review.status, media_type="text/plain")
        answer = _decide(review, inject) if isinstance(review, PodReview) else review
        answered(isinstance(answer, Allowed))
        return Response(encode(answer), media_type="application/json")

    return router


def _decide(review: PodReview, inject: PodInjector) -> Allowed | Refused:
    try:
        outcome = inject(review.pod, namespace=review.namespace, dry_run=review.is_dry_run)
    except MeshError as error:
        return Refused(uid=review.uid, message=str(error), code=error.code)
    except Exception:
        # Without an answer the API server would tell the user nothing but "webhook failed".
        logger("webhooks").exception("injection failed", namespace=review.namespace)
        text = "injection failed for a reason of its own; the log of the controller tells more"
        return Refused(uid=review.uid, message=text, code=MeshError.code)
    patch = outcome.patch if isinstance(outcome, Injected) else None
    return Allowed(uid=review.uid, patch=patch)


def _body_reader(deadline_seconds: float) -> Callable[[Request], Awaitable[bytes | HttpRefusal]]:
    async def read_body(request: Request) -> bytes | HttpRefusal:
        """The whole body, or the reason why it is not read further."""
        refusal = check_content_type(request.headers.get("content-type"))
        if refusal is not None:
            return refusal
        try:
            async with asyncio.timeout(deadline_seconds):
                return await _collect(request)
        except ClientDisconnect:
            return HttpRefusal(status=500, text="the admission body broke off", code="E6111")
        except TimeoutError:
            text = f"the admission body did not arrive within {deadline_seconds:g} s"
            return HttpRefusal(status=408, text=text, code="E6111")

    return read_body


async def _collect(request: Request) -> bytes:
    """The body, or so much of it that ``decode`` finds it too big."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            break
    return bytes(body)
