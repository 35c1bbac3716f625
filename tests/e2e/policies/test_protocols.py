"""What a client speaks arrives at the server: HTTP/1.1, HTTP/2, gRPC and WebSocket, end to end."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from e2e.policies.policy_mesh import SECONDS, PolicyMesh

pytestmark = [pytest.mark.root, pytest.mark.envoy]

HERE = Path(__file__).parent
OBJECTS = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: speaker, namespace: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: speaker, namespace: shop}
spec:
  replicas: 1
  selector: {matchLabels: {app: speaker}}
  template:
    metadata: {labels: {app: speaker}}
    spec:
      serviceAccountName: speaker
      terminationGracePeriodSeconds: 0
      containers:
        - name: speaker
          command: [*PYTHON, -u, /app/speaker.py, "7000", "7001"]
          ports: [{containerPort: 7000}, {containerPort: 7001}]
          readinessProbe: {tcpSocket: {port: 7001}, periodSeconds: 1}
          volumeMounts: [{name: app, mountPath: /app}]
      volumes: [{name: app, configMap: {name: speaker}}]
---
apiVersion: v1
kind: Service
metadata: {name: speaker, namespace: shop}
spec:
  selector: {app: speaker}
  ports:
    - {name: web, port: 7000, targetPort: 7000, appProtocol: http}
    - {name: rpc, port: 7001, targetPort: 7001, appProtocol: grpc}
"""


@pytest.fixture(scope="module")
def speaking(mesh: PolicyMesh) -> Iterator[PolicyMesh]:
    """The mesh with a server that tells which protocol it was asked by."""
    script = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "speaker", "namespace": "shop"},
        "data": {"speaker.py": (HERE / "speaker.py").read_text()},
    }
    text = OBJECTS.replace("*PYTHON", ", ".join(mesh.python)) + "---\n" + yaml.safe_dump(script)
    with mesh.apply(text, "speaker.yaml"):
        mesh.wait(lambda: ask(mesh, "--http1.1") == "HTTP/1.1", SECONDS)
        mesh.wait(lambda: call(mesh, "echo") == ["ann"], SECONDS)
        yield mesh


def ask(mesh: PolicyMesh, version: str) -> str:
    """The protocol that the server was asked by when curl spoke the version."""
    quiet = ["curl", "-s", "--max-time", "5", version]
    return mesh.exec("buyer", "sh", "-c", f"{' '.join(quiet)} http://speaker.shop:7000/ || true")


def call(mesh: PolicyMesh, *words: str) -> list[str]:
    """What a gRPC client in the buyer's Pod hears; the status where it fails."""
    script = (HERE / "speaking_client.py").read_text()
    found: list[str] = json.loads(mesh.exec("buyer", *mesh.python, "-c", script, *words))
    return found


@pytest.mark.parametrize(
    ("version", "arrives"),
    [
        pytest.param("--http1.1", "HTTP/1.1", id="http-1"),
        pytest.param("--http2-prior-knowledge", "HTTP/2", id="http-2-without-tls"),
    ],
)
def test_http_arrives_as_it_was_sent(speaking: PolicyMesh, version: str, arrives: str) -> None:
    assert ask(speaking, version) == arrives


def test_grpc_calls_and_streams_work_both_ways(speaking: PolicyMesh) -> None:
    assert call(speaking, "echo") == ["ann"]
    assert call(speaking, "count") == ["1", "2", "3"]
    assert call(speaking, "chat") == ["a!", "b!", "c!"]
    assert call(speaking, "fail") == ["NOT_FOUND", "nobody is called ann"]


def test_websocket_is_upgraded_and_echoes(speaking: PolicyMesh) -> None:
    assert call(speaking, "websocket") == ["101", "hello", "again"]


RULES = """
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: speaker, namespace: shop}
spec:
  matches:
    - {name: calls, pathRegex: /test.Speaker/Echo, methods: [POST]}
    - {name: socket, pathRegex: /socket, methods: [GET]}
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: speaker, namespace: shop}
spec:
  destination: {kind: ServiceAccount, name: speaker, namespace: shop}
  sources: [{kind: ServiceAccount, name: buyer, namespace: shop}]
  rules: [{kind: HTTPRouteGroup, name: speaker}]
"""


def test_rules_hold_for_grpc_and_websocket(speaking: PolicyMesh) -> None:
    with (
        speaking.configured(traffic={"enablePermissiveTrafficPolicyMode": False}),
        speaking.apply(RULES),
    ):
        speaking.wait(lambda: call(speaking, "count")[0] == "UNIMPLEMENTED")
        assert call(speaking, "echo") == ["ann"]
        assert call(speaking, "websocket") == ["101", "hello", "again"]
