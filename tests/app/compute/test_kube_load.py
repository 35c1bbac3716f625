"""A big cluster is read in seconds and costs little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_DNS, uuid5

import factory
import kube_server
import pytest

PODS, SERVICES, NAMESPACES = 5000, 500, 50
MOST_SECONDS, MOST_MIB = 10.0, 150.0

LOADER = """
import json, sys, threading, time
from pathlib import Path
from app.compute.kube_client import KubeClient
from app.compute.kube_watch import KubeSource
from app.events import ObjectChanged, Synced
from app.metrics import Metrics
from app.objects.meta import ObjectKind

def resident_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

kinds = {ObjectKind.POD, ObjectKind.SERVICE, ObjectKind.NAMESPACE}
client = KubeClient.from_kubeconfig(Path(sys.argv[1]))
source = KubeSource(client, Metrics(), osm_namespace="osm-system", config_name="osm-mesh-config")
client.version()
events, waiting, done = [], set(kinds), threading.Event()

def post(event):
    events.append(event)
    if isinstance(event, Synced):
        waiting.difference_update(event.kinds)
        if not waiting:
            done.set()

before, began = resident_mib(), time.monotonic()
source.start(post, kinds)
assert done.wait(120)
seconds = time.monotonic() - began
grown = resident_mib() - before
source.stop()
objects = sum(isinstance(event, ObjectChanged) for event in events)
print(json.dumps({"objects": objects, "seconds": seconds, "mib": grown}))
"""


def stored(raw: dict[str, Any], **meta: Any) -> dict[str, Any]:
    metadata = raw["metadata"]
    path = f"{metadata['namespace']}/{metadata['name']}"
    raw["metadata"] |= {
        "uid": str(uuid5(NAMESPACE_DNS, path)),
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "managedFields": [
            {
                "manager": "kubelet",
                "operation": "Update",
                "apiVersion": "v1",
                "time": "2026-01-01T00:00:00Z",
                "fieldsType": "FieldsV1",
                "fieldsV1": {f"f:field{n}": {f"f:part{n}": {}} for n in range(60)},
            }
        ],
        **meta,
    }
    return raw


def pod(number: int) -> dict[str, Any]:
    """A Pod with a sidecar, as big as such Pods are: about 8 kB."""
    raw = factory.pod(f"ns{number % NAMESPACES}/web-{number}")
    for name in ("app", "envoy"):
        raw["spec"]["containers"].append(
            {
                "name": name,
                "image": f"registry.example.com/{name}:v1",
                "env": [{"name": f"VARIABLE_{n}", "value": "x" * 40} for n in range(30)],
                "ports": [{"name": f"{name}-http", "containerPort": 8080}],
                "terminationMessagePolicy": "File",
                "imagePullPolicy": "IfNotPresent",
            }
        )
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "1"}
    return stored(raw, ownerReferences=[{**owner, "controller": True}])


def objects() -> Iterator[tuple[str, dict[str, Any]]]:
    for number in range(PODS):
        raw = pod(number)
        yield f"pods/{raw['metadata']['namespace']}/{raw['metadata']['name']}", raw
    for number in range(SERVICES):
        raw = stored(factory.service(f"ns{number % NAMESPACES}/web-{number}"))
        path = f"{raw['metadata']['namespace']}/{raw['metadata']['name']}"
        yield f"services/specs/{path}", raw


@pytest.mark.kube
@pytest.mark.serial
def test_5000_pods_and_500_services_are_read_in_seconds(tmp_path: Path) -> None:
    with kube_server.running() as server:
        server.store(objects())
        loader = tmp_path / "loader.py"
        loader.write_text(LOADER)
        command = [sys.executable, str(loader), str(server.kubeconfig())]
        result = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]
        )
    found = json.loads(result.stdout.splitlines()[-1])
    print(found)  # noqa: T201 the measured numbers, for who asks with -s
    assert found["objects"] >= PODS + SERVICES
    assert found["seconds"] < MOST_SECONDS
    assert found["mib"] < MOST_MIB
