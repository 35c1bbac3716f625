"""A real Kubernetes node for tests, and the mesh on it as a user has it: through kubectl and osm.

``K8S_NODE_TOOLS`` names the folder of the node's scripts (up.sh, down.sh, make-image.sh). The node
is started empty and ended with everything in it. ``OSM_E2E_KEEP_NODE`` leaves it up, and takes one
that is up, while tests are written.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from e2e.caller import ASK, Caller, eventually

from app.standalone.envoy import find_envoy

TOOLS = os.environ.get("K8S_NODE_TOOLS", "")
KEEP = bool(os.environ.get("OSM_E2E_KEEP_NODE"))
HOW_TO_GET_ONE = "K8S_NODE_TOOLS is unset: name a folder with up.sh, down.sh and make-image.sh"
CHECKOUT = Path(__file__).parents[3]
OSM = Path(sys.executable).with_name("osm")
EXAMPLE = CHECKOUT / "examples" / "bookstore"
NODE_DIR = Path(os.environ.get("NODE_DIR", "/tmp/k8s/node"))
BASE_IMAGE = NODE_DIR / "images" / "localhost_base_1.tar"
ENVOY_IMAGE = "docker.io/envoyproxy/envoy-distroless:v1.40.0"
PYTHON_IMAGE = "docker.io/library/python:3.11-slim"
REDIS_IMAGE = "docker.io/library/redis:7"


class ClusterNode:
    """The node, with kubectl and osm as its administrator."""

    def __init__(self) -> None:
        self.kubeconfig = NODE_DIR / "admin.kubeconfig"
        reach = ",".join(["10.98.0.2", "10.96.0.0/16", "10.244.0.0/16", "127.0.0.1", "localhost"])
        self.environment = {
            **os.environ,
            "KUBECONFIG": str(self.kubeconfig),
            "NO_PROXY": reach,
            "no_proxy": reach,
        }

    # Life

    def start(self) -> None:
        """The node is ready and has every image that tests use."""
        if not BASE_IMAGE.exists():
            self._script("make-image.sh", "base", "redis-server")
        with ThreadPoolExecutor() as pool:
            # Made before the start, which imports them all at once.
            for made in [pool.submit(image) for image in self._images()]:
                made.result()
        self._script("up.sh", *([] if KEEP else ["--fresh"]))

    def stop(self) -> None:
        """Nothing of the node is left but its images."""
        if not KEEP:
            self._script("down.sh", "--purge")

    def _images(self) -> tuple[Callable[[], object], ...]:
        made = partial(self._script, "make-image.sh", "from")
        return (
            partial(self._script, "make-image.sh", "pause"),
            partial(self._run, ["make", "image", f"PYTHON={sys.executable}"], seconds=300),
            partial(made, PYTHON_IMAGE, "--cmd", "python3"),
            partial(made, REDIS_IMAGE, "--cmd", "redis-server"),
            self._make_envoy_image,
        )

    def _make_envoy_image(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            envoy = shutil.copy(find_envoy(None), Path(folder, "envoy"))
            copy = ["--copy", f"{envoy}:/usr/local/bin/envoy:755", "--entrypoint", "envoy"]
            self._script("make-image.sh", "from", ENVOY_IMAGE, *copy)

    def _script(self, name: str, *arguments: str) -> None:
        self._run([str(Path(TOOLS, name)), *arguments], seconds=300)

    # Asking

    def _run(
        self, command: list[str], *, seconds: float = 60, check: bool = True, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        ended = subprocess.run(
            command,
            cwd=CHECKOUT,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if check and ended.returncode != 0:
            raise AssertionError(f"{command}: {ended.stdout[-3000:]}{ended.stderr[-3000:]}")
        return ended

    def kubectl(self, *arguments: str, seconds: float = 60, stdin: str = "") -> str:
        """What kubectl prints."""
        return self._run(["kubectl", *arguments], seconds=seconds, stdin=stdin).stdout

    def refusal(self, *arguments: str, stdin: str = "") -> str:
        """What kubectl says when it is refused, which it must be."""
        ended = self._run(["kubectl", *arguments], check=False, stdin=stdin)
        assert ended.returncode != 0, f"was not refused: {arguments} {ended.stdout}"
        return ended.stderr

    def osm(self, *arguments: str, seconds: float = 120, stdin: str = "") -> str:
        """What osm prints."""
        return self._run([str(OSM), *arguments], seconds=seconds, stdin=stdin).stdout

    def get(self, kind: str, name: str = "", *, namespace: str = "", labels: str = "") -> Any:
        """The object, or the list's items."""
        where = ["-n", namespace] if namespace else ["-A"] if not name else []
        pick = ["-l", labels] if labels else []
        found = self.kubectl("get", kind, *([name] if name else []), *where, *pick, "-o", "json")
        return json.loads(found) if name else json.loads(found)["items"]

    def apply(self, *paths: Path) -> str:
        """The files' objects are applied as a user does it; what kubectl warned of."""
        applied = [self._run(["kubectl", "apply", "-f", str(path)]) for path in paths]
        return "".join(one.stderr for one in applied)

    def create(self, *objects: dict[str, Any]) -> None:
        """The objects are applied."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.kubectl("apply", "-f", "-", stdin=text)

    def pods(self, namespace: str, labels: str = "") -> list[dict[str, Any]]:
        """Pods that are not ending."""
        found = self.get("pods", namespace=namespace, labels=labels)
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def wait_ready(self, *deployments: str, seconds: float = 120) -> None:
        """Each ``namespace/name`` has all its replicas, new ones, ready."""
        for place in deployments:
            namespace, name = place.split("/")
            try:
                self.kubectl(
                    *["rollout", "status", f"deployment/{name}", "-n", namespace],
                    f"--timeout={seconds:g}s",
                    seconds=seconds + 10,
                )
            except AssertionError as error:
                raise AssertionError(f"{error}\n{self.describe(namespace)}") from error

    def describe(self, namespace: str) -> str:
        """What is to be seen of a namespace, for messages."""
        parts = [self._run(["kubectl", "get", "pods", "-A", "-o", "wide"], check=False).stdout]
        for what in ("pods", "events"):
            found = self._run(["kubectl", "describe", what, "-n", namespace], check=False).stdout
            parts.append(found[-4000:])
        log = ["kubectl", "logs", "-n", "osm-system", "-l", "app=osm-controller", "--tail=30"]
        parts.append(self._run(log, check=False).stdout)
        return "\n".join(parts)

    def wait_until(self, holds: Any, seconds: float, namespace: str = "osm-system") -> None:
        """The condition holds; what is to be seen is told when it never does."""
        eventually(holds, seconds, lambda: self.describe(namespace))

    @contextmanager
    def log(self, namespace: str, pod: str, container: str) -> Iterator[list[dict[str, Any]]]:
        """What the container logs as JSON from now on; complete once the container has ended."""
        follow = ["kubectl", "logs", "-f", "--since=1s", "-n", namespace, pod, "-c", container]
        entries: list[dict[str, Any]] = []
        process = subprocess.Popen(
            follow,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            yield entries
            said, _ = process.communicate(timeout=60)
            entries += [json.loads(line) for line in said.splitlines() if line.startswith("{")]
        finally:
            process.kill()
            process.wait()

    @contextmanager
    def caller(
        self, namespace: str, host: str, path: str = "/buy-a-book/new", *, pause: float = 0.02
    ) -> Iterator[Caller]:
        """Asks a host from inside the only Pod of the namespace's deployment of the same name."""
        (pod,) = self.pods(namespace, f"app={namespace}")
        exec_ = ["kubectl", "--kubeconfig", str(self.kubeconfig), "exec", "-n", namespace]
        exec_ += [pod["metadata"]["name"], "-c", namespace, "--"]
        caller = Caller([*exec_, "python3", "-u", "-c", ASK, host, path, str(pause)])
        try:
            yield caller
        finally:
            caller.end()


def since() -> float:
    """Now, for what is asked afterwards."""
    return time.time()
