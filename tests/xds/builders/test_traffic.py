"""Facts about chains, routes and endpoints that must hold for every policy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import xds_cases

from xds.builders import clusters, inbound, names, outbound, routes
from xds.builders.egress import port_matchers
from xds.builders.listeners import build_inbound_listener, build_outbound_listener
from xds.builders.outbound import OutboundSpec
from xds.policy.egress import Egress, EgressCluster, EgressProtocol, EgressStream
from xds.policy.http import ANY_REQUEST, HeaderMatch, HttpMatch
from xds.policy.proxy import TlsParameters
from xds.policy.service import Protocol
from xds.policy.traffic import Inbound, InboundRule, Outbound, TcpPermission
from xds.protos import Listener, Matcher, StringValue, message_of, serialize, to_dict

BUYER, THIEF, STORE = xds_cases.BUYER, xds_cases.THIEF, xds_cases.STORE
WEB = xds_cases.service("shop/web", 80, target=8080)


def listener_of(policy: Outbound) -> Listener:
    matcher = outbound.build_matcher(outbound.claims(policy), policy.egress)
    return message_of(build_outbound_listener(OutboundSpec.of(policy, matcher, None)))


def chain_tree(matcher: Matcher) -> dict[str, dict[str, str]]:
    """Port → address → chain."""
    found = {}
    for port, by_address in matcher.matcher_tree.exact_match_map.map.items():
        addresses = by_address.matcher.matcher_tree.exact_match_map.map
        found[port] = {
            address: StringValue.FromString(match.action.typed_config.value).value
            for address, match in addresses.items()
        }
    return found


def test_older_grant_of_a_whole_port_is_not_overtaken_by_a_younger_one() -> None:
    clusters = (EgressCluster(name="90", port=90), EgressCluster(name="90|shop/b", port=90))
    whole, part = (
        EgressStream(
            port=90, protocol=EgressProtocol.TCP, ranges=r, cluster=c.name, granted_by="shop/b"
        )
        for r, c in zip(((), ("10.0.0.0/8",)), clusters, strict=True)
    )
    found = [
        port_matchers(Egress(clusters=clusters, streams=streams))[90]
        for streams in ((whole, part), (part, whole))
    ]
    assert [len(matcher.matcher_list.matchers) for matcher in found] == [0, 1]
    assert all(matcher.HasField("on_no_match") for matcher in found)


def test_matcher_leads_from_port_and_address_to_chain() -> None:
    tcp = xds_cases.tcp_smi().policy.outbound
    denied = xds_cases.passthrough_denied().policy.outbound
    both = replace(denied, upstreams=(*denied.upstreams, *tcp.upstreams), tcp=tcp.tcp)
    listener = listener_of(both)
    assert chain_tree(listener.filter_chain_matcher) == {
        "80": {
            "10.2.0.1": "outbound_80_http",
            "10.2.0.9": "outbound-mesh-denied.80",
            "10.2.0.10": "outbound-mesh-denied.80",
        },
        "6379": {"10.2.0.5": "outbound-mesh-denied.6379"},
        "5000": {
            "10.2.0.7": "outbound_bookstore/feed_5000_tcp",
            "fd00::7": "outbound_bookstore/feed_5000_tcp",
        },
    }
    assert {chain.name for chain in listener.filter_chains} == {
        "outbound_80_http",
        "outbound-mesh-denied.80",
        "outbound-mesh-denied.6379",
        "outbound_bookstore/feed_5000_tcp",
    }
    assert not any(chain.HasField("filter_chain_match") for chain in listener.filter_chains)


@pytest.mark.parametrize("name", sorted(xds_cases.CASES))
def test_every_chain_is_named_by_the_matcher_and_every_name_is_a_chain(name: str) -> None:
    policy = xds_cases.CASES[name]().policy.outbound
    listener = listener_of(policy)
    named = set(actions(to_dict(listener.filter_chain_matcher)))
    assert named == {chain.name for chain in listener.filter_chains}


def actions(found: Any) -> Iterator[str]:
    """Every chain that a part of a matcher names."""
    parts = found.items() if isinstance(found, dict) else enumerate(found)
    for name, part in parts:
        if name == "action":
            yield part["typed_config"]["value"]
        elif isinstance(part, dict | list):
            yield from actions(part)


def test_chains_do_not_change_with_addresses() -> None:
    policy = xds_cases.permissive_http().policy.outbound
    moved = replace(
        policy, http=tuple(replace(port, addresses=("10.9.9.9",)) for port in policy.http)
    )
    before, after = listener_of(policy), listener_of(moved)
    assert before.filter_chain_matcher != after.filter_chain_matcher
    for listener in (before, after):
        listener.ClearField("filter_chain_matcher")
    assert serialize(before) == serialize(after)


def test_nothing_but_passthrough_needs_no_matcher() -> None:
    listener = listener_of(xds_cases.passthrough_only().policy.outbound)
    assert not listener.HasField("filter_chain_matcher")
    assert listener.default_filter_chain.name == names.DEFAULT_CHAIN


def test_peers_of_a_tcp_chain_are_the_union_of_its_permissions() -> None:
    permissions = [
        TcpPermission(name="z/first", principals=xds_cases.peers(THIEF, BUYER)),
        TcpPermission(name="a/second", principals=xds_cases.peers(STORE, BUYER)),
    ]
    assert inbound.allowed_peers(permissions) == xds_cases.peers(BUYER, STORE, THIEF)


@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.TCP_SERVER_FIRST])
def test_tcp_connects_to_the_application_after_the_handshake(protocol: Protocol) -> None:
    served = xds_cases.inbound_tcp(xds_cases.service("shop/db", 6379, protocol))
    spec = inbound.InboundSpec.of(Inbound(http=(), tcp=(served,)), TlsParameters())
    (chain,) = message_of(build_inbound_listener(spec)).filter_chains
    assert [f.name for f in chain.filters] == ["envoy.filters.network.tcp_proxy"]
    assert b"none.invalid" not in chain.transport_socket.typed_config.value


def rows(*rules: InboundRule) -> list[tuple[str, list[tuple[str, str]]]]:
    """Path and header conditions of each route."""
    host = xds_cases.inbound_host(WEB, *rules)
    (virtual,) = message_of(
        routes.build_inbound_routes((host,), 8080, "cluster.local")
    ).virtual_hosts
    assert all(route.route.cluster == "shop/web|8080|local" for route in virtual.routes)
    return [
        (
            route.match.safe_regex.regex,
            [
                (h.name, h.string_match.exact or h.string_match.safe_regex.regex)
                for h in route.match.headers
            ],
        )
        for route in virtual.routes
    ]


@pytest.mark.parametrize(
    ("matches", "expected"),
    [
        pytest.param([], [], id="no-rules-no-routes"),
        pytest.param([ANY_REQUEST], [(".*", [])], id="any-method-is-one-route"),
        pytest.param(
            [HttpMatch(path="/a", methods=("GET", "PUT")), HttpMatch(path="/b")],
            [("/a", [(":method", "GET")]), ("/a", [(":method", "PUT")]), ("/b", [])],
            id="one-route-per-method-in-order",
        ),
        pytest.param(
            [HttpMatch(methods=("GET",), headers=(HeaderMatch(name="x", pattern="y+"),))],
            [(".*", [(":method", "GET"), ("x", "y+")])],
            id="headers",
        ),
    ],
)
def test_routes_of_rules(
    matches: list[HttpMatch], expected: list[tuple[str, list[tuple[str, str]]]]
) -> None:
    assert rows(*(InboundRule(match=match, principals=None) for match in matches)) == expected


def test_texts_of_different_matches_differ() -> None:
    matches = [
        ANY_REQUEST,
        HttpMatch(path="/a"),
        HttpMatch(path="/a", methods=("GET",)),
        HttpMatch(path="/a", methods=("GET", "PUT")),
        HttpMatch(path="/a' x='y"),
        HttpMatch(path="/a", headers=(HeaderMatch(name="x", pattern="y"),)),
        HttpMatch(path="/a", headers=(HeaderMatch(name="x", pattern="y' z='w"),)),
        HttpMatch(
            path="/a",
            headers=(HeaderMatch(name="x", pattern="y"), HeaderMatch(name="z", pattern="w")),
        ),
    ]
    assert len({names.match_text(match) for match in matches}) == len(matches)


def test_endpoints_carry_workload_and_state() -> None:
    living, leaving = (
        xds_cases.endpoint(STORE, 1, 8080),
        xds_cases.endpoint(STORE, 2, 8080, draining=True),
    )
    (locality,) = message_of(clusters.build_load_assignment((living, leaving), "c")).endpoints
    assert [e.health_status for e in locality.lb_endpoints] == [0, 3]  # unknown, draining
    labels = locality.lb_endpoints[0].metadata.filter_metadata["osm"]
    assert dict(labels) == {
        "pod": "bookstore-1",
        "namespace": "bookstore",
        "kind": "Deployment",
        "name": "bookstore",
    }


def test_service_without_endpoints_has_an_empty_assignment() -> None:
    assignment = message_of(clusters.build_load_assignment((), "c"))
    assert assignment.cluster_name == "c"
    assert [list(locality.lb_endpoints) for locality in assignment.endpoints] == [[]]
