"""What the gRPC server asks of the application: configuration, admission, and who hears of it.

All methods are called from stream threads: they must be thread-safe and quick, and raise nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from xds.policy.identity import Issuers, ProxyId
from xds.resource import ResourceKind, ResourceSet


class Admission(StrEnum):
    """Whether a proxy may be served now (data-plane 7.2)."""

    ADMITTED = "admitted"
    UNKNOWN_POD = "unknown pod"
    """No Pod carries its UUID yet; the server waits a little, then answers UNAVAILABLE."""
    WRONG_ACCOUNT = "wrong service account"
    """Pod and certificate disagree; refused for good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamInfo:
    """One stream of a proxy: where it comes from and what it is called in logs."""

    stream_id: int
    proxy: ProxyId
    peer: str


class ConfigReader(Protocol):
    """The newest published configuration; every answer is immutable."""

    def issuers(self) -> Issuers:
        """The issuers whose names client certificates may carry."""
        ...

    def admit(self, proxy: ProxyId) -> Admission:
        """Whether a Pod stands behind the proxy now."""
        ...

    def current(self, proxy: ProxyId) -> ResourceSet | None:
        """The proxy's configuration, or None while none is complete (nothing is sent then)."""
        ...

    def max_connections(self) -> int:
        """Upper bound of connected proxies; 0 means none."""
        ...


class ProxyObserver(Protocol):
    """Who is told what happens on streams."""

    def connected(self, stream: StreamInfo) -> None:
        """A stream was admitted."""
        ...

    def gone(self, stream: StreamInfo) -> None:
        """An admitted stream has ended."""
        ...

    def refused(self, peer: str, reason: str, code: str) -> None:
        """A stream was not admitted; ``code`` is an error code such as E5010."""
        ...

    def requested(self, stream: StreamInfo, kind: ResourceKind) -> None:
        """A request arrived."""
        ...

    def sent(self, stream: StreamInfo, kind: ResourceKind, size_bytes: int) -> None:
        """A response was handed to gRPC."""
        ...

    def acked(self, stream: StreamInfo, kind: ResourceKind, version: str) -> None:
        """The proxy took a version."""
        ...

    def nacked(self, stream: StreamInfo, kind: ResourceKind, version: str, detail: str) -> None:
        """The proxy refused a version; ``detail`` is Envoy's text."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerIdentity:
    """TLS material of the ADS server, PEM; read anew for every connection."""

    certificate_chain: bytes
    private_key: bytes
    roots: bytes

    def __repr__(self) -> str:
        return "ServerIdentity(…)"


class ServerIdentitySource(Protocol):
    """Where the server takes its certificate from; lock-free, returns the last good material."""

    def server_identity(self) -> ServerIdentity:
        """The material to offer to the next connection."""
        ...
