"""Egress as a user writes it: what leaves the mesh, for whom, and what never does."""

import pytest
from e2e.policies.policy_mesh import PolicyMesh

pytestmark = [pytest.mark.root, pytest.mark.envoy]

OUTSIDE = "outside.outside"
EGRESS = """
apiVersion: policy.openservicemesh.io/v1alpha1
kind: Egress
metadata: {{name: out, namespace: {namespace}}}
spec:
  sources: [{{kind: ServiceAccount, name: buyer, namespace: shop}}]
  {more}
"""
HTTP = "hosts: [outside.outside]\n  ports: [{number: 8000, protocol: HTTP}]"
GROUP = """
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: open, namespace: shop}
spec:
  matches: [{name: open, pathRegex: /open/.*, methods: [GET]}]
"""
BY_GROUP = "{apiGroup: specs.smi-spec.io/v1alpha4, kind: HTTPRouteGroup, name: open}"
BY_SETTING = "{apiGroup: policy.openservicemesh.io, kind: UpstreamTrafficSetting, name: bound}"
SETTING = """
---
apiVersion: policy.openservicemesh.io/v1alpha1
kind: UpstreamTrafficSetting
metadata: {name: bound, namespace: shop}
spec:
  host: outside.outside
  connectionSettings: {tcp: {maxConnections: 7}}
"""


def egress(more: str, namespace: str = "shop") -> str:
    return EGRESS.format(more=more, namespace=namespace)


def secure(mesh: PolicyMesh, client: str, name: str) -> str:
    """What the TLS server outside says to a client that asks for the name."""
    return mesh.exec(client, "python3", "-c", SECURE, TLS, name).strip()


def test_http_leaves_by_host_for_its_source_alone(mesh: PolicyMesh) -> None:
    with mesh.apply(egress(HTTP)):
        answer = mesh.wait_for(200, "buyer", OUTSIDE, "/a?b=c")
        assert answer.seen["path"] == "/a?b=c"
        assert mesh.ask("buyer", OUTSIDE, headers={"host": "else.test"}).status == 404
        assert mesh.ask("visitor", OUTSIDE).status == 0
        assert mesh.ask("buyer", "web.shop").status == 200
    mesh.wait_for(0, "buyer", OUTSIDE)


def test_http_leaves_by_the_paths_of_a_route_group(mesh: PolicyMesh) -> None:
    with mesh.apply(egress(f"{HTTP}\n  matches: [{BY_GROUP}]") + GROUP):
        assert mesh.wait_for(200, "buyer", OUTSIDE, "/open/a").seen["path"] == "/open/a"
        assert mesh.ask("buyer", OUTSIDE, "/shut").status == 404
        assert mesh.ask("buyer", OUTSIDE, "/open/../shut").status == 404
        assert mesh.ask("buyer", OUTSIDE, "/open/a", method="POST").status == 404


def test_missing_route_group_lets_no_request_out_and_is_told(mesh: PolicyMesh) -> None:
    with mesh.apply(egress(f"{HTTP}\n  matches: [{BY_GROUP}]")):
        mesh.wait_for(404, "buyer", OUTSIDE, "/open/a")
        (told,) = [one for one in mesh.api("/api/v1/rejected") if one["code"] == "E2004"]
        assert told["field"] == "spec.matches[0].name"


def test_wildcard_host_leaves_to_where_the_client_dialled(mesh: PolicyMesh) -> None:
    more = 'hosts: ["*.outside"]\n  ports: [{number: 8000, protocol: http}]'
    with mesh.apply(egress(more)):
        mesh.wait_for(200, "buyer", OUTSIDE)
        assert mesh.ask("buyer", OUTSIDE, headers={"host": "else.test"}).status == 404


def test_tls_leaves_by_server_name_untouched(mesh: PolicyMesh) -> None:
    more = 'hosts: [api.test, "*.sub.test"]\n  ports: [{number: 8443, protocol: https}]'
    with mesh.apply(egress(more)):
        mesh.wait(lambda: secure(mesh, "buyer", "api.test") == "OVER TLS")
        assert secure(mesh, "buyer", "x.sub.test") == "OVER TLS"
        assert secure(mesh, "buyer", "else.test") == "reset"
        assert secure(mesh, "visitor", "api.test") == "reset"
        assert mesh.talk("buyer", TLS, 8443) != "OVER TLS"


