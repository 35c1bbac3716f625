"""Which filters the chains of traffic in have, and in which order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import xds_cases
import xds_limits

from xds.protos import to_json
from xds.resource import ResourceKind

ALWAYS = ["envoy.filters.http.health_check", "envoy.filters.http.rbac", "envoy.filters.http.router"]


def chains(case: xds_cases.Case) -> Mapping[str, list[dict[str, Any]]]:
    """The network filters of each inbound chain."""
    (listener,) = [
        to_json(one)
        for one in xds_cases.resources(case)
        if one.kind is ResourceKind.LDS and one.name == "inbound-listener"
    ]
    return {chain["name"]: chain["filters"] for chain in listener["filter_chains"]}


def http_filters(filters: list[dict[str, Any]]) -> list[str]:
    return [one["name"] for one in filters[-1]["typed_config"]["http_filters"]]


def test_limited_port_has_filters_in_order_and_another_has_none() -> None:
    found = chains(xds_cases.limited_server())
    limited, other, feed = (
        found[f"inbound_bookstore/{name}"]
        for name in ("bookstore_80_http", "other_80_http", "feed_5000_tcp")
    )
    assert http_filters(limited) == [
        "envoy.filters.http.health_check",
        "envoy.filters.http.rbac",
        "envoy.filters.http.local_ratelimit",
        "envoy.filters.http.ext_authz",
        "envoy.filters.http.ratelimit/shop/web",
        "envoy.filters.http.fault",
        "envoy.filters.http.router",
    ]
    # The Host header decides whose limits count: the other chain of the port has the same.
    assert http_filters(other) == http_filters(limited)
    counting = ["envoy.filters.network.local_ratelimit", "envoy.filters.network.ratelimit"]
    assert [one["name"] for one in limited][:-1] == counting
    assert [one["name"] for one in other][:-1] == []
    assert [one["name"] for one in feed][:-1] == counting
    assert "upstream_connect_mode" not in feed[-1]["typed_config"]


@pytest.mark.parametrize("name", ["permissive-http", "smi-http-two-callers"])
def test_port_without_limits_has_no_filter_of_them(name: str) -> None:
    for filters in chains(xds_cases.CASES[name]()).values():
        assert http_filters(filters) == ALWAYS


def test_gateways_requests_are_asked_about_as_well() -> None:
    case = xds_cases.ingress()
    inbound = replace(case.policy.inbound, authorization=xds_limits.ASKED)
    asked = replace(case, policy=replace(case.policy, inbound=inbound))
    found = chains(asked)
    gateways = [name for name in found if name.startswith("ingress_")]
    assert gateways
    for name in gateways:
        assert http_filters(found[name]) == [
            "envoy.filters.http.rbac",
            "envoy.filters.http.ext_authz",
            "envoy.filters.http.router",
        ]
    assert "ext-authz" in {
        one.name for one in xds_cases.resources(asked) if one.kind is ResourceKind.CDS
    }
