"""Who was sent what, and took or refused it: per proxy and kind, with times.

Streams write, the admin API and whoever waits for the mesh to agree read. Every value handed out is
immutable. Each stream writes to its own entry only and each step is one assignment, so no lock is
needed. A proxy is forgotten 60 s after its stream has ended. Specification: data-plane 7.6, 7.11.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType

from xds.policy.identity import ProxyId
from xds.resource import ResourceKind

GRACE = timedelta(seconds=60)
"""How long a proxy without a stream stays listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KindStatus:
    """What one proxy was sent of one kind; None: nothing yet."""

    sent_version: str | None = None
    sent_at: datetime | None = None
    acked_version: str | None = None
    acked_at: datetime | None = None
    rejected_version: str | None = None
    """Kept until the proxy has taken another version."""
    rejected_at: datetime | None = None
    rejected_detail: str | None = None
    """Envoy's own words."""

    @property
    def is_rejected(self) -> bool:
        """True while the proxy refuses what it was sent last."""
        return self.rejected_version is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyStatus:
    """One proxy at one moment."""

    proxy: ProxyId
    stream_id: int
    peer: str
    connected_at: datetime
    gone_at: datetime | None
    """When its stream ended; None while it is connected."""
    kinds: Mapping[ResourceKind, KindStatus]
    """Kinds the proxy was sent or holds."""


class Ledger:
    """The book of all proxies; one entry per UUID, that of its newest ADS stream."""

    __slots__ = ("_entries", "_gone")

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._gone: dict[str, _Entry] = {}
        """Those without a stream, perhaps with one again."""

    def opened(self, proxy: ProxyId, stream_id: int, *, peer: str, now: datetime) -> None:
        """The proxy is listed as connected by this stream, and forgets an older one."""
        self._entries[proxy.uuid] = _Entry(
            ProxyStatus(
                proxy=proxy,
                stream_id=stream_id,
                peer=peer,
                connected_at=now,
                gone_at=None,
                kinds=MappingProxyType({}),
            )
        )

    def closed(self, proxy: ProxyId, stream_id: int, *, now: datetime) -> None:
        """The proxy is listed as gone, unless a newer stream has taken over."""
        entry = self._entry(proxy, stream_id)
        if entry is not None:
            entry.status = replace(entry.status, gone_at=now)
            self._gone[proxy.uuid] = entry

    def sent(
        self, proxy: ProxyId, stream_id: int, *, kind: ResourceKind, version: str, now: datetime
    ) -> None:
        """A push of this version was handed to the proxy."""
        entry = self._entry(proxy, stream_id)
        if entry is not None:
            entry.put(kind, replace(entry.get(kind), sent_version=version, sent_at=now))

    def acked(
        self, proxy: ProxyId, stream_id: int, *, kind: ResourceKind, version: str, now: datetime
    ) -> None:
        """The proxy holds all it wants of this version; an older refusal is over."""
        entry = self._entry(proxy, stream_id)
        if entry is not None:
            old = entry.get(kind)
            entry.put(
                kind,
                KindStatus(
                    sent_version=old.sent_version,
                    sent_at=old.sent_at,
                    acked_version=version,
                    acked_at=now,
                ),
            )

    def rejected(
        self,
        proxy: ProxyId,
        stream_id: int,
        *,
        kind: ResourceKind,
        version: str,
        detail: str,
        now: datetime,
    ) -> None:
        """The proxy refused this version, in these words."""
        entry = self._entry(proxy, stream_id)
        if entry is not None:
            entry.put(
                kind,
                replace(
                    entry.get(kind),
                    rejected_version=version,
                    rejected_at=now,
                    rejected_detail=detail,
                ),
            )

    def get(self, uuid: str) -> ProxyStatus | None:
        """The proxy of that UUID, or None when it is not listed."""
        entry = self._entries.get(uuid)
        return None if entry is None else entry.status

    def statuses(self) -> tuple[ProxyStatus, ...]:
        """All listed proxies, sorted by name."""
        statuses = [entry.status for entry in list(self._entries.values())]
        return tuple(sorted(statuses, key=lambda status: str(status.proxy)))

    def sweep(self, now: datetime) -> None:
        """Proxies that have been gone for 60 s are no longer listed."""
        for uuid, entry in list(self._gone.items()):
            gone_at = entry.status.gone_at
            if self._entries.get(uuid) is not entry:
                self._gone.pop(uuid, None)
            elif gone_at is not None and now - gone_at >= GRACE:
                self._gone.pop(uuid, None)
                self._entries.pop(uuid, None)

    def _entry(self, proxy: ProxyId, stream_id: int) -> _Entry | None:
        entry = self._entries.get(proxy.uuid)
        if entry is None or entry.status.stream_id != stream_id:
            return None
        return entry


class _Entry:
    """The present status of a proxy; replaced as a whole at every change."""

    __slots__ = ("status",)

    def __init__(self, status: ProxyStatus) -> None:
        self.status = status

    def get(self, kind: ResourceKind) -> KindStatus:
        return self.status.kinds.get(kind, _NOTHING_YET)

    def put(self, kind: ResourceKind, status: KindStatus) -> None:
        kinds = MappingProxyType({**self.status.kinds, kind: status})
        self.status = replace(self.status, kinds=kinds)


_NOTHING_YET = KindStatus()
