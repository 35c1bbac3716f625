"""Who gets which resources: snapshot, secrets and connected proxies in, one immutable table out.

The loop thread publishes; streams read the table through :class:`CurrentConfig` without a lock.
Work is done per profile, not per proxy, and only where an input of the profile changed: endpoints
and certificates compile no policy. A profile that cannot be built keeps what it has and hurts no
other. Specification: data-plane 7.6 to 7.8 and 8; HOUSE 3 and 4.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from app import logs
from app.controller.loop import MeshState
from app.mesh.catalog.compile import Catalog
from app.mesh.profiles import Stranger, find_pod, profile_of
from app.mesh.snapshot import EndpointTable, MeshSnapshot, Workloads
from app.metrics import Metrics
from xds.builders.assemble import assemble, faults
from xds.builders.sound import Fault
from xds.cache import BuildCache
from xds.policy.identity import Issuers, ProxyId
from xds.policy.proxy import KeyPair, ProxyPolicy, ProxyProfile, SecretTable, TrustBundle
from xds.policy.service import MeshService
from xds.resource import MeshError, ResourceError, ResourceSet
from xds.server.ports import Admission

_IDLE_SECONDS = 60.0
"""How long the resources of a profile outlive its last proxy (data-plane 7.6)."""


class Streams(Protocol):
    """The live streams, as the publisher needs them."""

    def wake(self) -> int:
        """Streams with news look at them."""
        ...

    def close(self, proxy: ProxyId, reason: str) -> None:
        """The proxy's streams end."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ConfigTable:
    """Who gets which resources, at one revision."""

    snapshot: MeshSnapshot
    sets: Mapping[ProxyId, ResourceSet] = field(default_factory=lambda: MappingProxyType({}))
    """Complete sets only; a proxy without one is sent nothing."""


class CurrentConfig:
    """The newest table; implements ``ConfigReader``. One reference, replaced as a whole."""

    def __init__(self) -> None:
        self.table: ConfigTable | None = None

    def issuers(self) -> Issuers:
        """The issuers whose names client certificates may carry."""
        table = self.table
        return Issuers() if table is None else table.snapshot.issuers

    def admit(self, proxy: ProxyId) -> Admission:
        """Whether a Pod stands behind the proxy now."""
        table = self.table
        if table is None:
            return Admission.UNKNOWN_POD
        match find_pod(table.snapshot.workloads, proxy):
            case Stranger.WRONG_ACCOUNT:
                return Admission.WRONG_ACCOUNT
            case Stranger.UNKNOWN_POD | Stranger.TWINS:
                return Admission.UNKNOWN_POD
            case _:
                return Admission.ADMITTED

    def current(self, proxy: ProxyId) -> ResourceSet | None:
        """The proxy's configuration, or None while none is complete."""
        table = self.table
        return None if table is None else table.sets.get(proxy)

    def max_connections(self) -> int:
        """Upper bound of connected proxies; 0 means none."""
        table = self.table
        return 0 if table is None else table.snapshot.config.sidecar.max_data_plane_connections


@dataclass(slots=True, eq=False)
class _Slot:
    """One profile and what was built for it last."""

    profile: ProxyProfile
    catalog: Catalog | None = None
    """What ``policy`` was compiled by."""
    policy: ProxyPolicy | None = None
    upstreams: frozenset[MeshService] = frozenset()
    """Services whose endpoints are in ``resources``."""
    pair: KeyPair | None = None
    trust: TrustBundle | None = None
    resources: ResourceSet | None = None
    stale: bool = True
    """``resources`` may lack a change that was published before."""
    failure: str | None = None
    """Why the newest policy is not in ``resources``."""
    faults: tuple[Fault, ...] = ()
    """What assembly left out of ``resources``."""
    idle_since: float | None = None


