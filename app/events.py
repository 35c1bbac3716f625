"""What happens in the mesh, as values on the loop's one queue: objects, proxies, certificates.

Everything that returns upstream comes back as an event, never as a call into a higher layer.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.objects.meta import KubeObject, ObjectKey, ObjectKind, Rejected
from xds.policy.identity import ProxyId
from xds.policy.proxy import SecretTable


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectChanged:
    """An object was added or has new content."""

    key: ObjectKey
    object: KubeObject
    where: str
    """``file:line`` in standalone mode, else ``str(key)``; for messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectDeleted:
    """An object is gone."""

    key: ObjectKey


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceChecked:
    """All that is wrong with one source (a file, or one object) now; replaces what was.

    A rejected object that was good before stays in force as it was: bad input changes nothing.
    """

    source: str
    rejected: tuple[Rejected, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """Every object of these kinds that existed at the start has been posted."""

    kinds: frozenset[ObjectKind]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyConnected:
    """A proxy has an admitted stream."""

    proxy: ProxyId


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyGone:
    """The last stream of a proxy has ended."""

    proxy: ProxyId


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificatesIssued:
    """Workload certificates or roots have changed; the table is complete and immutable."""

    secrets: SecretTable


ObjectEvent = ObjectChanged | ObjectDeleted | SourceChecked | Synced
Event = ObjectEvent | ProxyConnected | ProxyGone | CertificatesIssued
