"""A TrafficDeny keeps its sources out, in permissive mode and against TrafficTargets."""

import pytest
from e2e.policies.policy_mesh import PolicyMesh

pytestmark = [pytest.mark.root, pytest.mark.envoy]

ROUTES = """
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: admin, namespace: shop}
spec:
  matches:
    - {name: admin, pathRegex: "/admin(/.*)?"}
    - {name: open, pathRegex: "/open"}
---
"""
DENY = """
apiVersion: policy.openservicemesh.io/v1alpha1
kind: TrafficDeny
metadata: {name: admin, namespace: shop}
spec:
  destination: {kind: ServiceAccount, name: web-v1}
  sources: [{kind: ServiceAccount, name: buyer}]
  rules: [{kind: HTTPRouteGroup, name: admin, matches: [admin]}]
"""
GRANT = """
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: web, namespace: shop}
spec:
  destination: {kind: ServiceAccount, name: web-v1, namespace: shop}
  sources:
    - {kind: ServiceAccount, name: buyer, namespace: shop}
    - {kind: ServiceAccount, name: visitor, namespace: shop}
  rules: [{kind: HTTPRouteGroup, name: admin}]
"""
DENY_FEED = """
apiVersion: policy.openservicemesh.io/v1alpha1
kind: TrafficDeny
metadata: {name: feed, namespace: shop}
spec:
  destination: {kind: ServiceAccount, name: feed}
  sources: [{kind: ServiceAccount, name: buyer}]
"""
TRICKS = ("/admin", "/admin/x", "//admin", "/open/../admin", "/%61dmin", "/x%2F..%2Fadmin?a=b")


@pytest.mark.parametrize("permissive", [True, False])
def test_named_requests_of_named_sources_are_denied(mesh: PolicyMesh, *, permissive: bool) -> None:
    traffic = {"enablePermissiveTrafficPolicyMode": permissive}
    with mesh.configured(traffic=traffic), mesh.apply(ROUTES + DENY + GRANT):
        mesh.wait_for(403, "buyer", "web-v1.shop", "/admin")
        for path in TRICKS:
            # A connection from before the first denial closes with its next answer.
            mesh.wait_for(403, "buyer", "web-v1.shop", path)
        assert mesh.wait_for(200, "buyer", "web-v1.shop", "/open").seen["path"] == "/open"
        assert mesh.wait_for(200, "visitor", "web-v1.shop", "/admin").status == 200
    mesh.wait_for(200, "buyer", "web-v1.shop", "/admin")


def test_edit_of_a_denial_leaves_listeners_alone(mesh: PolicyMesh) -> None:
    def drained() -> str:
        lines = mesh.envoy("web-v1", "stats").splitlines()
        return next(line for line in lines if line.startswith("listener_manager.listener_modified"))

    with mesh.apply(ROUTES + DENY):
        mesh.wait_for(403, "buyer", "web-v1.shop", "/admin")
        before = drained()
        with mesh.apply(
            DENY.replace("name: admin, namespace", "name: all, namespace").replace(
                "sources: [{kind: ServiceAccount, name: buyer}]", "sources: []"
            ),
            "more.yaml",
        ):
            mesh.wait_for(403, "visitor", "web-v1.shop", "/admin")
            assert drained() == before


def test_missing_route_denies_all_of_its_sources_and_is_told(mesh: PolicyMesh) -> None:
    with mesh.apply(DENY):
        mesh.wait_for(403, "buyer", "web-v1.shop", "/anything")
        assert mesh.ask("visitor", "web-v1.shop", "/admin").status == 200
        assert "E2015" in str(mesh.api("/api/v1/rejected"))


def test_denied_connections_are_closed(mesh: PolicyMesh) -> None:
    with mesh.apply(DENY_FEED):
        mesh.wait(lambda: mesh.talk("buyer", "feed.shop", 9000) != "HELLO")
        assert mesh.talk("visitor", "feed.shop", 9000) == "HELLO"


def test_without_sources_everybody_is_denied(mesh: PolicyMesh) -> None:
    everybody = DENY_FEED.replace("  sources: [{kind: ServiceAccount, name: buyer}]\n", "")
    with mesh.apply(everybody):
        for client in ("buyer", "visitor"):
            mesh.wait(lambda client=client: mesh.talk(client, "feed.shop", 9000) != "HELLO")
    mesh.wait(lambda: mesh.talk("buyer", "feed.shop", 9000) == "HELLO")
