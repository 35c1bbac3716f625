"""A real NGINX in front of a service of the mesh, let in by IngressBackends."""

import pytest
from e2e.policies.policy_mesh import Answer, PolicyMesh

pytestmark = [pytest.mark.root, pytest.mark.envoy]

PLAIN, SECURE = 8081, 8082
ON = {"featureFlags": {"enableIngressBackendPolicy": True}}
BACKEND = """
apiVersion: policy.openservicemesh.io/v1alpha1
kind: IngressBackend
metadata: {{name: web, namespace: shop}}
spec:
  backends: [{{name: web-v1, port: {{number: 8080, protocol: {protocol}}}{tls}}}]
  sources: [{source}]
  {more}
"""
NGINX = "{kind: Service, name: nginx, namespace: edge}"
ELSEWHERE = "{kind: Service, name: elsewhere, namespace: edge}"
GROUP = """
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: open, namespace: shop}
spec:
  matches: [{name: open, pathRegex: /open/.*}]
"""
BY_GROUP = "{apiGroup: specs.smi-spec.io/v1alpha4, kind: HTTPRouteGroup, name: open}"


def backend(source: str = NGINX, *, protocol: str = "http", tls: str = "", more: str = "") -> str:
    return BACKEND.format(protocol=protocol, tls=tls and f", tls: {tls}", source=source, more=more)


def through(mesh: PolicyMesh, port: int, path: str = "/", server_name: str = "") -> Answer:
    """What NGINX answers to one who asks it."""
    headers = {"x-server-name": server_name, "host": "shop.example"}
    return mesh.ask("nginx", "127.0.0.1", path, port=port, headers=headers)


def wait_through(mesh: PolicyMesh, status: int, port: int, *asked: str) -> Answer:
    found: list[Answer] = []

    def holds() -> bool:
        found.append(through(mesh, port, *asked))
        return found[-1].status == status

    mesh.wait(holds)
    return found[-1]


def test_gateway_without_a_backend_is_reset(mesh: PolicyMesh) -> None:
    assert through(mesh, PLAIN).status == 502
    assert through(mesh, SECURE, "/", "shop.test").status == 502


def test_http_is_let_in_from_the_endpoints_of_a_service(mesh: PolicyMesh) -> None:
    with mesh.configured(**ON), mesh.apply(backend()):
        answer = wait_through(mesh, 200, PLAIN, "/a?b=c")
        assert answer.seen["path"] == "/a?b=c"
        assert answer.seen["headers"]["host"] == "shop.example"
        assert mesh.ask("buyer", "web-v1.shop").status == 200
        assert through(mesh, SECURE, "/", "shop.test").status == 502


def test_other_sources_are_refused(mesh: PolicyMesh) -> None:
    with mesh.configured(**ON):
        with mesh.apply(backend("{kind: IPRange, name: 192.0.2.0/24}")):
            wait_through(mesh, 403, PLAIN)
        with mesh.apply(backend(ELSEWHERE)):
            wait_through(mesh, 403, PLAIN)
            reasons = [one["reason"] for one in mesh.api("/api/v1/rejected")]
            assert "endpoints not found for service edge/elsewhere" in reasons


def test_requests_are_let_in_by_the_paths_of_a_route_group(mesh: PolicyMesh) -> None:
    with mesh.configured(**ON), mesh.apply(backend(more=f"matches: [{BY_GROUP}]") + GROUP):
        wait_through(mesh, 200, PLAIN, "/open/a")
        assert through(mesh, PLAIN, "/shut").status == 404
        assert through(mesh, PLAIN, "/open%2F..%2Fshut").status == 404


def test_https_without_client_certificates_is_let_in_by_server_name(mesh: PolicyMesh) -> None:
    tls = "{skipClientCertValidation: true, sniHosts: [shop.test]}"
    with mesh.configured(**ON), mesh.apply(backend(protocol="https", tls=tls)):
        wait_through(mesh, 200, SECURE, "/", "shop.test")
        assert through(mesh, SECURE, "/", "else.test").status == 502
        assert through(mesh, PLAIN).status == 502
        assert mesh.ask("buyer", "web-v1.shop").status == 200


def test_https_asks_the_gateway_for_a_certificate_of_the_mesh(mesh: PolicyMesh) -> None:
    source = "{kind: AuthenticatedPrincipal, name: nginx.edge.cluster.local}"
    with mesh.configured(**ON), mesh.apply(backend(source, protocol="https")):
        mesh.wait(lambda: "rds-ingress.8080_https" in mesh.envoy("web-v1", "config_dump"))
        assert through(mesh, SECURE, "/", "shop.test").status in (400, 502)


def test_nothing_is_let_in_while_the_flag_is_off(mesh: PolicyMesh) -> None:
    with mesh.apply(backend()):
        mesh.wait(lambda: any(one["code"] == "E2012" for one in mesh.api("/api/v1/rejected")))
        assert through(mesh, PLAIN).status == 502
