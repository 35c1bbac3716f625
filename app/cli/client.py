"""The admin API as the CLI calls it: one small client over HTTP on loopback.

In standalone mode the API listens on loopback only. Answers are the JSON of ``app/api/schemas``.
"""

from __future__ import annotations

from typing import Any

import httpx2

from app.errors import NotFoundError, UnreachableError

DEFAULT_API = "http://127.0.0.1:9091"
_TIMEOUT_SECONDS = 10.0


class AdminClient:
    """Reads the admin API of one control plane."""

    def __init__(self, base_url: str = DEFAULT_API) -> None:
        self._base_url = base_url.rstrip("/")

    def get(self, path: str) -> Any:
        """The JSON answer; raise ``NotFoundError`` for 404, ``UnreachableError`` otherwise."""
        answer = self._request("GET", path)
        return answer.json()

    def text(self, method: str, path: str) -> str:
        """The answer's body as text, for what the API only hands through."""
        return self._request(method, path).text

    def _request(self, method: str, path: str) -> httpx2.Response:
        url = f"{self._base_url}{path}"
        try:
            answer = httpx2.request(method, url, timeout=_TIMEOUT_SECONDS)
        except httpx2.HTTPError as error:
            raise UnreachableError(
                f"the control plane does not answer at {self._base_url} ({error}); "
                "is `osm standalone up` running, and is --api right?"
            ) from error
        if answer.is_success:
            return answer
        message = _message_of(answer)
        if answer.status_code == httpx2.codes.NOT_FOUND:
            raise NotFoundError(message)
        raise UnreachableError(f"{method} {url}: {answer.status_code} {message}")


def _message_of(answer: httpx2.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return answer.text.strip()
