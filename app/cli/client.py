"""The admin API as the CLI calls it: one small client over HTTP.

Answers are the JSON of ``app/api/schemas``. ``app/cli/reach.py`` decides which control plane is
asked: that of this machine on loopback, or a controller's Pod through a tunnel.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self

import httpx2

from app.cli.portforward import PodHttp
from app.errors import (
    AppError,
    ForbiddenError,
    NotFoundError,
    SettingError,
    UnauthenticatedError,
    UnreachableError,
    WriteConflict,
)

DEFAULT_API: Final = "http://127.0.0.1:9091"
_TIMEOUT_SECONDS = 10.0
_ERRORS: Mapping[int, type[AppError]] = MappingProxyType(
    {
        400: SettingError,
        401: UnauthenticatedError,
        403: ForbiddenError,
        404: NotFoundError,
        409: WriteConflict,
    }
)


class AdminClient:
    """Asks the admin API of one control plane."""

    def __init__(
        self,
        base_url: str = DEFAULT_API,
        *,
        token: str = "",
        transport: httpx2.BaseTransport | None = None,
        name: str = "",
    ) -> None:
        """``name`` is what messages call it; its URL where there is none."""
        self._name = name or base_url
        # A proxy of the environment is meant for the Internet, never for loopback or a tunnel.
        self._http = httpx2.Client(
            base_url=_checked(base_url),
            transport=transport,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=_TIMEOUT_SECONDS,
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __str__(self) -> str:
        return self._name

    def get(self, path: str) -> Any:
        """The JSON answer; raise ``NotFoundError``, ``ForbiddenError``, … by its status."""
        return self._request("GET", path).json()

    def text(self, method: str, path: str) -> str:
        """The answer's body as text, for what the API only hands through."""
        return self._request(method, path).text

    def send(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON answer to a request that changes something; None where it is empty."""
        answer = self._request(method, path, body)
        return answer.json() if answer.content else None

    def close(self) -> None:
        """Connections and tunnels are closed."""
        self._http.close()

    def _request(self, method: str, path: str, body: Any = None) -> httpx2.Response:
        try:
            answer = self._http.request(method, path, json=body)
        except httpx2.HTTPError as error:
            raise UnreachableError(
                f"the control plane does not answer at {self._name} ({error}); "
                "is `osm standalone up` running, and is --api right?"
            ) from error
        if answer.is_success:
            return answer
        raised = _ERRORS.get(answer.status_code)
        if raised is not None:
            raise raised(_message_of(answer))
        raise UnreachableError(
            f"{method} {path} at {self._name}: {answer.status_code} {_message_of(answer)}"
        )


class TunnelTransport(httpx2.BaseTransport):
    """Requests go to a Pod's port through a tunnel; the URL's host and port do not matter."""

    def __init__(self, pod: PodHttp) -> None:
        self._pod = pod

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """The answer; raise ``UnreachableError`` or ``ForbiddenError`` where there is none."""
        answer = self._pod.request(
            request.method,
            request.url.raw_path.decode("ascii"),
            headers={name: value for name, value in request.headers.items() if name != "host"},
            body=request.read() or None,
        )
        return httpx2.Response(
            answer.status, headers=list(answer.headers), content=answer.body, request=request
        )

    def close(self) -> None:
        """The tunnel is closed."""
        self._pod.close()


def _checked(url: str) -> httpx2.URL:
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise SettingError(f"--api: {url!r} is not a URL: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise SettingError(f"--api: {url!r}: write a URL such as {DEFAULT_API}")
    return parsed


def _message_of(answer: httpx2.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return answer.text.strip()
