"""HTTP to one port of one Pod, with the user's own credentials, through the API server.

Nothing listens on this machine: requests are written to the tunnel itself, so no other user or
process can reach the Pod on the way. Used by the admin client (a controller's 9091) and by
``osm proxy get|set`` (Envoy's 15000). Specification: kubernetes-surface 7.1 and 7.5.
"""

from __future__ import annotations

import http.client
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

from app.errors import ForbiddenError, KubernetesError, NotFoundError, UnreachableError

TIMEOUT_SECONDS: Final = 30.0


class Tunnels(Protocol):
    """Who opens tunnels; ``KubeClient`` in truth."""

    def open_tunnel(self, namespace: str, pod: str, port: int) -> socket.socket:
        """A stream to a port of the Pod, which ends when the Pod refuses or closes it.

        Raise ``ForbiddenError``, ``NotFoundError``, ``KubernetesError``, ``UnreachableError``.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PodPort:
    """Where a tunnel ends."""

    namespace: str
    pod: str
    port: int

    def __str__(self) -> str:
        return f"port {self.port} of Pod {self.namespace}/{self.pod}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What was answered, complete."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class PodHttp:
    """Speaks HTTP/1.1 with one port of a Pod; the tunnel is opened at the first request.

    One request at a time, each after the answer of the one before; close it after use.
    """

    def __init__(
        self, tunnels: Tunnels, target: PodPort, *, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        self._connection = _TunnelConnection(tunnels, target, timeout_seconds)
        self._target = target

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """The answer, whatever its status; raise ``UnreachableError`` saying why there is none."""
        connection = self._connection
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))
            with connection.getresponse() as response:
                return Answer(
                    status=response.status,
                    headers=tuple(response.getheaders()),
                    body=response.read(),
                )
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise UnreachableError(f"{self._target} does not answer: {_words_of(error)}") from error

    def close(self) -> None:
        """The tunnel is closed; a request after this opens a new one."""
        self._connection.close()


class _TunnelConnection(http.client.HTTPConnection):
    """A connection whose socket is a tunnel."""

    def __init__(self, tunnels: Tunnels, target: PodPort, timeout_seconds: float) -> None:
        # The name that the admin API and Envoy know themselves by: from outside, loopback.
        super().__init__("localhost", target.port, timeout=timeout_seconds)
        self._tunnels = tunnels
        self._target = target

    def connect(self) -> None:
        """The tunnel is open; called by the base class where there is no socket."""
        self.sock = _opened(self._tunnels, self._target)
        self.sock.settimeout(self.timeout)


def _opened(tunnels: Tunnels, target: PodPort) -> socket.socket:
    try:
        return tunnels.open_tunnel(target.namespace, target.pod, target.port)
    except ForbiddenError as error:
        raise ForbiddenError(
            f"you may not forward ports of Pods in namespace {target.namespace}: your role there "
            f"needs the verbs get and create of pods/portforward (the API server says: {error})"
        ) from error
    except NotFoundError as error:
        raise NotFoundError(f"there is no Pod {target.namespace}/{target.pod}") from error
    except KubernetesError as error:
        raise UnreachableError(f"no way to {target}: {error}") from error


def _words_of(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, http.client.BadStatusLine | ConnectionError):
        # The node tells a refused connection by ending the stream.
        return "the connection was closed at once; nothing listens there, or it is just starting"
    return str(error) or type(error).__name__
