"""HTTP to one API server: questions with a deadline, and streams that another thread can end.

``kube_client`` builds it on the connection pool of the official client. A question that the server
cannot take now (429) is asked again within its time. Raises ``UnreachableError`` only.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import urlencode

import urllib3

from app.compute.kube_answers import Answer
from app.errors import UnreachableError
from app.objects.meta import RawObject

JSON = "application/json"
_CONNECT_SECONDS = 5.0
_BEGIN_SECONDS = 30.0
_SHORTEST_WAIT_SECONDS = 0.2
_CHUNK = 64 * 1024
_LONGEST_LINE = 8 * 1024 * 1024
"""Several times what an API server stores of one object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One request."""

    method: str = "GET"
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: RawObject | None = None
    content_type: str = JSON
    accept: str = JSON


class Stream:
    """The lines of an answer that goes on; one thread reads, any may close."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        """Each line without its end; ends with the stream, raises ``UnreachableError``."""
        rest = b""
        try:
            for chunk in self._response.stream(_CHUNK):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from filter(None, lines)
                if len(rest) > _LONGEST_LINE:
                    raise UnreachableError(f"a line is longer than {_LONGEST_LINE} bytes")
        except (urllib3.exceptions.HTTPError, OSError, AttributeError, ValueError) as error:
            # AttributeError, ValueError: the response was closed by another thread.
            raise UnreachableError(f"the stream broke off: {error}") from error

    def close(self) -> None:
        """Whoever reads stops at once."""
        with suppress(Exception):  # it may be closed, or be closing, on another thread
            self._response.shutdown()
        with suppress(Exception):
            self._response.close()


class KubeHttp:
    """Asks one server. Thread-safe."""

    def __init__(
        self, pool: urllib3.PoolManager, host: str, authorization: Callable[[], str | None]
    ) -> None:
        """``authorization`` gives the header's present value; it may read files."""
        self._pool = pool
        self._host = host
        self._authorization = authorization

    def ask(self, question: Question, *, timeout_seconds: float) -> Answer:
        """The answer, whatever its status."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            left = max(0.1, deadline - time.monotonic())
            answer = self._read(self._open(question, timeout_seconds=left))
            asked = answer.retry_after_seconds
            if answer.status != HTTPStatus.TOO_MANY_REQUESTS or asked is None:
                return answer
            wait = max(_SHORTEST_WAIT_SECONDS, asked)
            if time.monotonic() + wait >= deadline:
                return answer
            time.sleep(wait)

    def stream(self, question: Question, *, silence_seconds: float) -> Stream | Answer:
        """The answer as it comes, or a refusal; silence for so long breaks the stream off."""
        response = self._open(question, timeout_seconds=_BEGIN_SECONDS)
        if response.status != HTTPStatus.OK:
            return self._read(response)
        # A server that took the question says so at once; only what follows may take long.
        socket = getattr(response.connection, "sock", None)
        if socket is not None:
            socket.settimeout(silence_seconds)
        return Stream(response)

    def _open(self, question: Question, *, timeout_seconds: float) -> urllib3.BaseHTTPResponse:
        query = f"?{urlencode(question.query)}" if question.query else ""
        timeout = urllib3.Timeout(
            total=timeout_seconds, connect=min(_CONNECT_SECONDS, timeout_seconds)
        )
        try:
            return self._pool.request(
                question.method,
                f"{self._host}{question.path}{query}",
                body=None if question.body is None else json.dumps(question.body).encode(),
                headers=self._headers(question),
                timeout=timeout,
                preload_content=False,
                retries=False,
                redirect=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._unreachable(error) from error

    def _headers(self, question: Question) -> dict[str, str]:
        headers = {"Accept": question.accept, "User-Agent": "osm"}
        authorization = self._authorization()
        if authorization:
            headers["Authorization"] = authorization
        if question.body is not None:
            headers["Content-Type"] = question.content_type
        return headers

    def _read(self, response: urllib3.BaseHTTPResponse) -> Answer:
        try:
            body = response.data
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._unreachable(error) from error
        return Answer(
            status=response.status,
            body=body,
            retry_after_seconds=_seconds(response.headers.get("Retry-After")),
        )

    def _unreachable(self, error: Exception) -> UnreachableError:
        return UnreachableError(f"the API server at {self._host} does not answer: {_reason(error)}")


def _reason(error: Exception) -> str:
    """The cause in words, without the library's objects."""
    text = str(error)
    return text.partition("object at 0x")[2].partition(": ")[2] or text or type(error).__name__


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isdigit() else None
