"""Faults of an UpstreamTrafficSetting are made by real sidecars of servers."""

import time

import pytest
from e2e.policies.policy_mesh import PolicyMesh
from e2e.policies.test_rate_limits import ONE, PATHS, STRICT, in_chain, statuses
from e2e.policies.test_upstream_settings import setting

pytestmark = [pytest.mark.root, pytest.mark.envoy]
FAULT = "envoy.filters.http.fault"


def test_abort_hits_its_service_only_and_ends_with_it(mesh: PolicyMesh) -> None:
    with mesh.apply(setting("web-v1", connectionSettings=ONE, fault={"abort": {"status": 418}})):
        mesh.wait_for(418, "buyer", "web-v1.shop")
        assert statuses(mesh, "web-v2.shop") == [200] * 6
        assert statuses(mesh, "web.shop") == [200] * 6
    mesh.wait_for(200, "buyer", "web-v1.shop")
    mesh.wait(lambda: not in_chain(mesh, "web-v1", FAULT))


def test_percentage_of_requests_is_aborted(mesh: PolicyMesh) -> None:
    with mesh.apply(
        setting(
            "web-v1", connectionSettings=ONE, fault={"abort": {"status": 555, "percentage": 50}}
        )
    ):
        mesh.wait_for(555, "buyer", "web-v1.shop")
        found = statuses(mesh, "web-v1.shop", count=60)
        assert set(found) == {200, 555}
        assert 10 < found.count(555) < 50  # five standard deviations
    mesh.wait_for(200, "buyer", "web-v1.shop")


def test_delay_holds_requests_back(mesh: PolicyMesh) -> None:
    with mesh.apply(
        setting("web-v1", connectionSettings=ONE, fault={"delay": {"duration": "1500ms"}})
    ):
        mesh.wait(lambda: in_chain(mesh, "web-v1", FAULT))
        mesh.wait(lambda: "fixed_delay" in mesh.envoy("web-v1", "config_dump"))
        began = time.monotonic()
        assert mesh.ask("buyer", "web-v1.shop").status == 200
        assert time.monotonic() - began > 1.5


def test_fault_of_a_route_stands_instead_of_the_hosts(mesh: PolicyMesh) -> None:
    spec = {
        "fault": {"abort": {"status": 501}},
        "httpRoutes": [{"path": "/pay", "fault": {"abort": {"status": 502}}}],
    }
    with (
        mesh.configured(traffic=STRICT),
        mesh.apply(PATHS + setting("web-v1", connectionSettings=ONE, **spec)),
    ):
        mesh.wait_for(502, "buyer", "web-v1.shop", "/pay")
        mesh.wait_for(501, "buyer", "web-v1.shop", "/other")
        # Who may not call at all is told so: access comes first.
        mesh.wait_for(403, "visitor", "web-v1.shop", "/pay")
    mesh.wait_for(200, "visitor", "web-v1.shop", "/pay")
