"""A Retry makes one client try again, and no other."""

import pytest
from e2e.policies.policy_mesh import PolicyMesh
from e2e.policies.test_upstream_settings import logged

pytestmark = [pytest.mark.root, pytest.mark.envoy]

RETRY = """
apiVersion: policy.openservicemesh.io/v1alpha1
kind: Retry
metadata: {name: buyer, namespace: shop}
spec:
  source: {kind: ServiceAccount, name: buyer, namespace: shop}
  destinations: [{kind: Service, name: web-v1, namespace: shop}]
  retryPolicy:
    retryOn: 5xx
    perTryTimeout: 400ms
    numRetries: 2
    retryBackoffBaseInterval: 5ms
"""
FLAG = {"enableRetryPolicy": True}


def test_failed_requests_of_one_client_are_tried_again(mesh: PolicyMesh) -> None:
    with mesh.configured(featureFlags=FLAG), mesh.apply(RETRY):
        mesh.wait(lambda: "retry_policy" in mesh.envoy("buyer", "config_dump"))
        assert mesh.ask("buyer", "web-v1.shop", "/thrice?status=500").status == 500
        assert logged(mesh, "web-v1", "/thrice?status=500") == 3
        assert mesh.ask("visitor", "web-v1.shop", "/once?status=500").status == 500
        assert logged(mesh, "web-v1", "/once?status=500") == 1
        assert mesh.ask("buyer", "web-v2.shop", "/once?status=500").status == 500
        assert logged(mesh, "web-v2", "/once?status=500") == 1
        assert mesh.ask("buyer", "web-v1.shop", "/slow?sleep=0.8").status == 504
        assert mesh.ask("visitor", "web-v1.shop", "/slow?sleep=0.8").status == 200


def test_retry_without_the_feature_flag_is_told_of_and_not_in_force(mesh: PolicyMesh) -> None:
    with mesh.apply(RETRY):
        mesh.wait(lambda: "enableRetryPolicy" in str(mesh.api("/api/v1/rejected")))
        assert "retry_policy" not in mesh.envoy("buyer", "config_dump")
