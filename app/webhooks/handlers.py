"""The two webhooks: the API server asks, the injector or the validator decides.

``POST /mutate-pod-creation`` answers with a patch, ``POST /validate`` with a verdict. The body is
read with a limit and a deadline on the event loop; the rest is a plain function on FastAPI's pool,
since injection issues a certificate and writes a Secret (kubernetes-surface 3.1 and 5.1).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Depends, Request, Response
from starlette.requests import ClientDisconnect

from app.inject.decide import Skip
from app.inject.plan import Injected
from app.logs import logger
from app.objects.meta import RawObject
from app.validate.check import VALIDATED, Operation
from app.validate.verdict import Verdict
from app.webhooks.review import (
    MAX_BODY_BYTES,
    Allowed,
    HttpRefusal,
    PodReview,
    Refused,
    Review,
    check_content_type,
    decode,
    encode,
    pod_of,
)
from xds.resource import MeshError

MUTATE_PATH = "/mutate-pod-creation"
VALIDATE_PATH = "/validate"
BODY_DEADLINE_SECONDS = 5.0
REFUSED_OBJECT = "E6704"
_SHOWN_CHARACTERS = 80


class PodInjector(Protocol):
    """Who gives a Pod its sidecar; ``Injector.inject`` in truth. Raises ``MeshError`` to refuse."""

    def __call__(self, pod: RawObject, *, namespace: str, dry_run: bool) -> Injected | Skip:
        """The Pod with its sidecar, or why it has none; nothing is written on a dry run."""
        ...


class Validator(Protocol):
    """Who judges objects; ``app.validate.check.check`` with the newest snapshot in truth."""

    def __call__(
        self, new: RawObject | None, old: RawObject | None, operation: Operation
    ) -> Verdict:
        """The verdict; nothing is written."""
        ...


Answered = Callable[[str, bool], None]
"""Told after each answer the kind of the object, and whether it was allowed."""
UNKNOWN_KIND = "unknown"
"""The kind of what cannot be read, or has no rules: callers must not make up kinds."""


def mutation_router(
    inject: PodInjector,
    answered: Answered = lambda _, __: None,
    *,
    deadline_seconds: float = BODY_DEADLINE_SECONDS,
) -> APIRouter:
    """The route of the injection listener; a body must have arrived by the deadline."""

    def answer(review: Review) -> tuple[str, Allowed | Refused]:
        asked = pod_of(review)
        return "Pod", _inject(asked, inject) if isinstance(asked, PodReview) else asked

    return _router(
        MUTATE_PATH, answer, answered, unread_kind="Pod", deadline_seconds=deadline_seconds
    )


def validation_router(
    validate: Validator,
    answered: Answered = lambda _, __: None,
    *,
    deadline_seconds: float = BODY_DEADLINE_SECONDS,
) -> APIRouter:
    """The route of the validation listener; a body must have arrived by the deadline."""

    def answer(review: Review) -> tuple[str, Allowed | Refused]:
        return _kind_of(review), _validate(review, validate)

    return _router(
        VALIDATE_PATH, answer, answered, unread_kind=UNKNOWN_KIND, deadline_seconds=deadline_seconds
    )


def _router(
    path: str,
    answer: Callable[[Review], tuple[str, Allowed | Refused]],
    answered: Answered,
    *,
    unread_kind: str,
    deadline_seconds: float,
) -> APIRouter:
    router = APIRouter()
    read_body = _body_reader(deadline_seconds)

    # Annotations are real objects here, not text: FastAPI could not look up ``read_body`` by name.
    # The answer is bytes on purpose: a review that API server and we read alike, without a model.
    @router.post(path, response_model=None)
    def admit(body: Annotated[bytes | HttpRefusal, Depends(read_body)]) -> Response:
        review = body if isinstance(body, HttpRefusal) else decode(body)
        if isinstance(review, HttpRefusal):
            return Response(review.text, status_code=review.status, media_type="text/plain")
        if isinstance(review, Review):
            kind, outcome = answer(review)
        else:
            kind, outcome = unread_kind, review
        answered(kind, isinstance(outcome, Allowed))
        return Response(encode(outcome), media_type="application/json")

    return router


def _inject(review: PodReview, inject: PodInjector) -> Allowed | Refused:
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


def _validate(review: Review, validate: Validator) -> Allowed | Refused:
    if review.operation not in set(Operation):
        known = ", ".join(Operation)
        found = review.operation[:_SHOWN_CHARACTERS]
        text = f"request.operation must be one of {known}, not {found!r}"
        return Refused(uid=review.uid, message=text, code="E6103")
    new, old = (_placed(one, review.namespace) for one in (review.object, review.old_object))
    try:
        verdict = validate(new, old, Operation(review.operation))
    except MeshError as error:
        return Refused(uid=review.uid, message=str(error), code=error.code)
    except Exception:
        logger("webhooks").exception("validation failed", namespace=review.namespace)
        text = "validation failed for a reason of its own; the log of the controller tells more"
        return Refused(uid=review.uid, message=text, code=MeshError.code)
    warnings = tuple(str(warning) for warning in verdict.warnings)
    if verdict.allowed:
        return Allowed(uid=review.uid, warnings=warnings)
    return Refused(uid=review.uid, message=verdict.message, code=REFUSED_OBJECT, warnings=warnings)


def _placed(raw: Any, namespace: str) -> RawObject | None:
    """The object with the namespace of the request; what is no object stays None."""
    if not isinstance(raw, dict):
        return None
    metadata = raw.get("metadata")
    if not namespace or not isinstance(metadata, dict) or metadata.get("namespace"):
        return raw
    return {**raw, "metadata": {**metadata, "namespace": namespace}}


def _kind_of(review: Review) -> str:
    raw = review.object if isinstance(review.object, dict) else review.old_object
    kind = raw.get("kind") if isinstance(raw, dict) else None
    return kind if isinstance(kind, str) and kind in set(VALIDATED) else UNKNOWN_KIND


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
