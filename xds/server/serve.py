"""The gRPC server: its pool, its limits, its keepalive, and a certificate that rotates by itself.

Started once the first configuration is complete; a certificate or bundle that changes is offered to
the next connection, without a restart (data-plane 7.1, 7.10). ``stop`` ends every stream first.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc

from xds.resource import MeshError
from xds.server.ads import handlers
from xds.server.hub import Hub
from xds.server.ports import ServerIdentity, ServerIdentitySource

_MESSAGE_BYTES = 64 * 1024 * 1024
_OPTIONS = (
    ("grpc.max_receive_message_length", _MESSAGE_BYTES),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    # Two controllers on one port would each serve half of the mesh.
    ("grpc.so_reuseport", 0),
)


class ListenError(MeshError):
    """The ADS port cannot be listened on: it is taken, or the address is not of this machine."""

    code = "E5009"


class AdsServer:
    """One gRPC server of the discovery services over mutual TLS."""

    def __init__(
        self,
        hub: Hub,
        identity_source: ServerIdentitySource,
        *,
        host: str = "0.0.0.0",  # noqa: S104 - sidecars of other machines are to reach it
        port: int = 15128,
        pool_size: int = 1100,
    ) -> None:
        self._hub = hub
        self._identity_source = identity_source
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._pool = ThreadPoolExecutor(pool_size, thread_name_prefix="xds-stream")
        # Without the bound a surplus stream would wait in the pool's queue in silence.
        self._server = grpc.server(
            self._pool,
            handlers=handlers(hub),
            options=_OPTIONS,
            maximum_concurrent_rpcs=pool_size,
        )

    def start(self) -> int:
        """The bound port; raise :class:`ListenError` when it cannot be had."""
        try:
            port: int = self._server.add_secure_port(
                self._address, _credentials(self._identity_source)
            )
        except RuntimeError as error:
            raise ListenError(f"cannot listen for proxies on {self._address}: {error}") from error
        self._server.start()
        return port

    def stop(self, grace_seconds: float = 2.0) -> None:
        """No stream is open and no thread of the server runs any more."""
        self._hub.drain()
        self._server.stop(grace_seconds).wait()
        self._pool.shutdown(wait=True, cancel_futures=True)


def _credentials(source: ServerIdentitySource) -> grpc.ServerCredentials:
    offered = source.server_identity()
    return grpc.dynamic_ssl_server_credentials(
        _configuration(offered), _fetcher(source, offered), require_client_authentication=True
    )


def _fetcher(
    source: ServerIdentitySource, offered: ServerIdentity
) -> Callable[[], grpc.ServerCertificateConfiguration | None]:
    newest = offered

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        """The configuration of the next connection; None: the one before still holds."""
        nonlocal newest
        current = source.server_identity()
        if current == newest:
            return None
        newest = current
        return _configuration(current)

    return fetch


def _configuration(identity: ServerIdentity) -> grpc.ServerCertificateConfiguration:
    pair = (identity.private_key, identity.certificate_chain)
    return grpc.ssl_server_certificate_configuration([pair], root_certificates=identity.roots)
