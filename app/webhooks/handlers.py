"""``POST /mutate-pod-creation``: the API server asks, the injector decides, a patch goes back.

The body is read with a limit and a deadline on the event loop; the rest is a plain function on
FastAPI's pool, since it issues a certificate and writes a Secret (kubernetes-surface 3.1).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated

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

Inject = Callable[[RawObject, str, bool], Injected | Skip]
"""Called with the raw Pod, its namespace, and whether nothing may be written."""
Answered = Callable[[bool], None]
"""Told after each answer whether the Pod was allowed."""


def mutation_router(inject: Inject, answered: Answered = lambda _: None) -> APIRouter:
    """The route of the injection listener."""
    router = APIRouter()

    # The answer is bytes on purpose: a review that API server and we read alike, without a model.
    @router.post(MUTATE_PATH, response_model=None)
    def mutate_pod(body: Annotated[bytes | HttpRefusal, Depends(_read_body)]) -> Response:
        review = body if isinstance(body, HttpRefusal) else decode(body)
        if isinstance(review, HttpRefusal):
            return Response(review.text, status_code=review.status, media_type="text/plain")
        answer = _decide(review, inject) if isinstance(review, PodReview) else review
        answered(isinstance(answer, Allowed))
        return Response(encode(answer), media_type="application/json")

    return router


def _decide(review: PodReview, inject: Inject) -> Allowed | Refused:
    try:
        outcome = inject(review.pod, review.namespace, review.is_dry_run)
    except MeshError as error:
        return Refused(uid=review.uid, message=str(error), code=error.code)
    except Exception:
        # Without an answer the API server would tell the user nothing but "webhook failed".
        logger("webhooks").exception("injection failed", namespace=review.namespace)
        text = "injection failed for a reason of its own; the log of the controller tells more"
        return Refused(uid=review.uid, message=text, code=MeshError.code)
    patch = outcome.patch if isinstance(outcome, Injected) else None
    return Allowed(uid=review.uid, patch=patch)


async def _read_body(request: Request) -> bytes | HttpRefusal:
    """The whole body, or the reason why it is not read further."""
    refusal = check_content_type(request.headers.get("content-type"))
    if refusal is not None:
        return refusal
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_DEADLINE_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    break
    except ClientDisconnect:
        return HttpRefusal(status=500, text="the admission body broke off", code="E6111")
    except TimeoutError:
        text = f"the admission body did not arrive within {BODY_DEADLINE_SECONDS:g} s"
        return HttpRefusal(status=408, text=text, code="E6111")
    return bytes(body)
