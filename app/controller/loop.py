"""The control loop: the one thread that turns events into snapshots and has them published.

Events come in from any thread on one queue. Changes of objects wait until they pause for the quiet
time, or for the longest wait, and then apply as one batch; endpoints, connects and certificates
apply at once. Only this thread touches the object store. Built by ``controller.runtime``.
Specification: HOUSE 4.1 and 4.6; data-plane 7.7.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, assert_never

from app import logs
from app.events import (
    CertificatesIssued,
    Event,
    ObjectChanged,
    ObjectDeleted,
    ObjectEvent,
    ProxyConnected,
    ProxyGone,
    SourceChecked,
    Synced,
)
from app.mesh.snapshot import MeshSnapshot
from app.metrics import Metrics
from app.objects.meta import ObjectKind
from xds.policy.identity import ProxyId
from xds.policy.proxy import SecretTable

WATCHED_KINDS = frozenset(ObjectKind) - {ObjectKind.SECRET}
"""Kinds the loop waits for; of Secrets only the metadata is watched, and not by the loop."""
_URGENT_KINDS = frozenset({ObjectKind.ENDPOINTS, ObjectKind.ENDPOINT_SLICE})
_MOST_AT_ONCE = 10_000
"""Events taken from the queue before anything is published."""


class Mesh(Protocol):
    """The objects and what they mean; owned by the loop thread."""

    def refresh(self, events: Iterable[ObjectEvent]) -> MeshSnapshot:
        """The snapshot after these events; the same object where nothing changed."""
        ...


class Publication(Protocol):
    """Who turns the present state into configuration for proxies."""

    def publish(self, state: MeshState, *, anew: bool) -> None:
        """Connected proxies have, or are about to get, what the state says.

        ``anew``: nothing that was built before is taken for right.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeshState:
    """All that configuration is made of, at one moment."""

    snapshot: MeshSnapshot
    secrets: SecretTable | None
    """None until the first certificates exist."""
    connected: frozenset[ProxyId]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long object changes are held back."""

    quiet_seconds: float = 0.05
    longest_seconds: float = 1.0
    crowd_seconds: float = 0.05
    """Least time between publications for proxies that only came or went: a thousand that come
    together are a few publications, the first of a crowd waits for nobody."""
    monotonic: Callable[[], float] = time.monotonic


class MeshLoop:
    """The single writer. ``post`` may be called from any thread; ``turn`` from one only."""

    def __init__(
        self,
        mesh: Mesh,
        publication: Publication,
        *,
        metrics: Metrics,
        pace: Pace | None = None,
        on_snapshot: Callable[[MeshSnapshot], None] = lambda _: None,
        resync_seconds: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """``on_snapshot`` hears of each new snapshot before it is published; it must be quick.

        ``resync_seconds`` tells how often all is published anew; 0 means never.
        """
        self._mesh = mesh
        self._publication = publication
        self._metrics = metrics
        self._on_snapshot = on_snapshot
        self._log = logs.logger("loop")
        self._queue: queue.SimpleQueue[Event | threading.Event | None] = queue.SimpleQueue()
        """Events; a threading.Event of who waits for those before it; None at the end."""
        self._waiting: list[threading.Event] = []
        self._pace = pace or Pace()
        self._batch = _Batch(self._pace)
        self._crowd_until: float | None = None
        """Until when proxies that came or went wait for others; None: nobody waits."""
        self._published_at = -math.inf
        self._resync_seconds = resync_seconds
        self._resynced_at = self._pace.monotonic()
        """When all was published anew, or the loop began."""
        self._unsynced = set(WATCHED_KINDS)
        self._urgent: list[ObjectEvent] = []
        self._snapshot: MeshSnapshot | None = None
        self._secrets: SecretTable | None = None
        self._connected: dict[ProxyId, None] = {}
        self._state: MeshState | None = None
        self.synced = threading.Event()
        """Set once the first full snapshot exists."""
        self._thread = threading.Thread(target=self._run, name="loop", daemon=True)

    @property
    def snapshot(self) -> MeshSnapshot | None:
        """The newest snapshot, None until every kind is synced; lock-free."""
        return self._snapshot

    def waiting_for(self) -> tuple[str, ...]:
        """Kinds whose objects have not all been read yet; sorted."""
        return tuple(sorted(self._unsynced.copy()))

    def post(self, event: Event) -> None:
        """The loop takes the event up soon."""
        self._queue.put(event)

    def catch_up(self, timeout_seconds: float) -> bool:
        """True once all that was posted before is published, without holding any of it back."""
        reached = threading.Event()
        self._queue.put(reached)
        return reached.wait(timeout_seconds)

    def start(self) -> None:
        """Events are taken up from now on."""
        self._metrics.events_queued.set_function(self._queue.qsize)
        self._thread.start()

    def stop(self) -> None:
        """The thread has ended; safe to call when it was never started."""
        if self._thread.ident is not None:
            self._queue.put(None)
            self._thread.join()

    def turn(self, *, wait: bool = True) -> bool:
        """What is due has been applied and published; False when the loop was told to stop.

        Waits for an event or the end of a batch, unless told not to.
        """
        running = self._collect(wait=wait)
        try:
            self._apply()
        except Exception as error:  # one broken step must not end the loop
            code = getattr(error, "code", "E5000")
            self._log.exception("a step of the loop failed", error_code=code)
        else:
            self._tell_waiting()
        return running

    def _run(self) -> None:
        while self.turn():
            pass

    def _collect(self, *, wait: bool) -> bool:
        """Events on the queue are sorted into what applies now and what waits."""
        try:
            patience = None if self._unsynced else self._patience()
            event = self._queue.get(timeout=patience) if wait else None
            if wait and event is None:
                return False
            if event is not None:
                self._take(event)
            for _ in range(_MOST_AT_ONCE):
                event = self._queue.get_nowait()
                if event is None:
                    return False
                self._take(event)
        except queue.Empty:
            pass
        return True

    def _patience(self) -> float | None:
        """How long nothing is due; None: until the next event."""
        crowd = self._crowd_until
        waits = [self._batch.seconds_left(), self._resync_left()]
        if crowd is not None:
            waits.append(max(0.0, crowd - self._pace.monotonic()))
        return min((wait for wait in waits if wait is not None), default=None)

    def _take(self, event: Event | threading.Event) -> None:
        if isinstance(event, threading.Event):
            self._waiting.append(event)
            self._batch.hurry()
        else:
            self._sort(event)

    def _tell_waiting(self) -> None:
        if self._unsynced:
            return
        waiting, self._waiting = self._waiting, []
        for reached in waiting:
            reached.set()

    def _sort(self, event: Event) -> None:
        match event:
            case ObjectChanged() | ObjectDeleted():
                kind, change = event.key.kind, isinstance(event, ObjectChanged)
                self._metrics.object_events.inc(
                    f"{kind} {'changed' if change else 'deleted'}", event.key.namespace
                )
                if kind in _URGENT_KINDS and not self._unsynced:
                    self._urgent.append(event)
                else:
                    self._batch.add(event)
            case SourceChecked():
                self._batch.add(event)
            case Synced():
                self._unsynced -= event.kinds
                self._batch.hurry()
            case ProxyConnected():
                self._connected[event.proxy] = None
            case ProxyGone():
                self._connected.pop(event.proxy, None)
            case CertificatesIssued():
                self._secrets = event.secrets
            case _:
                assert_never(event)

    def _apply(self) -> None:
        """Urgent changes apply, then the batch if ready; nothing before all kinds are synced."""
        if self._unsynced:
            return
        if self._urgent:
            events, self._urgent = self._urgent, []
            self._refresh(events)
        if self._batch.is_ready():
            batch = self._batch.take()
            self._refresh(batch)
            self._metrics.broadcasts.inc(by=1 if batch else 0)
        self._publish()

    def _refresh(self, events: Iterable[ObjectEvent]) -> None:
        snapshot = self._mesh.refresh(events)
        if snapshot is self._snapshot:
            return
        self._on_snapshot(snapshot)
        self._snapshot = snapshot
        self.synced.set()

    def _publish(self) -> None:
        snapshot, self._crowd_until = self._snapshot, None
        anew = self._resync_left() == 0
        if snapshot is None or not (self._has_news(snapshot) or anew):
            return
        state = MeshState(
            snapshot=snapshot, secrets=self._secrets, connected=frozenset(self._connected)
        )
        if anew:
            # Before it is tried: what fails once is not tried again and again.
            self._resynced_at = self._pace.monotonic()
            self._metrics.broadcasts.inc()
        self._publication.publish(state, anew=anew)
        self._state = state
        self._published_at = self._pace.monotonic()

    def _resync_left(self) -> float | None:
        """Seconds until all is published anew; None: never."""
        interval = self._resync_seconds()
        if interval <= 0:
            return None
        return max(0.0, self._resynced_at + interval - self._pace.monotonic())

    def _has_news(self, snapshot: MeshSnapshot) -> bool:
        """True when something is to be published now; proxies that only came or went may wait."""
        old = self._state
        if old is None or old.snapshot is not snapshot or old.secrets is not self._secrets:
            return True
        if old.connected == self._connected.keys():
            return False
        due = self._published_at + self._pace.crowd_seconds
        if self._waiting or due <= self._pace.monotonic():
            return True
        self._crowd_until = due
        return False


class _Batch:
    """Object events that wait until changes pause."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._events: list[ObjectEvent] = []
        self._first = self._last = 0.0
        self._hurried = False

    def add(self, event: ObjectEvent) -> None:
        """The event waits with the others."""
        self._last = self._pace.monotonic()
        if not self._events:
            self._first = self._last
        self._events.append(event)

    def hurry(self) -> None:
        """What waits is ready now, even if it is nothing."""
        self._hurried = True

    def is_ready(self) -> bool:
        """True when the batch must be taken."""
        return self._hurried or (bool(self._events) and self._due() <= self._pace.monotonic())

    def seconds_left(self) -> float | None:
        """How long the batch may still wait; None when nothing waits."""
        return max(0.0, self._due() - self._pace.monotonic()) if self._events else None

    def take(self) -> list[ObjectEvent]:
        """The events in their order; none are left."""
        events, self._events, self._hurried = self._events, [], False
        return events

    def _due(self) -> float:
        pace = self._pace
        return min(self._last + pace.quiet_seconds, self._first + pace.longest_seconds)
