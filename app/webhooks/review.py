"""AdmissionReview: bytes to a request, an outcome to an answer; both bounded.

Rows of the table in kubernetes-surface 3.1, for both webhooks. What cannot be read is a value too:
:class:`HttpRefusal` is answered with an HTTP status, :class:`Refused` inside an AdmissionReview, so
that the API server shows its message to whoever made the object.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections import Counter
from dataclasses import dataclass
from typing import Any, assert_never

from app.inject.patch import JsonPatch
from app.objects.meta import RawObject

MAX_BODY_BYTES = 3 * 1024 * 1024
"""The most the API server accepts itself."""
MAX_DEPTH = 100
"""Nesting of JSON; a Pod needs about a dozen levels, copying and comparing recurse per level."""
MAX_VALUES = 500_000
"""Values and keys of one review, so that it is read within a second."""

API_VERSION = "admission.k8s.io/v1"
KIND = "AdmissionReview"
_OLD_VERSIONS = frozenset({"admission.k8s.io/v1beta1"})
"""Versions that are refused, in answers that those who use them can read."""
_BEFORE_VALUES = (b",", b"[", b"{")
"""Each value but the first of its list or object has one of its own before it."""
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
    """The object is not admitted. ``uid`` is empty only where the review has none."""

    uid: str
    message: str
    code: str
    warnings: tuple[str, ...] = ()
    api_version: str = API_VERSION
    """That of the review, where it is one of AdmissionReviews."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """The object is admitted, changed by the patch; None leaves it as it is."""

    uid: str
    patch: JsonPatch | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """One question of the API server, about objects that nobody has looked into yet."""

    uid: str
    operation: str
    """``CREATE``, ``UPDATE``, ``DELETE`` or whatever was written."""
    namespace: str
    """Empty where the request names none."""
    object: Any
    """None for a deletion."""
    old_object: Any
    """None for a creation."""
    is_dry_run: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PodReview:
    """A question about a Pod."""

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


def decode(body: bytes) -> Review | HttpRefusal | Refused:
    """The question, or why there is none. Never raises, whatever the bytes are."""
    if not body:
        return HttpRefusal(status=400, text="the admission body is empty", code="E6112")
    if len(body) > MAX_BODY_BYTES:
        text = f"the admission body has more than {MAX_BODY_BYTES} bytes"
        return HttpRefusal(status=413, text=text, code="E6111")
    # Before they are made: millions of empty lists take seconds and a hundred megabytes.
    if sum(map(body.count, _BEFORE_VALUES)) > MAX_VALUES:
        text = f"the admission body has more than {MAX_VALUES} values"
        return Refused(uid="", message=text, code="E6103")
    try:
        review = json.loads(
            body, parse_constant=_refuse_constant, object_pairs_hook=_without_duplicates
        )
    # A lone surrogate is refused where the text is checked; nesting may exhaust the parser's stack.
    except (ValueError, RecursionError) as error:
        return Refused(uid="", message=f"the admission body is not JSON: {error}", code="E6103")
    return _read(review)


def pod_of(review: Review) -> PodReview | Refused:
    """The Pod a review is about, or the refusal of anything else."""
    pod = review.object
    if not isinstance(pod, dict) or pod.get("kind") != "Pod":
        return Refused(uid=review.uid, message="request.object is not a Pod", code="E3002")
    return PodReview(
        uid=review.uid,
        namespace=_namespace(review.namespace, pod),
        pod=pod,
        is_dry_run=review.is_dry_run,
    )


def encode(answer: Allowed | Refused) -> bytes:
    """The AdmissionReview that carries the answer; ASCII only."""
    response: dict[str, Any] = {"uid": answer.uid, "allowed": isinstance(answer, Allowed)}
    if answer.warnings:
        response["warnings"] = [_printable(warning) for warning in answer.warnings]
    version = API_VERSION
    match answer:
        case Refused():
            version = answer.api_version
            response["status"] = {"message": _printable(answer.message), "code": 400}
        case Allowed():
            if answer.patch:
                response["patchType"] = "JSONPatch"
                response["patch"] = b64encode(json.dumps(answer.patch).encode()).decode()
        case _:
            assert_never(answer)
    return json.dumps({"apiVersion": version, "kind": KIND, "response": response}).encode()


def _printable(text: str) -> str:
    """The text without control characters, which no API server passes on in a warning."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Who reads the first of two equal keys would judge another object than who reads the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice[:_SHOWN_CHARACTERS]!r} is written twice")
    return found


def _read(review: Any) -> Review | Refused:
    problem = _nesting_problem(review) or _shape_problem(review)
    if problem:
        version = _answerable_version(review)
        return Refused(uid=_uid_of(review), message=problem, code="E6103", api_version=version)
    request = review.get("request")
    if request is None:
        return Refused(uid="", message="nil admission request", code="E6107")
    uid = _uid_of(review)
    if not uid:
        return Refused(uid="", message="the admission request has no uid", code="E6103")
    return Review(
        uid=uid,
        operation=_text(request.get("operation")),
        namespace=_text(request.get("namespace")),
        object=request.get("object"),
        old_object=request.get("oldObject"),
        is_dry_run=request.get("dryRun") is True,
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _answerable_version(review: Any) -> str:
    version = review.get("apiVersion") if isinstance(review, dict) else None
    return version if isinstance(version, str) and version in _OLD_VERSIONS else API_VERSION


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
    level, values = [review], 0
    for _ in range(MAX_DEPTH):
        level = [part for value in level for part in _parts(value)]
        values += len(level)
        if not level:
            return None
        if values > MAX_VALUES:
            return f"the admission body has more than {MAX_VALUES} values"
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
    return _text(request.get("uid")) if isinstance(request, dict) else ""


def _namespace(named: str, pod: RawObject) -> str:
    """That of the request; a Pod's own is usually empty at this point."""
    metadata = pod.get("metadata")
    own = _text(metadata.get("namespace")) if isinstance(metadata, dict) else ""
    return named or own or "default"
