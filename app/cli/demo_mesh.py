"""What the running demo knows: counters of shoppers and sidecars, in one scene or one result.

Shoppers print their counters; a sidecar's stats say who answered whom, and over TLS.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from app.cli.demo_view import Scene
from app.cli.demo_world import VERSIONS, DemoWorld, last_counts
from app.cli.standalone import key_of
from app.errors import UnreachableError
from app.observe import rates
from app.standalone.cluster import Progress, Standalone
from app.standalone.container_logs import log_path, tail
from app.standalone.podlist import PodSummary

_BUYER, _THIEF = "bookbuyer", "bookthief"
_LOOK_SECONDS = 0.2


class Tally:
    """A shopper's counters over restarts and replacements of its Pods."""

    def __init__(self) -> None:
        self._last: dict[str, Mapping[str, int]] = {}
        self._ended: Counter[str] = Counter()

    def take(self, pod: str, counts: Mapping[str, int]) -> None:
        """The Pod's newest counters; lower ones than before mean that it started over."""
        before = self._last.get(pod, {})
        if any(counts.get(name, 0) < count for name, count in before.items()):
            self._ended.update(before)
        self._last[pod] = counts

    def total(self) -> Counter[str]:
        """The sum over all Pods that ever were."""
        summed = Counter(self._ended)
        for counts in self._last.values():
            summed.update(counts)
        return summed


class DemoMesh:
    """Reads the running demo. One thread."""

    def __init__(self, standalone: Standalone, world: DemoWorld, state_dir: Path) -> None:
        self.world = world
        self._state_dir = state_dir
        self._standalone = standalone
        self._tallies = {_BUYER: Tally(), _THIEF: Tally()}
        self._start: dict[str, Counter[str]] = {}
        self._edges: dict[rates.Edge, int] = {}
        self._denied = 0
        self._seen_at = time.monotonic()

    def wait_until_up(
        self,
        timeout_seconds: float,
        stopped: threading.Event,
        *,
        tell: Callable[[Progress], None],
    ) -> bool:
        """True once every Pod is ready, a book is sold and the thief has had an answer."""
        deadline = time.monotonic() + timeout_seconds
        if not self._standalone.wait_until_settled(timeout_seconds, tell=tell):
            return False
        while time.monotonic() < deadline and not stopped.wait(_LOOK_SECONDS):
            totals = self._totals()
            if totals[_BUYER]["ok"] and totals[_THIEF].total():
                return True
        return stopped.is_set()

    def trouble(self) -> str:
        """What keeps the demo from being up, in one line."""
        pods = [f"{p.name} is {p.status} {p.message}" for p in self._pods() if not p.is_well]
        rejected = [str(entry) for entry in self._standalone.rejected()]
        return "; ".join(pods + rejected) or "the shoppers have had no answer"

    def begin(self) -> None:
        """Counting starts here."""
        self._start = self._totals()
        self._edges = rates.total(p.requests for p in self._proxies())
        self._seen_at = time.monotonic()

    def result(self) -> dict[str, Any]:
        """What happened since ``begin``, as the unattended demo prints it."""
        buyer, thief = self._since()
        return {
            "mode": self.world.mode,
            "split": self.world.split,
            _BUYER: {version: buyer[version] for version in VERSIONS}
            | {"errors": buyer["errors"] + buyer["denied"]},
            _THIEF: {"ok": thief["ok"], "denied": thief["denied"]},
            "proxies": len(self._standalone.runtime.connected()),
            "mtls": rates.encrypted(self._proxies()),
        }

    def scene(self) -> Scene:
        """What happened since the last scene, and how the mesh stands."""
        proxies = self._proxies()
        now, edges = time.monotonic(), rates.total(p.requests for p in proxies)
        window, gained = now - self._seen_at, rates.added(self._edges, edges)
        self._seen_at, self._edges = now, edges
        buyer, thief = self._since()
        denied_now, self._denied = thief["denied"] - self._denied, thief["denied"]
        return Scene(
            mode=self.world.mode,
            split=self.world.split,
            served={version: buyer[version] for version in VERSIONS},
            edges=gained,
            window_seconds=max(window, _LOOK_SECONDS),
            thief_ok=thief["ok"],
            thief_denied=thief["denied"],
            denied_now=denied_now,
            mtls=rates.encrypted(proxies),
            proxies=len(self._standalone.runtime.connected()),
            pods=[(p.name, "ready" if p.is_well else p.status) for p in self._pods()],
            api_url=self._standalone.api_url,
            folder=str(self.world.folder),
            notes=[str(entry) for entry in self._standalone.rejected()],
        )

    def kill_one(self, prefix: str) -> None:
        """A Pod whose name begins so is ended at once; its Deployment makes a new one."""
        for pod in self._pods():
            if pod.name.startswith(prefix):
                self._standalone.kubelet.kill(key_of(pod))
                return

    def _since(self) -> tuple[Counter[str], Counter[str]]:
        totals = self._totals()
        for name, start in self._start.items():
            totals[name].subtract(start)
        return totals[_BUYER], totals[_THIEF]

    def _totals(self) -> dict[str, Counter[str]]:
        for pod in self._pods():
            if pod.namespace in self._tallies:
                log = log_path(self._state_dir, key_of(pod), pod.namespace)
                self._tallies[pod.namespace].take(pod.name, last_counts(tail(log)))
        return {name: tally.total() for name, tally in self._tallies.items()}

    def _pods(self) -> tuple[PodSummary, ...]:
        return self._standalone.pods()

    def _proxies(self) -> list[rates.ProxyCounters]:
        """The counters of every sidecar that answers; one that is just starting has none."""
        admin = self._standalone.runtime.compute.envoy_admin
        found = []
        for pod in self._pods():
            if admin is not None and pod.proxy:
                try:
                    found.append(rates.counters(admin.call(key_of(pod), "GET", rates.STATS_PATH)))
                except UnreachableError:
                    continue
        return found