class Publisher:
    """Keeps the table current; only the loop thread calls it."""

    def __init__(
        self,
        current: CurrentConfig,
        streams: Streams,
        *,
        metrics: Metrics,
        cache: BuildCache | None = None,
        new_catalog: Callable[[MeshSnapshot], Catalog] = Catalog,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._current = current
        self._streams = streams
        self._metrics = metrics
        self.cache = cache or BuildCache()
        self._new_catalog = new_catalog
        self._monotonic = monotonic
        self._log = logs.logger("publish")
        self._catalog: Catalog | None = None
        self._workloads: Workloads | None = None
        self._endpoints: EndpointTable | None = None
        self._slots: dict[ProxyProfile, _Slot] = {}
        self._members: dict[ProxyId, _Slot] = {}
        self.problems: tuple[str, ...] = ()
        """Sentences: what was left out of configurations, and which were not built; sorted."""

    def publish(self, state: MeshState, *, anew: bool = False) -> None:
        """Every connected proxy that has a Pod and a certificate has its complete configuration.

        Streams of proxies without a Pod are closed, those with news are woken. ``anew``: all is
        built from the state alone; streams still send only what differs.
        """
        if anew:
            self._forget()
        strangers = self._place(state)
        self._update_slots(state)
        old = self._current.table
        self._current.table = ConfigTable(
            snapshot=state.snapshot, sets=self._sets({} if old is None else old.sets)
        )
        self.cache.sweep()
        for proxy, reason in strangers.items():
            self._streams.close(proxy, reason)
        self._streams.wake()

    def _forget(self) -> None:
        """Nothing that was built before is taken over; slots keep it in case building fails."""
        self._catalog = self._workloads = self._endpoints = None
        self.cache = BuildCache()
        for slot in self._slots.values():
            slot.catalog, slot.stale = None, True

    def _place(self, state: MeshState) -> dict[ProxyId, str]:
        """Every connected proxy is a member of its profile's slot; returned: those without Pod."""
        workloads = state.snapshot.workloads
        known = self._members if workloads is self._workloads else {}
        self._workloads = workloads
        members: dict[ProxyId, _Slot] = {}
        strangers: dict[ProxyId, str] = {}
        for proxy in state.connected:
            slot = known.get(proxy)
            if slot is None:
                found = find_pod(workloads, proxy)
                if isinstance(found, Stranger):
                    strangers[proxy] = str(found)
                    continue
                slot = self._slot(profile_of(found))
            members[proxy] = slot
        self._members = members
        return strangers

    def _slot(self, profile: ProxyProfile) -> _Slot:
        slot = self._slots.get(profile)
        if slot is None:
            slot = self._slots[profile] = _Slot(profile)
        return slot

    def _update_slots(self, state: MeshState) -> None:
        snapshot = state.snapshot
        if self._catalog is None or not self._catalog.serves(snapshot):
            self._catalog = self._new_catalog(snapshot)
        moved = _moved_services(self._endpoints, snapshot.endpoints)
        self._endpoints = snapshot.endpoints
        used = set(self._members.values())
        for slot in sorted(used, key=lambda slot: slot.profile.identity):
            slot.idle_since = None
            self._update(slot, state, moved)
        self._retire(used)
        self._metrics.failing_profiles.set(sum(1 for slot in used if slot.failure is not None))
        self.problems = tuple(sorted({text for slot in used for text in _problems(slot)}))

    def _update(self, slot: _Slot, state: MeshState, moved: frozenset[MeshService]) -> None:
        """The slot's resources say what the state says, or stay as they are."""
        secrets = state.secrets
        pair = secrets.workloads.get(slot.profile.identity) if secrets is not None else None
        if secrets is None or pair is None:
            slot.stale = True
            return
        what = self._what_changed(slot, pair, secrets.trust, moved)
        if what is None:
            return
        started = self._monotonic()
        try:
            self._rebuild(slot, state.snapshot, secrets)
        except Exception as error:  # one profile's fault must not hurt the others
            self._report(slot, error)
        else:
            slot.pair, slot.trust, slot.stale, slot.failure = pair, secrets.trust, False, None
        success = "false" if slot.failure else "true"
        self._metrics.config_update_time.labels(what, success).observe(self._monotonic() - started)

    def _what_changed(
        self, slot: _Slot, pair: KeyPair, trust: TrustBundle, moved: frozenset[MeshService]
    ) -> str | None:
        if slot.stale or slot.catalog is not self._catalog:
            return "all"
        if not moved.isdisjoint(slot.upstreams):
            return "EDS"
        return "SDS" if slot.pair is not pair or slot.trust != trust else None

    def _rebuild(self, slot: _Slot, snapshot: MeshSnapshot, secrets: SecretTable) -> None:
        """New resources from the newest inputs; equal ones stay the same object."""
        slot.stale = True  # until this has succeeded
        policy = slot.policy
        catalog = self._catalog
        if policy is None or slot.catalog is not catalog:
            assert catalog is not None  # noqa: S101 made by _update_slots
            compiled = catalog.compile(slot.profile)
            policy = policy if policy == compiled else compiled
        built = assemble(policy, snapshot.endpoints, secrets, self.cache)
        assert built is not None  # noqa: S101 _update found the certificate
        slot.resources = built
        if slot.policy is not policy:
            slot.upstreams = frozenset(upstream.service for upstream in policy.outbound.upstreams)
            self._note_faults(slot, faults(policy, self.cache))
        slot.policy, slot.catalog = policy, catalog

    def _note_faults(self, slot: _Slot, found: tuple[Fault, ...]) -> None:
        for fault in found:
            if fault not in slot.faults:
                self._log.error(
                    "part of a policy left out",
                    identity=str(slot.profile.identity),
                    unit=fault.unit,
                    error=fault.reason,
                    error_code=ResourceError.code,
                )
        slot.faults = found

    def _report(self, slot: _Slot, error: Exception) -> None:
        reason = str(error) or type(error).__name__
        if slot.failure == reason:
            return
        slot.failure = reason
        self._log.error(
            "configuration not built; its proxies keep the one they have",
            identity=str(slot.profile.identity),
            error=reason,
            error_code=error.code if isinstance(error, MeshError) else ResourceError.code,
            exc_info=error,
        )

    def _retire(self, used: set[_Slot]) -> None:
        """Profiles without proxies are kept for a while: a proxy may only be reconnecting."""
        now = self._monotonic()
        for profile, slot in list(self._slots.items()):
            if slot in used:
                continue
            slot.stale = True
            if slot.idle_since is None:
                slot.idle_since = now
            elif now - slot.idle_since >= _IDLE_SECONDS:
                del self._slots[profile]

    def _sets(self, old: Mapping[ProxyId, ResourceSet]) -> Mapping[ProxyId, ResourceSet]:
        found: dict[ProxyId, ResourceSet] = {}
        for proxy, slot in self._members.items():
            resources = slot.resources if slot.resources is not None else old.get(proxy)
            if resources is not None:
                found[proxy] = resources
        return MappingProxyType(found)


def _problems(slot: _Slot) -> Iterator[str]:
    identity = slot.profile.identity
    if slot.failure is not None:
        yield f"{identity} keeps an old configuration: {slot.failure}"
    for fault in slot.faults:
        yield f"{identity} lacks {fault.unit}: {fault.reason}"


def _moved_services(old: EndpointTable | None, new: EndpointTable) -> frozenset[MeshService]:
    """Services that have other endpoints than before."""
    if old is new or old is None:
        return frozenset()
    before, after = old.by_service, new.by_service
    return frozenset(
        service
        for service in before.keys() | after.keys()
        if before.get(service, ()) != after.get(service, ())
    )
