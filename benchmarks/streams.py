"""What a change costs: the real control plane, and many synthetic sidecars over mTLS.

``python -m benchmarks.streams [--proxies N] [-o json]``. The server runs in this process, the
sidecars in another (``load``). Time is from the changed object to the last acknowledgement that the
server takes in; CPU is that of the server. Debouncing is included.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app import logs
from app.certs.builtin import ca_secret_key
from app.controller.runtime import Runtime
from app.ports import Compute
from app.settings import Settings
from benchmarks.mesh import (
    PODS_PER_SERVICE,
    MemorySource,
    MemoryWriter,
    MeshObjects,
    sidecar_keys,
)
from xds.policy.identity import ProxyId

PATIENCE_SECONDS = 180.0
_QUIET_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Result:
    """One number; ``reach`` is what it must not exceed, None where nothing was promised."""

    case: str
    value: float
    unit: str
    reach: float | None = None

    @property
    def ok(self) -> bool:
        return self.reach is None or self.value <= self.reach

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "ok": self.ok}


class Sidecars:
    """The process that plays them."""

    def __init__(self, roots: str, sidecars: list[dict[str, str]]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._call({"roots": roots, "sidecars": sidecars})

    def connect(self, port: int) -> None:
        """All of them connect, and go on by themselves."""
        self._call({"connect": port})

    def wait_until_complete(self) -> None:
        """Each of them has been sent something of every kind."""
        self._call({"complete": PATIENCE_SECONDS})

    def counts(self) -> dict[str, Any]:
        """What they were sent since the last call."""
        found = self._call({})
        if found["failed"]:
            raise RuntimeError(f"sidecars failed: {found['failed'][:3]}")
        return found

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)

    def _call(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(command), file=self._process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


class Bench:
    """One mesh, one server, and what was measured on them."""

    def __init__(self, proxies: int) -> None:
        self.mesh = MeshObjects(max(3, proxies // PODS_PER_SERVICE))
        self.everyone = self.mesh.proxies()
        self.source = MemorySource(self.mesh.all())
        writer = MemoryWriter()
        settings = Settings(
            ads_host="127.0.0.1", ads_port=0, stream_pool_size=len(self.everyone) + 10
        )
        self.runtime = Runtime(
            settings, Compute(source=self.source, writer=writer, envoy_admin=None)
        )
        self.runtime.start()
        key = ca_secret_key(settings.osm_namespace, settings.ca_bundle_secret_name)
        secret = writer.read(key)
        assert secret is not None
        roots, keys = sidecar_keys(secret, self.everyone)
        self.sidecars = Sidecars(roots, [one.as_json() for one in keys])
        self.results: list[Result] = []

    def stop(self) -> None:
        """Nothing of it is left."""
        self.sidecars.stop()
        self.runtime.stop()

    def run(self) -> list[Result]:
        """Every case, in an order in which none disturbs the next."""
        self._cold_connect()
        callers = len(self.mesh.callers(0)) * PODS_PER_SERVICE
        endpoints = self.mesh.endpoints(0, ready=PODS_PER_SERVICE - 1)
        self._change("one endpoint", endpoints, caller=True, seconds=0.25, messages=callers)
        self._change("one split weight", self.mesh.split(50), caller=True, seconds=1.0)
        self._status_only()
        self._change("permissive mode on", self.mesh.config(permissive=True))
        self._change("permissive mode off", self.mesh.config(permissive=False))
        return self.results

    def _cold_connect(self) -> None:
        gc.collect()
        before = _resident_kib()
        started, cpu = time.monotonic(), time.process_time()
        self.sidecars.connect(self.runtime.ads_port)
        count = len(self.everyone)
        self.sidecars.wait_until_complete()
        self._settle()
        seconds, cpu = time.monotonic() - started, time.process_time() - cpu
        counts = self.sidecars.counts()
        if 0 in counts["least"].values():
            raise RuntimeError(f"a sidecar was left without configuration: {counts['least']}")
        self._note("cold connect of all", seconds, "s", 15.0)
        self._note("cold connect of all: CPU", cpu, "s")
        self._note_sent("cold connect of all", counts)
        gc.collect()
        per_proxy = (_resident_kib() - before) / count
        self._note("memory per proxy", per_proxy * 1.024, "kB", 250.0)

    def _settle(self) -> None:
        """Every sidecar has taken all that is current."""
        if not self.runtime.hub.wait_until_settled(PATIENCE_SECONDS):
            raise TimeoutError(f"{len(self.runtime.hub.lagging())} sidecars did not settle")

    def _change(
        self,
        case: str,
        changed: Any,
        *,
        caller: bool = False,
        seconds: float | None = None,
        messages: int | None = None,
    ) -> None:
        """From the object to the last ACK; ``caller``: watch one that calls the first service."""
        watched = self._watched(caller=caller)
        with self._measured(case, seconds, messages):
            old = self.runtime.current(watched)
            self.source.put(changed)
            _wait(lambda: self.runtime.current(watched) is not old)
            self._settle()

    def _watched(self, *, caller: bool) -> ProxyId:
        return self.mesh.proxy(self.mesh.callers(0)[0] if caller else 0, 0)

    @contextmanager
    def _measured(self, case: str, reach: float | None, messages: int | None) -> Iterator[None]:
        time.sleep(_QUIET_SECONDS)
        self.sidecars.counts()
        before = self._built()
        started, cpu = time.monotonic(), time.process_time()
        yield
        self._note(case, time.monotonic() - started, "s", reach)
        self._note(f"{case}: CPU", time.process_time() - cpu, "s")
        self._note(f"{case}: built", self._built() - before, "resources")
        time.sleep(_QUIET_SECONDS)
        self._note_sent(case, self.sidecars.counts(), messages)

    def _built(self) -> int:
        """Resources built so far, and parts of them."""
        built = self.runtime.publisher.cache.built
        return sum(count for builder, count in built.items() if builder.startswith("build_"))

    def _status_only(self) -> None:
        """Restart counts, annotations and resource versions change, and nobody hears of it."""
        time.sleep(_QUIET_SECONDS)
        self.sidecars.counts()
        self.source.put(*(self.mesh.pod(0, i, restarts=1) for i in range(PODS_PER_SERVICE)))
        self.runtime.wait_until_settled(PATIENCE_SECONDS)
        time.sleep(_QUIET_SECONDS)
        self._note_sent("status-only change", self.sidecars.counts(), 0)

    def _note_sent(self, case: str, counts: dict[str, Any], messages: int | None = None) -> None:
        sent = counts["counts"]
        kinds = ", ".join(f"{k} {n}" for k, n in sorted(sent.items()) if k.isupper())
        title = f"{case}: messages" + (f" ({kinds})" if kinds else "")
        self._note(title, sent.get("messages", 0), "messages", messages)
        self._note(f"{case}: sent", sent.get("bytes", 0) / 1000, "kB")

    def _note(self, case: str, value: float, unit: str, reach: float | None = None) -> None:
        self.results.append(Result(case=case, value=round(value, 3), unit=unit, reach=reach))


def main() -> int:
    """Print what was measured; a number out of reach is marked, not a failure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--proxies", type=int, default=200, help="synthetic sidecars (default 200)")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    options = parser.parse_args()
    # Log lines are made as usual, so that they cost what they cost, and thrown away.
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        logs.configure(stream=nowhere)
        bench = Bench(options.proxies)
        try:
            results = bench.run()
        finally:
            bench.stop()
    print(rendered(results, as_json=options.output == "json"))
    return 0


def rendered(results: list[Result], *, as_json: bool) -> str:
    """The results as a table for people, or as JSON."""
    if as_json:
        return json.dumps([result.as_json() for result in results], indent=2)
    width = max(len(result.case) for result in results)
    lines = []
    for result in results:
        reach = "" if result.reach is None else f"reach {result.reach:g}"
        mark = "" if result.reach is None else ("ok" if result.ok else "MISSED")
        lines.append(
            f"{result.case:<{width}}  {result.value:>12,.3f} {result.unit:<9} {reach:<11} {mark}"
        )
    return "\n".join(line.rstrip() for line in lines)


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("nothing was published")
        time.sleep(0.002)


def _resident_kib() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise RuntimeError("no VmRSS on this machine")


if __name__ == "__main__":
    sys.exit(main())
