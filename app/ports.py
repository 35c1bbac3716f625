"""Every boundary of the application as a Protocol, on one page; ``Compute`` bundles them.

To the mesh, a cluster and one machine differ only in the ``Compute`` that the CLI hands to
``Runtime``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

from app.events import Event, ObjectEvent
from app.objects.meta import ObjectKey, ObjectKind, ObjectRef, RawObject
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


@runtime_checkable
class AgingSource(Protocol):
    """A source that may fall behind what it reads from."""

    def staleness_seconds(self) -> dict[str, float]:
        """Since when nothing was heard of each kind, by its name."""
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

    def patch(self, key: ObjectKey, patch: RawObject) -> None:
        """The object has the JSON merge patch (RFC 7386) applied; raise ``NotFoundError``."""
        ...

    def patch_status(self, key: ObjectKey, status: RawObject) -> None:
        """The object's status has these fields; raise ``NotFoundError``."""
        ...

    def delete(self, key: ObjectKey) -> None:
        """The object is gone, whether or not it existed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerVersion:
    """The release of an API server, such as 1.29."""

    major: int
    minor: int
    text: str
    """As the server writes it, such as ``v1.29.3``."""


class Watching(Protocol):
    """A watch that runs."""

    def stop(self) -> None:
        """Nothing is told after this returns."""
        ...


class Cluster(Protocol):
    """Raw objects of any kind on the API server; for the control plane's own objects and the CLI.

    Calls block, at most ``timeout_seconds`` of the implementation, and raise ``UnreachableError``
    when the API server does not answer, ``ForbiddenError`` when it does not allow it,
    ``KubernetesError`` for what it refuses otherwise. Never called from the loop thread. Writes of
    Secrets give back their metadata alone: keys go there and do not come back.
    """

    def version(self) -> ServerVersion:
        """The server's release."""
        ...

    def serves(self, api_version: str, kind: str) -> bool:
        """True when the server has the kind in that version (asked anew where it was not there)."""
        ...

    def read(self, ref: ObjectRef) -> RawObject | None:
        """The object, or None where there is none (or no such kind)."""
        ...

    def list(
        self,
        api_version: str,
        kind: str,
        *,
        namespace: str = "",
        labels: str = "",
        metadata_only: bool = False,
    ) -> list[RawObject]:
        """All objects of a kind, of all namespaces or one; empty where the kind is unknown.

        With ``metadata_only`` nothing but their metadata is asked for: Secrets without keys.
        """
        ...

    def create(self, raw: RawObject) -> RawObject:
        """The object as created; raise ``WriteConflict`` when it exists."""
        ...

    def replace(self, raw: RawObject) -> RawObject:
        """The object as stored; raise ``WriteConflict`` when its resourceVersion is old."""
        ...

    def apply(self, raw: RawObject, *, dry_run: bool = False) -> RawObject:
        """The object after a forced server-side apply as field manager ``osm``."""
        ...

    def patch(self, ref: ObjectRef, patch: RawObject, *, strategic: bool = False) -> RawObject:
        """The object after a merge patch; raise ``NotFoundError``."""
        ...

    def delete(self, ref: ObjectRef, *, uid: str = "") -> bool:
        """True when it was there; with ``uid`` only that very object is deleted."""
        ...

    def watch(
        self,
        api_version: str,
        kind: str,
        changed: Callable[[RawObject | None], None],
        *,
        namespace: str = "",
        name: str = "",
        labels: str = "",
    ) -> Watching:
        """``changed`` hears of each object that exists or changes, and None when one is gone.

        On a thread of its own, with relist and back-off; it may be told of one object twice.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks the admin API."""

    name: str
    groups: tuple[str, ...] = ()


class Authenticator(Protocol):
    """Who may use the admin API."""

    def caller(self, token: str, verb: str) -> Caller:
        """The token's owner, who may ``get`` (read) or ``update`` (write) the mesh.

        Raises ``UnauthenticatedError``, ``ForbiddenError``, ``UnreachableError``.
        """
        ...

    def cluster_as(self, token: str) -> Cluster:
        """The API server as the token's owner may use it; asks nothing by itself."""
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
    """Where objects come from and go to, who may ask, and how sidecars are reached."""

    source: ObjectSource
    writer: ObjectWriter
    envoy_admin: EnvoyAdmin | None
    """None in a cluster: the controller there has no way into Pods."""
    authenticator: Authenticator | None = None
    """None on one machine: the API listens on loopback and trusts who reaches it."""
    cluster: Cluster | None = None
    """None on one machine: there is no API server to register with."""
