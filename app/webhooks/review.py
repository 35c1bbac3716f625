"""AdmissionReview: bytes to a request, an outcome to an answer; both bounded.

Rows of the table in kubernetes-surface 3.1. What cannot be read is a value too:
:class:`HttpRefusal` is answered with an HTTP status, :class:`Refused` inside an AdmissionReview, so
that the API server shows its message to whoever made the Pod.
"""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import dataclass
from typing import Any, assert_never

from app.inject.plan import JsonPatch
from app.objects.meta import RawObject

MAX_BODY_BYTES = 3 * 1024 * 1024
"""The most the API server accepts itself."""
MAX_DEPTH = 100
"""Nesting of JSON; a Pod needs about a dozen levels, copying and comparing recurse per level."""

API_VERSION = "admission.k8s.io/v1"
KIND = "AdmissionReview"
_JSON = "application/json"
_SHOWN_CHARACTERS = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRefusal:
    """The HTTP request is not one that can hold a review."""

    status: int
    text: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The Pod is not admitted. ``uid`` is empty only where the review has none."""

    uid: str
    message: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """The Pod is admitted, changed by the patch; None leaves it as it is."""

    uid: str
    patch: JsonPatch | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PodReview:
    """One question of the API server."""

    uid: str
    namespace: str
    pod: RawObject
    is_dry_run: bool


def check_content_type(content_type: str | None) -> HttpRefusal | None:
    """None for JSON, with or without a charset."""
    media_type, _, parameters = (content_type or "").partition(";")
    is_json = media_type.strip().lower() == _JSON
    if is_json and (not parameters or parameters.strip().lower().startswith("charset=")):
        return None
    text = f"content type is {content_type or 'missing'!r}, expected {_JSON!r}"
    return HttpRefusal(status=415, text=text, code="E6105")


def decode(body: bytes) -> PodReview | HttpRefusal | Refused:
    """The question, or why there is none. Never raises, whatever the bytes are."""
    if not body:
        return HttpRefusal(status=400, text="the admission body is empty", code="E6112")
    if len(body) > MAX_BODY_BYTES:
        text = f"the admission body has more than {MAX_BODY_BYTES} bytes"
        return HttpRefusal(status=413, text=text, code="E6111")
    try:
        review = json.loads(body, parse_constant=_refuse_constant)
    # A lone surrogate is refused where the text is checked; nesting may exhaust the parser's stack.
    except (ValueError, RecursionError) as error:
        return Refused(uid="", message=f"the admission body is not JSON: {error}", code="E6103")
    return _read(review)


def encode(answer: Allowed | Refused) -> bytes:
    """The AdmissionReview that carries the answer; ASCII only."""
    response: dict[str, Any] = {"uid": answer.uid, "allowed": isinstance(answer, Allowed)}
    match answer:
        case Refused():
            response["status"] = {"message": answer.message, "code": 400}
        case Allowed():
            if answer.patch:
                response["patchType"] = "JSONPatch"
                response["patch"] = b64encode(json.dumps(answer.patch).encode()).decode()
        case _:
            assert_never(answer)
    return json.dumps({"apiVersion": API_VERSION, "kind": KIND, "response": response}).encode()


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _read(review: Any) -> PodReview | Refused:
    problem = _nesting_problem(review) or _shape_problem(review)
    if problem:
        return Refused(uid=_uid_of(review), message=problem, code="E6103")
    request = review.get("request")
    if request is None:
        return Refused(uid="", message="nil admission request", code="E6107")
    if not isinstance(request, dict) or not _uid_of(review):
        return Refused(uid="", message="the admission request has no uid", code="E6103")
    uid, pod = request["uid"], request.get("object")
    if not isinstance(pod, dict) or pod.get("kind") != "Pod":
        return Refused(uid=uid, message="request.object is not a Pod", code="E3002")
    return PodReview(
        uid=uid,
        namespace=_namespace(request, pod),
        pod=pod,
        is_dry_run=request.get("dryRun") is True,
    )


def _shape_problem(review: Any) -> str | None:
    if not isinstance(review, dict):
        return f"the admission body is not an {KIND}"
    for field, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
        if review.get(field) != wanted:
            found = repr(review.get(field))[:_SHOWN_CHARACTERS]
            return f"{field} of the admission body is {found}, expected {wanted!r}"
    return None


def _nesting_problem(review: Any) -> str | None:
    """Too deep to copy, or a text that no answer could carry; found without recursion."""
    level: list[Any] = [review]
    for _ in range(MAX_DEPTH):
        level = [part for value in level for part in _parts(value)]
        if not level:
            return None
        if any(isinstance(part, str) and not _is_text(part) for part in level):
            return "the admission body has a text that is not Unicode"
    return f"the admission body is nested more than {MAX_DEPTH} levels deep"


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return value if isinstance(value, list) else []


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _uid_of(review: Any) -> str:
    request = review.get("request") if isinstance(review, dict) else None
    uid = request.get("uid") if isinstance(request, dict) else None
    return uid if isinstance(uid, str) else ""


def _namespace(request: RawObject, pod: RawObject) -> str:
    """That of the request; a Pod's own is usually empty at this point."""
    metadata = pod.get("metadata")
    own = metadata.get("namespace") if isinstance(metadata, dict) else None
    return next((n for n in (request.get("namespace"), own) if isinstance(n, str) and n), "default")
