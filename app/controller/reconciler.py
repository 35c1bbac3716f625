"""Objects of ours that others altered or deleted are restored within seconds.

Watches say when to look; a look every half minute finds what a watch missed. Whoever takes the
label ``openservicemesh.io/reconcile`` off an object first may then do with it what he likes. Each
replica does this; who comes second finds nothing to do. Specification: kubernetes-surface 6.5.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from app import logs
from app.controller.crds import RECONCILE_LABEL
from app.controller.settle import Merge, settle
from app.metrics import Metrics
from app.objects.meta import NAME_LABEL, PRODUCT, VERSION_LABEL, ObjectRef, RawObject
from app.ports import Cluster, Watching

CHECK_SECONDS = 30.0
"""Between looks that no watch asked for."""
_OURS = f"{NAME_LABEL}={PRODUCT}"
_RETRY_SECONDS = 1.0
_PAUSE_SECONDS = 1.0
"""After a repair, so that two who disagree do not fill the API server with writes."""
TRUCE_SECONDS = 600.0
"""How long what another release wrote stays: by then a rolling update has ended one of both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An object that is kept, and the error codes of not restoring it."""

    ref: ObjectRef
    merge: Merge
    altered_code: str
    deleted_code: str
    version: str = ""
    """Our release where the object names the one that wrote it; empty: whose it is tells nothing"""


class Reconciler:
    """Keeps objects as they should be, on a thread of its own."""

    def __init__(
        self,
        cluster: Cluster,
        kept: Iterable[Kept],
        *,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._kept = tuple(kept)
        self._metrics = metrics
        self._clock = clock
        self._log = logs.logger("reconciler")
        self.writing = threading.Lock()
        """Held while an object is restored; who writes one on purpose holds it meanwhile."""
        self._lock = threading.Lock()
        self._released: set[ObjectRef] = set()
        self._strangers: dict[ObjectRef, tuple[str, float]] = {}
        """Objects of another release: which, and when that was first seen."""
        self._problems: dict[ObjectRef, str] = {}
        self._watches: list[Watching] = []
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reconciler", daemon=True)

    def start(self) -> None:
        """Objects are kept from now on; may be called again."""
        if self._thread.ident is not None:
            return
        refs = [kept.ref for kept in self._kept]
        for api_version, kind in sorted({(ref.api_version, ref.kind) for ref in refs}):
            names = [ref.name for ref in refs if ref.kind == kind]
            changed = self._hearing(api_version, kind)
            # One watch per kind; by the label that stays when the one that binds us is removed.
            only = {"name": names[0]} if len(names) == 1 else {"labels": _OURS}
            self._watches.append(self._cluster.watch(api_version, kind, changed, **only))
        self._thread.start()

    def stop(self) -> None:
        """Nothing is restored any more; safe to call when it was never started."""
        self._stopped.set()
        self._wake.set()
        for watch in self._watches:
            watch.stop()
        if self._thread.ident is not None:
            self._thread.join()

    def wake(self) -> None:
        """All is looked at soon, on the reconciler's thread."""
        self._wake.set()

    def problems(self) -> tuple[str, ...]:
        """What is not as it should be, and why; sorted sentences."""
        with self._lock:
            released = [
                f"{ref} is left as it is: its label {RECONCILE_LABEL} was removed"
                for ref in self._released
            ]
            return tuple(sorted([*released, *self._problems.values()]))

    def check(self) -> bool:
        """Everything is looked at once; True when something was restored or could not be."""
        busy = False
        for kept in self._kept:
            with self.writing:
                busy = self._see_to(kept) or busy
        return busy

    def _run(self) -> None:
        failures = 0
        while True:
            self._wake.wait(_pause_seconds(failures))
            if self._stopped.is_set():
                return
            self._wake.clear()
            was_busy = self.check()
            failures = failures + 1 if self._problems else 0
            if was_busy:
                self._stopped.wait(_PAUSE_SECONDS)

    def _see_to(self, kept: Kept) -> bool:
        code = kept.altered_code

        def merge(current: RawObject | None) -> RawObject | None:
            # What is written is what this looked at: the label may go at any moment.
            nonlocal code
            code = kept.deleted_code if current is None else kept.altered_code
            self._look(kept.ref, current)
            is_left = kept.ref in self._released or self._has_truce(kept, current)
            return current if is_left else kept.merge(current)

        try:
            is_restored = settle(self._cluster, kept.ref, merge)
        except Exception as error:  # tried again; one object must not keep the others from repair
            if self._note(kept.ref, f"{kept.ref} is not as it should be: {error}"):
                self._log.exception("object not restored", object=str(kept.ref), error_code=code)
            return True
        self._note(kept.ref, "")
        if is_restored:
            what = "altered" if code == kept.altered_code else "deleted"
            self._log.warning("object restored", object=str(kept.ref), it_was=what)
            self._metrics.reconciliations.inc(kept.ref.kind)
        return is_restored

    def _hearing(self, api_version: str, kind: str) -> Callable[[RawObject | None], None]:
        def changed(raw: RawObject | None) -> None:
            if raw is not None:
                name = raw["metadata"]["name"]
                self._look(ObjectRef(api_version=api_version, kind=kind, name=name), raw)
            self._wake.set()

        return changed

    def _look(self, ref: ObjectRef, current: RawObject | None) -> None:
        """An object without the label is released, also when it is deleted afterwards."""
        if current is None:
            return
        is_released = RECONCILE_LABEL not in (current["metadata"].get("labels") or {})
        with self._lock:
            if is_released and ref not in self._released:
                self._log.warning("object left as it is: its label was removed", object=str(ref))
            (self._released.add if is_released else self._released.discard)(ref)

    def _has_truce(self, kept: Kept, current: RawObject | None) -> bool:
        """True while another release's replica may still run that wrote the object."""
        labels = ((current or {}).get("metadata") or {}).get("labels") or {}
        stamp = labels.get(VERSION_LABEL, kept.version)
        if not kept.version or stamp == kept.version:
            self._strangers.pop(kept.ref, None)
            return False
        seen, since = self._strangers.get(kept.ref, ("", 0.0))
        if seen != stamp:
            since = self._clock()
            self._strangers[kept.ref] = (stamp, since)
        return self._clock() - since < TRUCE_SECONDS

    def _note(self, ref: ObjectRef, problem: str) -> bool:
        """The object has this problem, or none; True when that is news."""
        with self._lock:
            before = self._problems.pop(ref, "")
            if problem:
                self._problems[ref] = problem
            return problem != before


def _pause_seconds(failures: int) -> float:
    """Until the next look: longer with each failure in a row."""
    if not failures:
        return CHECK_SECONDS
    return float(min(_RETRY_SECONDS * 2 ** min(failures - 1, 10), CHECK_SECONDS))
