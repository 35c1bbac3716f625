"""Every boundary of the application as a Protocol, on one page; ``Compute`` bundles them.

To the mesh, a cluster and one machine differ only in the ``Compute`` that the CLI hands to
``Runtime``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from app.events import Event, ObjectEvent
from app.objects.meta import ObjectKey, ObjectKind, RawObject
from xds.policy.proxy import KeyPair, TrustBundle

Post = Callable[[Event], None]


class Clock(Protocol):
    """The time, so that tests can set it."""

    def now(self) -> datetime:
        """The present moment, aware, UTC."""
        ...


class ObjectSource(Protocol):
    """Where objects come from."""

    def start(self, post: Callable[[ObjectEvent], None], kinds: Iterable[ObjectKind]) -> None:
        """Post what exists, then ``Synced``, then every change; from threads of its own."""
        ...

    def stop(self) -> None:
        """No event is posted after this returns."""
        ...


class ObjectWriter(Protocol):
    """Where objects are written to. Calls may block; never called from the loop thread."""

    def read(self, key: ObjectKey) -> RawObject | None:
        """The object, or None where there is none."""
        ...

    def create(self, raw: RawObject) -> None:
        """Raise ``WriteConflict`` when it exists."""
        ...

    def replace(self, raw: RawObject) -> None:
        """The object has this content now, whether or not it existed."""
        ...

    def delete(self, key: ObjectKey) -> None:
        """The object is gone, whether or not it existed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRequest:
    """What to certify; names are complete."""

    common_name: str | None
    dns_names: tuple[str, ...]
    uris: tuple[str, ...] = ()
    lifetime: timedelta
    rsa_bits: int | None = None
    """None: an ECDSA P-256 key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCertificate:
    """A certificate with its key and the moments that decide its renewal (aware, UTC)."""

    key_pair: KeyPair
    serial: str
    not_before: datetime
    not_after: datetime


class CertificateProvider(Protocol):
    """Who signs certificates. Calls may block and raise ``CertificateError``."""

    def issue(self, request: CertificateRequest) -> IssuedCertificate:
        """A new key and a certificate for it."""
        ...

    def trust_bundle(self) -> TrustBundle:
        """The roots to accept."""
        ...


class EnvoyAdmin(Protocol):
    """The admin interface of a Pod's Envoy; standalone mode only."""

    def call(self, pod: ObjectKey, method: str, path: str) -> str:
        """The body of the answer; raise ``UnreachableError`` when Envoy does not answer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """Where objects come from and go to, and how sidecars are reached."""

    source: ObjectSource
    writer: ObjectWriter
    envoy_admin: EnvoyAdmin | None
    """None in a cluster: the controller there has no way into Pods."""
