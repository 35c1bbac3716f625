"""What a kubelet would do for a test without nodes: Pods of a label become ready, or do not.

A thread with an end of its own; the API server's controllers do the rest (ReplicaSets count ready
Pods, Deployments available replicas).
"""

from __future__ import annotations

import contextlib
import threading
import urllib.error
from collections.abc import Iterator
from typing import Any

from kube_server import KubeServer

_PAUSE_SECONDS = 0.1
_READY = [
    {"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    for kind in ("Initialized", "Ready", "ContainersReady")
]


@contextlib.contextmanager
def starting_pods(server: KubeServer, namespace: str, labels: str) -> Iterator[None]:
    """Every Pod with the labels is ready soon after it is there, as long as the context lasts."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(_PAUSE_SECONDS):
            with contextlib.suppress(urllib.error.HTTPError, OSError):
                start_pods(server, namespace, labels)

    thread = threading.Thread(target=run, name="kubelet", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def start_pods(server: KubeServer, namespace: str, labels: str) -> None:
    """Every Pod with the labels that is there is ready now."""
    folder = f"/api/v1/namespaces/{namespace}/pods"
    pods: dict[str, Any] = server.call("GET", f"{folder}?labelSelector={labels}")
    for pod in pods["items"]:
        if not pod["status"].get("containerStatuses"):
            server.call("PATCH", f"{folder}/{pod['metadata']['name']}/status", _running(pod))


def _running(pod: dict[str, Any]) -> dict[str, Any]:
    containers = [
        {
            "name": container["name"],
            "ready": True,
            "restartCount": 0,
            "image": container["image"],
            "imageID": "",
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
        }
        for container in pod["spec"]["containers"]
    ]
    return {"status": {"phase": "Running", "conditions": _READY, "containerStatuses": containers}}
