"""Of several replicas, one holds the Lease: it alone does what must not be done twice.

A replica takes a Lease that nobody renews for as long as it lasts by this replica's own clock, so
clocks need not agree. The holder stops counting as such in time, even if it cannot reach the API
server. ``next_lease`` decides, :class:`LeaseKeeper` acts on a thread of its own. Specification:
kubernetes-surface 6.5; the Kubernetes API reference, coordination.k8s.io/v1.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from app import logs
from app.errors import KubernetesError, WriteConflict
from app.objects.meta import ObjectRef, RawObject
from app.ports import Clock, Cluster

API_VERSION, KIND = "coordination.k8s.io/v1", "Lease"
LEASE_SECONDS = 15
RENEW_SECONDS = 5.0
HELD_SECONDS = 10.0
"""How long a renewal counts for its holder: less than it keeps others away, by what clocks drift
apart and what the holder may be in the middle of."""


def lease_ref(namespace: str) -> ObjectRef:
    """The Lease of the control plane."""
    return ObjectRef(api_version=API_VERSION, kind=KIND, namespace=namespace, name="osm-controller")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The Lease as it was read, and since when it has been so (monotonic seconds)."""

    spec: RawObject
    since: float


def next_lease(
    current: RawObject | None, seen: Seen | None, *, me: str, now: datetime, monotonic: float
) -> RawObject | None:
    """The spec to write: the Lease is renewed or taken; None while it is another's.

    ``current`` is the spec as read just now, None where there is no Lease.
    """
    spec: RawObject = current or {}
    holder = spec.get("holderIdentity") or ""
    moment = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    renewed = {"leaseDurationSeconds": LEASE_SECONDS, "renewTime": moment}
    if holder == me:
        return spec | renewed
    if holder and not _has_ended(spec, seen, monotonic):
        return None
    transitions = _number(spec.get("leaseTransitions")) + (1 if current is not None else 0)
    taken = {"holderIdentity": me, "acquireTime": moment, "leaseTransitions": transitions}
    return spec | renewed | taken


def look(spec: RawObject, seen: Seen | None, monotonic: float) -> Seen:
    """What is known of the Lease now; ``since`` stays while nothing changes."""
    if seen is not None and seen.spec == spec:
        return seen
    return Seen(spec=spec, since=monotonic)


class LeaseKeeper:
    """Competes for the Lease on a thread of its own; ``held`` may be asked from any thread."""

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        *,
        ref: ObjectRef,
        me: str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``me`` is a name that no other process has, nor an earlier one of the same Pod."""
        self._cluster = cluster
        self._clock = clock
        self._ref = ref
        self._me = me
        self._monotonic = monotonic
        self._log = logs.logger("lease")
        self._seen: Seen | None = None
        self._held_until: float | None = None
        self._was_held = False
        self._failing = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    @property
    def held(self) -> bool:
        """True while no other replica can hold the Lease."""
        until = self._held_until
        return until is not None and self._monotonic() < until

    def start(self) -> None:
        """The Lease is sought and kept from now on."""
        self._thread.start()

    def stop(self) -> None:
        """The Lease is free for others; safe to call when it was never started."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()
        was_held, self._held_until = self.held, None
        if was_held:
            self._release()

    def step(self) -> None:
        """One look at the Lease: it is renewed or taken where that may be."""
        try:
            self._compete()
        except WriteConflict:
            self._log.debug("another replica wrote the Lease first")
        except Exception as error:  # the thread must live on; without renewals ``held`` ends
            if not self._failing:
                code = getattr(error, "code", KubernetesError.code)
                self._log.warning(
                    "Lease neither read nor renewed", error=str(error), error_code=code
                )
            self._failing = True
        else:
            self._failing = False
        self._tell()

    def _compete(self) -> None:
        # Taken before the question: the renewal may be older than its answer, never younger.
        asked = self._monotonic()
        raw = self._cluster.read(self._ref)
        current = None if raw is None else raw.get("spec") or {}
        self._seen = None if current is None else look(current, self._seen, asked)
        spec = next_lease(current, self._seen, me=self._me, now=self._clock.now(), monotonic=asked)
        if spec is None:
            self._held_until = None
            return
        self._write(raw, spec)
        self._held_until = asked + HELD_SECONDS

    def _write(self, raw: RawObject | None, spec: RawObject) -> None:
        if raw is None:
            metadata = {"name": self._ref.name, "namespace": self._ref.namespace}
            self._cluster.create(
                {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec}
            )
        else:
            # With the resourceVersion that was read: of two who write, one gets a conflict.
            self._cluster.replace({**raw, "spec": spec})

    def _release(self) -> None:
        try:
            raw = self._cluster.read(self._ref)
            if raw is not None and (raw.get("spec") or {}).get("holderIdentity") == self._me:
                # The server wants a duration above zero; an empty holder is what counts.
                freed = {**raw["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
                self._cluster.replace({**raw, "spec": freed})
        except Exception as error:  # it ends by itself in a few seconds
            self._log.info("Lease not given back", error=str(error))

    def _tell(self) -> None:
        held = self.held
        if held != self._was_held:
            self._log.info("this replica does the periodic jobs" if held else "Lease is not held")
        self._was_held = held

    def _run(self) -> None:
        while not self._stopped.is_set():
            self.step()
            self._stopped.wait(RENEW_SECONDS)


def _has_ended(spec: RawObject, seen: Seen | None, monotonic: float) -> bool:
    lasts = _number(spec.get("leaseDurationSeconds")) or LEASE_SECONDS
    return seen is not None and seen.spec == spec and monotonic - seen.since >= lasts


def _number(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
