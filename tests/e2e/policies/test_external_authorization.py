"""Inbound requests are shown to a real authorisation server, as MeshConfig says."""

from collections.abc import Iterator
from typing import Any

import pytest
from e2e.policies.arbitration import HOST, NOBODY, PORT, arbiter, asked, forget
from e2e.policies.policy_mesh import PolicyMesh
from e2e.policies.test_rate_limits import ONE
from e2e.policies.test_upstream_settings import setting

pytestmark = [pytest.mark.root, pytest.mark.envoy]


@pytest.fixture(scope="module")
def guarded(mesh: PolicyMesh) -> Iterator[PolicyMesh]:
    """The mesh with a server to ask."""
    with arbiter(mesh), mesh.apply(setting("web-v1", connectionSettings=ONE)):
        yield mesh


def asking(**more: Any) -> dict[str, Any]:
    """The section ``traffic`` of a MeshConfig that asks the server."""
    where = {"enable": True, "address": HOST, "port": PORT, "timeout": "5s"}
    return {"inboundExternalAuthorization": {**where, **more}}


def has_filter(mesh: PolicyMesh, workload: str) -> bool:
    dump = mesh.envoy(workload, "config_dump?resource=dynamic_listeners")
    return '"envoy.filters.http.ext_authz"' in dump


def test_server_allows_and_denies_with_its_own_answer(guarded: PolicyMesh) -> None:
    with guarded.configured(traffic=asking(statPrefix="guard")):
        denied = guarded.wait_for(402, "buyer", "web-v1.shop", headers={"x-wish": "deny"})
        assert (denied.headers["x-price"], denied.body) == ("9", "pay first")
        forget(guarded)
        allowed = guarded.ask("buyer", "web-v1.shop", "/a?b=c")
        assert allowed.seen["headers"]["x-verdict"] == "fine"
        (seen,) = asked(guarded)
        assert (seen["method"], seen["path"], seen["host"]) == ("GET", "/a?b=c", "web-v1.shop:8000")
        assert "buyer.shop" in seen["source"]
        stats = guarded.envoy("web-v1", "stats?filter=ext_authz")
        assert "ext_authz.guard.ok: 1" in stats
        # TCP is not asked about, and who serves nothing asks nobody.
        assert guarded.talk("buyer", "feed.shop", 9000) == "HELLO"
        assert not has_filter(guarded, "feed")
    guarded.wait_for(200, "buyer", "web-v1.shop", headers={"x-wish": "deny"})
    assert not has_filter(guarded, "web-v1")


@pytest.mark.parametrize(
    ("where", "allow", "status"),
    [
        pytest.param({"port": NOBODY}, False, 403, id="down-and-closed"),
        pytest.param({"port": NOBODY}, True, 200, id="down-and-open"),
        pytest.param({"address": ""}, False, 403, id="without-address-and-closed"),
        pytest.param({"address": ""}, True, 200, id="without-address-and-open"),
    ],
)
def test_requests_while_nobody_answers(
    guarded: PolicyMesh, where: dict[str, Any], allow: bool, status: int
) -> None:
    with guarded.configured(traffic=asking(**where, failureModeAllow=allow)):
        guarded.wait(lambda: has_filter(guarded, "web-v1"))
        guarded.wait_for(status, "buyer", "web-v1.shop")
        assert guarded.ask("buyer", "web-v1.shop").status == status
    guarded.wait_for(200, "buyer", "web-v1.shop")
    guarded.wait(lambda: not has_filter(guarded, "web-v1"))
