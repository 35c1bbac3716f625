"""Which Egresses grant what, and what of them is not in force."""

from __future__ import annotations

from typing import Any

import factory
import pytest
import snapshots

from app.mesh.policies.part import EgressGrant
from app.mesh.snapshot import MeshSnapshot
from xds.policy.egress import EgressProtocol
from xds.policy.http import HttpMatch
from xds.policy.settings import Connections

ROUTES = {"apiGroup": "specs.smi-spec.io/v1alpha4", "kind": "HTTPRouteGroup", "name": "open"}
BOUNDS = {
    "apiGroup": "policy.openservicemesh.io/v1alpha1",
    "kind": "UpstreamTrafficSetting",
    "name": "bound",
}
PORT = {"number": 80, "protocol": "http"}


def mesh(*objects: Any, **traffic: bool) -> MeshSnapshot:
    config = factory.mesh_config(traffic={"enableEgress": False, **traffic})
    namespaces = [factory.namespace("shop"), factory.namespace("pay")]
    return factory.snapshot(config, *namespaces, *objects)


def egress(path: str = "shop/out", *, account: str = "shop/buyer", **spec: Any) -> Any:
    namespace, _, name = account.partition("/")
    source = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    fields = {"sources": [source], "ports": [PORT], **spec}
    return factory.raw("Egress", path, api="policy.openservicemesh.io/v1alpha1", spec=fields)


def told(found: MeshSnapshot) -> list[tuple[str, str]]:
    return [(one.field, one.code) for one in found.rejected]


def test_egress_grants_to_its_sources() -> None:
    grants = mesh(egress(hosts=["API.test", "*.b.test"])).policies.egress
    assert grants == (
        EgressGrant(
            name="shop/out",
            sources=frozenset([snapshots.identity("shop/buyer")]),
            ports=((80, EgressProtocol.HTTP),),
            hosts=("api.test", "*.b.test"),
            ranges=(),
            matches=None,
            connections=Connections(),
        ),
    )


@pytest.mark.parametrize(
    ("spec", "rejected"),
    [
        pytest.param(
            {"account": "pay/bank"}, ("spec.sources[0].namespace", "E2009"), id="foreign-source"
        ),
        pytest.param(
            {"sources": [{"kind": "Group", "name": "all", "namespace": "shop"}]},
            ("spec.sources[0].kind", "E2011"),
            id="source-of-another-kind",
        ),
        pytest.param(
            {"ports": [{"number": 80, "protocol": "smtp"}]},
            ("spec.ports[0].protocol", "E5020"),
            id="unknown-protocol",
        ),
        pytest.param({"hosts": ["*com"]}, ("spec.hosts[0]", "E2003"), id="star-within-a-label"),
        pytest.param(
            {"ipAddresses": ["10.0.0.1"]}, ("spec.ipAddresses[0]", "E2002"), id="no-prefix-length"
        ),
        pytest.param({"hosts": ["a b"]}, ("spec.hosts[0]", "E2003"), id="no-host-is-left"),
        pytest.param(
            {"ipAddresses": ["300.0.0.0/8"]},
            ("spec.ipAddresses[0]", "E2002"),
            id="no-range-is-left",
        ),
    ],
)
def test_what_cannot_be_read_grants_nothing(spec: dict[str, Any], rejected: Any) -> None:
    found = mesh(egress(**spec))
    assert found.policies.egress == ()
    assert told(found) == [rejected]


def test_the_rest_of_an_egress_stays() -> None:
    ports = [PORT, {"number": 81, "protocol": "smtp"}, {"number": 82, "protocol": "HTTPS"}]
    (grant,) = mesh(
        egress(ports=ports, hosts=["a.test", "!"], ipAddresses=["10.1.2.3/8", "x"])
    ).policies.egress
    assert grant.ports == ((80, EgressProtocol.HTTP), (82, EgressProtocol.HTTPS))
    assert (grant.hosts, grant.ranges) == (("a.test",), ("10.0.0.0/8",))


def test_star_is_any_host_as_if_none_were_named() -> None:
    (grant,) = mesh(egress(hosts=["a.test", "*"])).policies.egress
    assert grant.hosts == ()


def test_egress_that_an_older_one_overlaps_is_told() -> None:
    talks_first = [{"number": 80, "protocol": "tcp-server-first"}]
    found = mesh(egress("shop/a"), egress("shop/b", ports=talks_first))
    assert told(found) == [("spec.ports", "E2013")]


def test_matches_name_requests_and_bounds() -> None:
    found = mesh(
        egress(matches=[ROUTES, BOUNDS]),
        factory.route_group("shop/open", open="/open/.*"),
        factory.traffic_setting(
            "shop/bound", host="x", connectionSettings={"tcp": {"maxConnections": 7}}
        ),
    )
    (grant,) = found.policies.egress
    assert grant.matches == (HttpMatch(path="/open/.*"),)
    assert grant.connections == Connections(max_connections=7)
    assert told(found) == []


def test_missing_group_lets_no_request_out_and_missing_bounds_do_not_matter() -> None:
    found = mesh(egress(matches=[ROUTES, BOUNDS]))
    (grant,) = found.policies.egress
    assert grant.matches == ()
    assert grant.connections == Connections()
    assert told(found) == [("spec.matches[0].name", "E2004"), ("spec.matches[1].name", "E3003")]


def test_route_group_of_another_namespace_is_not_found() -> None:
    found = mesh(egress(matches=[ROUTES]), factory.route_group("pay/open", open="/open/.*"))
    assert [grant.matches for grant in found.policies.egress] == [()]


def test_source_of_another_namespace_counts_where_the_mesh_says_so() -> None:
    found = mesh(egress(account="pay/bank"), enableCrossNamespaceEgress=True)
    assert [grant.sources for grant in found.policies.egress] == [
        frozenset([snapshots.identity("pay/bank")])
    ]


def test_mesh_wide_egress_leaves_objects_without_effect() -> None:
    found = mesh(egress(), enableEgress=True)
    assert found.policies.egress == ()
    assert told(found) == [("", "E2012")]


def test_oldest_comes_first() -> None:
    one = egress("shop/a")
    two = egress("shop/b")
    one["metadata"] |= factory.created(2)
    two["metadata"] |= factory.created(1)
    assert [grant.name for grant in mesh(one, two).policies.egress] == ["shop/b", "shop/a"]
