"""A gateway beside the mesh mounts the certificate that the MeshConfig asks for, on one machine.

It is a real NGINX, which speaks mutual TLS with the Pods of a Service.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from e2e.policies.policy_mesh import PolicyMesh

pytestmark = [pytest.mark.root, pytest.mark.envoy]

GATEWAY = """
apiVersion: v1
kind: ConfigMap
metadata: {name: gateway, namespace: outside}
data:
  nginx.conf: |
    daemon off;
    pid /run/nginx/nginx.pid;
    error_log stderr;
    events {}
    http {
      access_log off;
      client_body_temp_path /run/nginx/body;
      proxy_temp_path /run/nginx/proxy;
      fastcgi_temp_path /run/nginx/fastcgi;
      uwsgi_temp_path /run/nginx/uwsgi;
      scgi_temp_path /run/nginx/scgi;
      proxy_http_version 1.1;
      proxy_set_header Host $host;
      proxy_ssl_certificate /etc/gateway/tls.crt;
      proxy_ssl_certificate_key /etc/gateway/tls.key;
      proxy_ssl_trusted_certificate /etc/gateway/ca.crt;
      proxy_ssl_verify on;
      server {
        listen 8083;
        proxy_ssl_name web-v1.shop.cluster.local;
        location / { proxy_pass https://web-v1.shop:8000; }
      }
      server {
        listen 8084;
        proxy_ssl_name somebody-else.shop.cluster.local;
        location / { proxy_pass https://web-v1.shop:8000; }
      }
    }
---
apiVersion: v1
kind: Pod
metadata: {name: gateway-0-0, namespace: outside}
spec:
  terminationGracePeriodSeconds: 2
  containers:
    - name: gateway
      command: [nginx, -e, stderr, -c, /conf/nginx.conf]
      readinessProbe: {tcpSocket: {port: 8083}, periodSeconds: 1}
      volumeMounts:
        - {name: tls, mountPath: /etc/gateway}
        - {name: conf, mountPath: /conf}
        - {name: run, mountPath: /run/nginx}
  volumes:
    - {name: tls, secret: {secretName: gateway-tls}}
    - {name: conf, configMap: {name: gateway}}
    - {name: run, emptyDir: {}}
"""
BACKEND = """
---
apiVersion: policy.openservicemesh.io/v1alpha1
kind: IngressBackend
metadata: {{name: web, namespace: shop}}
spec:
  backends: [{{name: web-v1, port: {{number: 8080, protocol: https}}}}]
  sources: [{{kind: AuthenticatedPrincipal, name: {principal}}}]
"""
FLAG = {"enableIngressBackendPolicy": True}
VERIFIED, MISTAKEN = 8083, 8084
LOOK = """
import json, ssl
from pathlib import Path
folder = Path("/etc/gateway")
context = ssl.create_default_context(cafile=folder / "ca.crt")
context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
leaf = ssl._ssl._test_decode_cert(str(folder / "tls.crt"))
print(json.dumps({"files": sorted(p.name for p in folder.iterdir() if p.name[0] != "."),
                  "names": [name for _, name in leaf["subjectAltName"]]}))
"""


def certificate(*names: str) -> dict[str, Any]:
    secret = {"name": "gateway-tls", "namespace": "outside"}
    gateway = {"subjectAltNames": list(names), "validityDuration": "1h", "secret": secret}
    return {"ingressGateway": gateway}


@pytest.fixture(scope="module")
def gateway(mesh: PolicyMesh) -> Iterator[PolicyMesh]:
    """A Pod that starts once its certificate is there."""
    wanted = certificate("gateway.edge")
    with (
        mesh.configured(certificate=wanted, featureFlags=FLAG),
        mesh.apply(GATEWAY, "gateway.yaml"),
    ):
        mesh.wait(lambda: mesh.has_ready("gateway"))
        yield mesh
    mesh.wait(lambda: not mesh.has_ready("gateway"))


def look(mesh: PolicyMesh) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(mesh.exec("gateway", "python3", "-c", LOOK))
    return found


def through(mesh: PolicyMesh, port: int) -> int:
    """The status that the gateway answers with."""
    return mesh.ask("gateway", "127.0.0.1", port=port).status


def test_principal_of_the_gateway_is_let_in_over_mutual_tls(gateway: PolicyMesh) -> None:
    with gateway.apply(BACKEND.format(principal="gateway.edge")):
        gateway.wait(lambda: through(gateway, VERIFIED) == 200)
        assert through(gateway, MISTAKEN) == 502
    with gateway.apply(BACKEND.format(principal="buyer.shop.cluster.local")):
        gateway.wait(lambda: through(gateway, VERIFIED) == 403)


def test_gateway_mounts_its_certificate_and_sees_it_change(gateway: PolicyMesh) -> None:
    assert look(gateway) == {"files": ["ca.crt", "tls.crt", "tls.key"], "names": ["gateway.edge"]}
    both = ["other.edge", "spiffe://cluster.local/gateway/edge"]
    gateway.configure(certificate=certificate(*both))
    gateway.wait(lambda: look(gateway)["names"] == both)
