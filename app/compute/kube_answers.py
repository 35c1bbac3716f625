"""What an API server answered, and which error of ours that is; pure.

``kube_http`` makes answers, ``kube_client`` and the watches read them. An outcome that somebody
waits for (404, 409, 410) is a value until ``accepted`` is asked.
Source: the Kubernetes API reference, “Status”.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from pydantic_core import from_json

from app.errors import (
    AppError,
    ForbiddenError,
    KubernetesError,
    NotFoundError,
    UnauthenticatedError,
    UnreachableError,
    WriteConflict,
)
from app.objects.meta import RawObject

_MAX_WORDS = 2000
_ERRORS: Mapping[int, type[AppError]] = MappingProxyType(
    {
        HTTPStatus.UNAUTHORIZED: UnauthenticatedError,
        HTTPStatus.FORBIDDEN: ForbiddenError,
        HTTPStatus.NOT_FOUND: NotFoundError,
        HTTPStatus.CONFLICT: WriteConflict,
        HTTPStatus.TOO_MANY_REQUESTS: UnreachableError,
        HTTPStatus.BAD_GATEWAY: UnreachableError,
        HTTPStatus.SERVICE_UNAVAILABLE: UnreachableError,
        HTTPStatus.GATEWAY_TIMEOUT: UnreachableError,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP answer, read to its end."""

    status: int
    body: bytes
    retry_after_seconds: float | None = None
    """When the server wants to be asked again; None: it does not say."""

    @property
    def is_good(self) -> bool:
        """True for what the server did as it was asked."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES

    @property
    def is_missing(self) -> bool:
        """True when there is no such object, or no such kind."""
        return self.status == HTTPStatus.NOT_FOUND

    @property
    def is_conflict(self) -> bool:
        """True when the object exists, is another, or was changed meanwhile."""
        return self.status == HTTPStatus.CONFLICT

    @property
    def is_expired(self) -> bool:
        """True when the resourceVersion or the continuation is too old: list again."""
        return self.status == HTTPStatus.GONE


def accepted(answer: Answer, doing: str) -> RawObject:
    """The JSON object of a good answer; else raise what ``refusal`` says."""
    if not answer.is_good:
        raise refusal(answer, doing)
    found = parsed(answer.body)
    if not isinstance(found, dict):
        raise KubernetesError(f"{doing}: the answer is no JSON object; is this an API server?")
    return found


def refusal(answer: Answer, doing: str) -> AppError:
    """The error for an answer that is not good; ``doing`` is such as ``create Secret a/b``."""
    kind = _ERRORS.get(answer.status, KubernetesError)
    words = _words(answer)
    if kind is ForbiddenError:
        return kind(f"not allowed to {doing}: {words}")
    return kind(f"{doing}: {words}")


def parsed(body: bytes) -> Any:
    """The JSON value, or None where it is none."""
    try:
        return from_json(body)
    except ValueError:
        return None


def _words(answer: Answer) -> str:
    """What the server says, in its words."""
    status = parsed(answer.body)
    message = status.get("message") if isinstance(status, dict) else None
    if not message:
        text = answer.body.decode(errors="replace").strip()
        message = f"HTTP status {answer.status}{': ' if text else ''}{text}"
    return str(message)[:_MAX_WORDS]
