"""The mesh of these tests works before any policy: what later tests change is what they applied."""

import pytest
from e2e.policies.policy_mesh import PolicyMesh

pytestmark = [pytest.mark.root, pytest.mark.envoy]


def test_mesh_without_policies_serves_its_own_and_nobody_else(mesh: PolicyMesh) -> None:
    answer = mesh.ask("buyer", "web.shop", "/a?b=c", headers={"x-colour": "red"})
    assert answer.status == 200
    assert answer.seen["path"] == "/a?b=c"
    assert answer.seen["headers"]["x-colour"] == "red"
    assert mesh.talk("buyer", "feed.shop", 9000) == "HELLO"
    assert mesh.ask("buyer", "outside.outside").status == 0
