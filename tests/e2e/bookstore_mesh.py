"""The bookstore on this machine, run as a user runs it, with callers inside its Pods.

``RunningMesh`` is one ``osm standalone up`` with a folder of its own; ``Caller`` asks over and over
from inside a Pod and remembers every answer with its time.
"""

import json
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from e2e.caller import ASK, Caller, eventually

from app.standalone.podlist import PodSummary, read_pods

OSM = Path(sys.executable).with_name("osm")
EXAMPLE = Path(__file__).parents[2] / "examples" / "bookstore"
API_PORT = 19391
UP_SECONDS = 60.0


class RunningMesh:
    """One ``osm standalone up`` over a copy of the example."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "objects"
        self.state = root / "state"
        self.before = machine()
        self._log = root / "up.log"
        for part in ("apps", "smi"):
            shutil.copytree(EXAMPLE / part, self.folder / part)
        self._process: subprocess.Popen[bytes] | None = None

    # Life

    def up(self) -> None:
        """The mesh is up: every Pod is ready and every proxy connected."""
        command = [OSM, "standalone", "up", "--api-port", str(API_PORT), *self._state_option()]
        for part in ("apps", "smi"):
            command += ["-f", self.folder / part]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        eventually(self._is_up, UP_SECONDS, lambda: self._log.read_text()[-3000:])

    def kill_controller(self) -> None:
        """The controller dies without a chance to say goodbye."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def interrupt(self) -> int:
        """Ctrl-C, and the exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(timeout=60)

    def down(self) -> None:
        self.osm("standalone", "down")

    # Reading

    def osm(self, *arguments: str) -> str:
        """What a command prints."""
        standalone = self._state_option() if arguments[0] == "standalone" else []
        command = [OSM, *arguments[:2], *standalone, *arguments[2:]]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def pods(self) -> list[PodSummary]:
        return read_pods(self.state)

    def pod(self, prefix: str) -> PodSummary:
        (found,) = [pod for pod in self.pods() if pod.name.startswith(prefix)]
        return found

    def api(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{API_PORT}{path}", timeout=10) as answer:
            text = answer.read().decode()
        return json.loads(text) if "json" in answer.headers["content-type"] else text

    def stats(self) -> dict[str, dict[str, int]]:
        """Counters of every sidecar, by Pod."""
        found = {}
        for proxy in self.api("/api/v1/proxies"):
            lines = self.api(f"/api/v1/proxies/{proxy['uuid']}/envoy/stats").splitlines()
            pairs = (line.rsplit(": ", 1) for line in lines if ": " in line)
            found[proxy["pod"]] = {name: int(v) for name, v in pairs if v.isdigit()}
        return found

    # Doing

    def edit(self, file: str, change: Callable[[list[dict[str, Any]]], None]) -> float:
        """The documents of the file are changed; the moment after it was written."""
        path = self.folder / file
        documents = list(yaml.safe_load_all(path.read_text()))
        change(documents)
        return self.write(file, yaml.safe_dump_all(documents))

    def write(self, file: str, text: str) -> float:
        (self.folder / file).write_text(text)
        return time.time()

    @contextmanager
    def edited(self, file: str, change: Callable[[list[dict[str, Any]]], None]) -> Iterator[float]:
        """Inside, the file is changed; afterwards it is as before."""
        before = (self.folder / file).read_text()
        try:
            yield self.edit(file, change)
        finally:
            self.write(file, before)

    @contextmanager
    def caller(
        self, workload: str, path: str = "/buy-a-book/new", *, pause: float = 0.005
    ) -> Iterator[Caller]:
        """Asks the bookstore from inside the workload's Pod."""
        pod = self.pod(workload)
        command = [OSM, "standalone", "exec", "-n", pod.namespace, *self._state_option()]
        command += [pod.name, "--", "python3", "-u", "-c", ASK]
        caller = Caller([*map(str, command), "bookstore.bookstore", path, str(pause)])
        try:
            yield caller
        finally:
            caller.end()

    def wait_until(self, holds: Callable[[], bool], timeout_seconds: float = 30.0) -> None:
        eventually(holds, timeout_seconds, lambda: "\n".join(map(str, self.pods())))

    def is_settled(self) -> bool:
        """Every Pod is ready, none is ending, and every proxy holds what it was sent."""
        pods, proxies = self.pods(), self.api("/api/v1/proxies")
        ready = all(pod.is_ready for pod in pods)
        in_sync = all(proxy["in_sync"] and proxy["pod"] for proxy in proxies)
        return ready and in_sync and len(pods) == len(proxies)

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()[-3000:]
        try:
            return len(self.api("/api/v1/proxies")) >= 6 and self.is_settled()
        except OSError:
            return False

    def _state_option(self) -> list[str]:
        return ["--state-dir", str(self.state)]


def machine() -> dict[str, list[str]]:
    """All that a mesh could leave behind on this machine."""
    commands = {
        "namespaces": ["ip", "netns", "list"],
        "links": ["ip", "-br", "link"],
        "routes": ["ip", "route", "show", "table", "all"],
        "rules": ["iptables-save", "-t", "nat"],
    }
    seen = {
        name: sorted(
            subprocess.run(c, capture_output=True, text=True, check=True).stdout.split("\n")
        )
        for name, c in commands.items()
    }
    seen["rules"] = [line for line in seen["rules"] if not line.startswith(("#", ":"))]
    seen["envoys"] = sorted(p.name for p in Path("/proc").iterdir() if is_envoy(p.name))
    return seen


def is_envoy(pid: str) -> bool:
    """True for a process that runs; one that only waits for its parent to notice does not count."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1) if pid.isdigit() else [""]
    except OSError:
        return False
    return fields[0].endswith("(envoy") and fields[1].split()[0] != "Z"
