"""A TrafficSplit with matches moves requests that fit, and leaves all others where they were."""

import pytest
from e2e.policies.policy_mesh import PolicyMesh

pytestmark = [pytest.mark.root, pytest.mark.envoy]

CANARY = """
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: canary, namespace: shop}
spec:
  matches:
    - {name: testers, headers: [{x-canary: "yes"}]}
    - {name: beta, pathRegex: /beta/.*, methods: [GET]}
---
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: canary, namespace: shop}
spec:
  service: web-v1
  matches: [{kind: HTTPRouteGroup, name: canary}]
  backends: [{service: web-v2, weight: 100}]
"""
TARGET = """
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: VERSION, namespace: shop}
spec:
  destination: {kind: ServiceAccount, name: web-VERSION, namespace: shop}
  sources: [{kind: ServiceAccount, name: buyer, namespace: shop}]
  rules: [{kind: HTTPRouteGroup, name: all}]
"""
ALL = """
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: all, namespace: shop}
spec: {matches: [{name: all}]}
"""


def version(mesh: PolicyMesh, path: str = "/", method: str = "GET", **headers: str) -> str:
    """Who answers the buyer's request to ``web-v1``; the status where nobody does."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = mesh.ask("buyer", "web-v1.shop", path, method=method, headers=named)
    return answer.headers.get("version", str(answer.status))


def seen(mesh: PolicyMesh) -> list[str]:
    """Who answers requests that fit by header, by path, and not at all, thrice."""
    return [
        version(mesh, x_canary="yes"),
        version(mesh, "/beta/a"),
        version(mesh),
        version(mesh, x_canary="no"),
        version(mesh, "/beta/a", "POST"),
    ]


def test_requests_that_fit_go_to_the_backend(mesh: PolicyMesh) -> None:
    with mesh.apply(CANARY):
        mesh.wait(lambda: version(mesh, x_canary="yes") == "v2")
        assert seen(mesh) == ["v2", "v2", "v1", "v1", "v1"]
        assert mesh.ask("buyer", "web-v2.shop").headers["version"] == "v2"
    mesh.wait(lambda: version(mesh, x_canary="yes") == "v1")


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        pytest.param("v1 v2", ["v2", "v2", "v1", "v1", "v1"], id="both"),
        pytest.param("v1", ["v1", "v1", "v1", "v1", "v1"], id="root-only"),
        pytest.param("v2", ["v2", "v2", "404", "404", "404"], id="backend-only"),
    ],
)
def test_split_grants_nothing(mesh: PolicyMesh, allowed: str, expected: list[str]) -> None:
    targets = "".join(TARGET.replace("VERSION", name) for name in allowed.split())
    with (
        mesh.configured(traffic={"enablePermissiveTrafficPolicyMode": False}),
        mesh.apply(CANARY + ALL + targets),
    ):
        mesh.wait(lambda: seen(mesh) == expected)


def test_missing_group_is_told_and_nothing_is_split(mesh: PolicyMesh) -> None:
    _, _, split = CANARY.partition("---")
    with mesh.apply(split):
        mesh.wait(lambda: "no HTTPRouteGroup 'canary'" in str(mesh.api("/api/v1/rejected")))
        assert seen(mesh) == ["v1"] * 5
