"""The arbiter's Pod, for tests of limits that a shared service counts and of authorisation."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from e2e.policies.policy_mesh import SECONDS, PolicyMesh

HOST, PORT, NOBODY = "arbiter.outside.svc.cluster.local", 7000, 7999
"""Where it listens, and a port of the same address where nobody does."""
TOLD = 7001
SCRIPT = Path(__file__).parent / "arbiter.py"
OBJECTS = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: arbiter, namespace: outside}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: arbiter, namespace: outside}
spec:
  replicas: 1
  selector: {matchLabels: {app: arbiter}}
  template:
    metadata: {labels: {app: arbiter}}
    spec:
      serviceAccountName: arbiter
      terminationGracePeriodSeconds: 0
      containers:
        - name: arbiter
          command: [*PYTHON, -u, /app/arbiter.py, "7000", "7001"]
          ports: [{containerPort: 7000}, {containerPort: 7001}]
          readinessProbe: {tcpSocket: {port: 7001}, periodSeconds: 1}
          volumeMounts: [{name: app, mountPath: /app}]
      volumes: [{name: app, configMap: {name: arbiter}}]
---
apiVersion: v1
kind: Service
metadata: {name: arbiter, namespace: outside}
spec:
  selector: {app: arbiter}
  ports:
    - {name: rpc, port: 7000, targetPort: 7000}
    - {name: nobody, port: 7999, targetPort: 7999}
"""
ASK = """
import sys, urllib.request
print(urllib.request.urlopen("http://127.0.0.1:" + sys.argv[1], timeout=5).read().decode())
"""


@contextmanager
def arbiter(mesh: PolicyMesh) -> Iterator[None]:
    """Inside, the arbiter answers."""
    script = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "arbiter", "namespace": "outside"},
        "data": {"arbiter.py": SCRIPT.read_text()},
    }
    text = OBJECTS.replace("*PYTHON", ", ".join(mesh.python)) + "---\n" + yaml.safe_dump(script)
    with mesh.apply(text, "arbiter.yaml"):
        mesh.wait(lambda: mesh.has_ready("arbiter"), SECONDS)
        yield


def asked(mesh: PolicyMesh) -> list[dict[str, Any]]:
    """What the arbiter was asked since it was told to forget."""
    return _told(mesh, "asked")


def forget(mesh: PolicyMesh) -> None:
    """The arbiter counts from 0."""
    _told(mesh, "forget")


def _told(mesh: PolicyMesh, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        mesh.exec("arbiter", "python3", "-c", ASK, f"{TOLD}/{path}")
    )
    return found
