"""Grants to what one identity may send outside: hosts, streams, clusters, denied addresses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import snapshots

from app.mesh.catalog.compile import compile_policy
from app.mesh.catalog.egress import compile_egress
from app.mesh.policies.part import EgressGrant, Policies
from xds.policy.egress import (
    NO_EGRESS,
    Egress,
    EgressCluster,
    EgressHost,
    EgressProtocol,
    EgressRoute,
    EgressStream,
)
from xds.policy.http import ANY_REQUEST, HttpMatch
from xds.policy.settings import Connections
from xds.policy.traffic import DeniedPort

BUYER = snapshots.identity("shop/buyer")
BOUND = Connections(max_connections=7)
OPEN = HttpMatch(path="/open/.*")


def grant(name: str = "shop/out", *, ports: str = "http:80", **fields: Any) -> EgressGrant:
    pairs = (pair.partition(":") for pair in ports.split())
    values: dict[str, Any] = {
        "hosts": (),
        "ranges": (),
        "matches": None,
        "connections": Connections(),
        **fields,
    }
    return EgressGrant(
        name=name,
        sources=frozenset([BUYER]),
        ports=tuple((int(number), EgressProtocol(protocol)) for protocol, _, number in pairs),
        **values,
    )


def compiled(*grants: EgressGrant) -> Egress:
    return compile_egress(grants, BUYER)


def host(name: str, *routes: tuple[HttpMatch, str, str], port: int = 80) -> EgressHost:
    domains = (name,) if name == "*" else (name, f"{name}:{port}")
    return EgressHost(
        name=name,
        domains=domains,
        routes=tuple(
            EgressRoute(match=m, cluster=c, granted_by=tuple(g.split())) for m, c, g in routes
        ),
    )


def test_who_is_no_source_sends_nothing_outside() -> None:
    assert compile_egress([grant()], snapshots.identity("shop/visitor")) is NO_EGRESS


@pytest.mark.parametrize(
    ("granted", "hosts", "clusters"),
    [
        pytest.param(
            grant(hosts=("a.test",)),
            (host("a.test", (ANY_REQUEST, "a.test:80", "shop/out")),),
            (EgressCluster(name="a.test:80", host="a.test", port=80),),
            id="host",
        ),
        pytest.param(
            grant(hosts=("*.a.test",)),
            (host("*.a.test", (ANY_REQUEST, "80", "shop/out")),),
            (EgressCluster(name="80", port=80),),
            id="wildcard-goes-where-it-was-dialled",
        ),
        pytest.param(
            grant(connections=BOUND),
            (host("*", (ANY_REQUEST, "80|shop/out", "shop/out")),),
            (EgressCluster(name="80|shop/out", port=80, connections=BOUND),),
            id="any-host-with-bounds-of-its-own",
        ),
        pytest.param(
            grant(hosts=("a.test",), matches=()),
            (EgressHost(name="a.test", domains=("a.test", "a.test:80"), routes=()),),
            (EgressCluster(name="a.test:80", host="a.test", port=80),),
            id="no-match-lets-nothing-out",
        ),
    ],
)
def test_http(granted: EgressGrant, hosts: Any, clusters: Any) -> None:
    found = compiled(granted)
    assert [port.hosts for port in found.http] == [hosts]
    assert found.clusters == clusters
    assert found.streams == ()


def test_one_host_of_two_egresses_is_one_virtual_host() -> None:
    found = compiled(
        grant("shop/a", hosts=("a.test",), matches=(OPEN,)),
        grant("shop/b", hosts=("a.test",), matches=(OPEN, ANY_REQUEST), connections=BOUND),
    )
    (port,) = found.http
    assert port.hosts == (
        host(
            "a.test",
            (OPEN, "a.test:80", "shop/a shop/b"),
            (ANY_REQUEST, "a.test:80", "shop/b"),
        ),
    )
    assert port.normalize_paths
    assert [cluster.connections for cluster in found.clusters] == [Connections()]


def test_networks_without_hosts_have_a_chain_of_their_own() -> None:
    found = compiled(grant("shop/a", hosts=("a.test",)), grant("shop/b", ranges=("10.0.0.0/8",)))
    assert [
        (http.granted_by, http.ranges, [h.name for h in http.hosts]) for http in found.http
    ] == [
        ("shop/b", ("10.0.0.0/8",), ["*", "a.test"]),
        ("", (), ["a.test"]),
    ]


def test_networks_that_overlap_have_the_routes_of_all_who_name_them() -> None:
    found = compiled(
        grant("shop/a", ranges=("10.0.0.0/8",), matches=(OPEN,)),
        grant("shop/b", ranges=("10.1.0.0/16", "11.0.0.0/8"), matches=(ANY_REQUEST,)),
    )
    assert [
        (http.granted_by, http.ranges, [r.granted_by for r in http.hosts[0].routes])
        for http in found.http
    ] == [
        ("shop/a,shop/b", ("10.1.0.0/16",), [("shop/a",), ("shop/b",)]),
        ("shop/a", ("10.0.0.0/8",), [("shop/a",)]),
        ("shop/b", ("11.0.0.0/8",), [("shop/b",)]),
    ]


def test_port_of_a_server_that_talks_first_has_no_requests() -> None:
    found = compiled(grant("shop/a", ports="tcp-server-first:25"), grant(ports="http:25"))
    assert found.http == ()
    assert [stream.granted_by for stream in found.streams] == ["shop/a"]


def test_streams_ask_for_tls_before_addresses_and_the_oldest_first() -> None:
    found = compiled(
        grant("shop/a", ports="tcp:443", ranges=("10.0.0.0/8",)),
        grant(
            "shop/b", ports="https:443 tcp-server-first:25", hosts=("a.test",), connections=BOUND
        ),
    )
    assert found.streams == (
        EgressStream(
            port=443,
            protocol=EgressProtocol.HTTPS,
            server_names=("a.test",),
            cluster="443|shop/b",
            granted_by="shop/b",
        ),
        EgressStream(
            port=443,
            protocol=EgressProtocol.TCP,
            ranges=("10.0.0.0/8",),
            cluster="443",
            granted_by="shop/a",
        ),
        EgressStream(
            port=25,
            protocol=EgressProtocol.TCP_SERVER_FIRST,
            cluster="25|shop/b",
            granted_by="shop/b",
        ),
    )


@pytest.mark.parametrize(
    ("permissive", "denied"),
    [
        pytest.param(False, (DeniedPort(port=80, addresses=("10.0.0.9",)),), id="smi"),
        pytest.param(True, (), id="permissive"),
    ],
)
def test_mesh_addresses_on_its_ports_are_denied(permissive: bool, denied: Any) -> None:
    views = [
        snapshots.view(snapshots.service("shop/cart", 80), "10.0.0.9"),
        snapshots.view(snapshots.service("shop/other", 81), "10.0.0.8"),
    ]
    mesh = replace(
        snapshots.mesh(*views, permissive=permissive),
        policies=Policies(egress=(grant(ranges=("10.0.0.0/8",)),)),
    )
    policy = compile_policy(mesh, snapshots.profile("shop/buyer"))
    assert policy.outbound.denied == denied
    assert compile_policy(mesh, snapshots.profile("shop/visitor")).outbound.egress is NO_EGRESS
