"""The CLI's way into a cluster, without one: Pods that speak HTTP at the end of a socket pair."""

# ruff: noqa: ARG002 a fake need not look at all it is told

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from app.errors import NotFoundError
from app.objects.meta import ObjectRef, RawObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request as a Pod received it."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


Serve = Callable[[Asked], tuple[int, bytes]]


@dataclass(kw_only=True)
class FakeAccess:
    """Implements ``Access`` and ``Pods``; ``serve`` is what listens at (Pod, port)."""

    pods: list[RawObject] = field(default_factory=list)
    serve: dict[tuple[str, int], Serve] = field(default_factory=dict)
    token: str | None = None
    accounts: dict[str, str] = field(default_factory=dict)
    """``namespace/name`` → token."""
    refuse: Exception | None = None
    opened: list[socket.socket] = field(default_factory=list)
    requested: list[tuple[str, int]] = field(default_factory=list)

    def read(self, ref: ObjectRef) -> RawObject | None:
        for pod in self.pods:
            if (pod["metadata"]["namespace"], pod["metadata"]["name"]) == (ref.namespace, ref.name):
                return pod
        return None

    def list(
        self, api_version: str, kind: str, *, namespace: str = "", labels: str = ""
    ) -> list[RawObject]:
        wanted = dict(pair.split("=") for pair in labels.split(",") if pair)
        return [
            pod
            for pod in self.pods
            if pod["metadata"]["namespace"] == namespace
            and wanted.items() <= (pod["metadata"].get("labels") or {}).items()
        ]

    def bearer_token(self) -> str | None:
        return self.token

    def create_token(self, namespace: str, service_account: str, seconds: int) -> str:
        if self.refuse is not None:
            raise self.refuse
        self.requested.append((f"{namespace}/{service_account}", seconds))
        try:
            return self.accounts[f"{namespace}/{service_account}"]
        except KeyError:
            raise NotFoundError(f"ServiceAccount {namespace}/{service_account} not found") from None

    def open_tunnel(self, namespace: str, pod: str, port: int) -> socket.socket:
        if self.refuse is not None:
            raise self.refuse
        outside, inside = socket.socketpair()
        serve = self.serve.get((pod, port))
        if serve is None:
            inside.close()
        else:
            threading.Thread(target=_converse, args=(inside, serve), daemon=True).start()
        self.opened.append(outside)
        return outside


def _converse(inside: socket.socket, serve: Serve) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = Asked(
                method=self.command,
                path=self.path,
                headers={name.lower(): text for name, text in self.headers.items()},
                body=body,
            )
            status, content = serve(asked)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = answer  # noqa: N815 the library's names

        def log_message(self, *words: object) -> None:
            """Say nothing."""

    try:
        Handler(inside, ("", 0), None)  # type: ignore[arg-type]
    except OSError:
        pass  # the client was done
    finally:
        inside.close()