def test_server_that_talks_first_is_heard(mesh: PolicyMesh) -> None:
    more = "ports: [{number: 9095, protocol: tcp-server-first}]"
    with mesh.apply(egress(more)):
        mesh.wait(lambda: mesh.exec("buyer", "python3", "-c", LISTEN, TLS).strip() == "WELCOME")
        assert mesh.exec("visitor", "python3", "-c", LISTEN, TLS).strip() == "reset"


def test_tcp_leaves_by_network(mesh: PolicyMesh) -> None:
    address = mesh.exec("buyer", "python3", "-c", LOOK_UP, "outside-feed.outside").strip()
    more = f"ipAddresses: [{address}/32]\n  ports: [{{number: 9000, protocol: tcp}}]"
    with mesh.apply(egress(more)):
        mesh.wait(lambda: mesh.talk("buyer", "outside-feed.outside", 9000) == "HELLO")
        assert mesh.talk("visitor", "outside-feed.outside", 9000) != "HELLO"
        assert mesh.talk("buyer", "feed.shop", 9000) == "HELLO"
    other = "ipAddresses: [192.0.2.0/24]\n  ports: [{number: 9000, protocol: tcp}]"
    with mesh.apply(egress(other)):
        mesh.wait(lambda: "192.0.2.0" in mesh.envoy("buyer", "config_dump"))
        assert mesh.talk("buyer", "outside-feed.outside", 9000) != "HELLO"


def test_setting_bounds_connections_of_the_host(mesh: PolicyMesh) -> None:
    with mesh.apply(egress(f"{HTTP}\n  matches: [{BY_SETTING}]") + SETTING):
        bound = "outside.outside:8000::default_priority::max_connections::7"
        mesh.wait(lambda: bound in mesh.envoy("buyer", "clusters"))
        mesh.wait_for(200, "buyer", OUTSIDE)


def test_egress_of_another_namespace_counts_only_where_the_mesh_says_so(mesh: PolicyMesh) -> None:
    with mesh.apply(egress(HTTP, namespace="stock") + STOCK.replace("MESH", mesh.name)):
        mesh.wait(
            lambda: any(
                one["field"] == "spec.sources[0].namespace" for one in mesh.api("/api/v1/rejected")
            )
        )
        assert mesh.ask("buyer", OUTSIDE).status == 0
        with mesh.configured(traffic={"enableCrossNamespaceEgress": True}):
            mesh.wait_for(200, "buyer", OUTSIDE)


def test_mesh_wide_egress_leaves_objects_without_effect(mesh: PolicyMesh) -> None:
    with (
        mesh.apply(egress(f"{HTTP}\n  matches: [{BY_GROUP}]") + GROUP),
        mesh.configured(traffic={"enableEgress": True}),
    ):
        mesh.wait_for(200, "visitor", OUTSIDE)
        mesh.wait_for(200, "buyer", OUTSIDE, "/shut")


STOCK = """
---
apiVersion: v1
kind: Namespace
metadata: {name: stock, labels: {openservicemesh.io/monitored-by: MESH}}
"""
TLS = "outside-tls.outside"
LISTEN = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], 9095), timeout=5) as connection:
        print(connection.recv(100).decode() or "reset")
except OSError:
    print("reset")
"""
"""Says nothing; the server has to, before a sidecar that looks at first bytes would give up."""
SECURE = """
import socket, ssl, sys
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
try:
    with socket.create_connection((sys.argv[1], 8443), timeout=5) as plain:
        with context.wrap_socket(plain, server_hostname=sys.argv[2]) as found:
            print(found.recv(100).decode())
except OSError:
    print("reset")
"""
LOOK_UP = "import socket, sys; print(socket.gethostbyname(sys.argv[1]))"
