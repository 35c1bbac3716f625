"""Traffic in: one chain per host name and target, virtual hosts, and who is let in."""

from __future__ import annotations

import pytest
import snapshots

from app.mesh.catalog.access import ANYBODY
from app.mesh.catalog.inbound import compile_inbound
from app.mesh.snapshot import AccessRule, MeshSnapshot
from xds.policy.http import HttpMatch
from xds.policy.identity import Issuers
from xds.policy.service import MeshService
from xds.policy.traffic import (
    Inbound,
    InboundHost,
    InboundHttp,
    InboundHttpPort,
    InboundRule,
    InboundTcp,
    TcpPermission,
)

service, view = snapshots.service, snapshots.view
CART = service("shop/cart")
OPEN = HttpMatch(path="/open")
ANN = Issuers().subject_names([snapshots.identity("shop/ann")])


def inbound(mesh: MeshSnapshot, *backs: MeshService, account: str = "shop/cart") -> Inbound:
    return compile_inbound(mesh, snapshots.identity(account), backs)


def mesh_of(*backs: MeshService, granted: tuple[AccessRule, ...] = ()) -> MeshSnapshot:
    views = [view(one, accounts=["shop/cart"]) for one in backs]
    return snapshots.mesh(*views, granted=granted)


def test_whole_policy_of_a_server() -> None:
    feed = service("shop/cart", 90, 9090, "tcp")
    granted = (
        snapshots.access("shop/cart", "shop/ann", matches=[OPEN], name="shop/http"),
        snapshots.access("shop/cart", "shop/ann", matches=(), ports=[9090], name="shop/tcp"),
    )
    assert inbound(mesh_of(CART, feed, granted=granted), CART, feed) == Inbound(
        http=(
            InboundHttpPort(
                target=8080,
                chains=(InboundHttp(service=CART, server_name="cart.shop.svc.cluster.local"),),
                hosts=(
                    InboundHost(
                        service=CART,
                        domains=CART.host_names(local=True),
                        rules=(InboundRule(match=OPEN, principals=ANN),),
                    ),
                ),
                normalize_paths=True,
            ),
        ),
        tcp=(
            InboundTcp(
                service=feed,
                server_name="cart.shop.svc.cluster.local",
                permissions=(TcpPermission(name="shop/tcp", principals=ANN),),
            ),
        ),
    )


def test_permissive_mode_lets_any_mesh_identity_in_untouched() -> None:
    feed = service("shop/cart", 90, 9090, "tcp")
    mesh = snapshots.mesh(view(CART), view(feed), permissive=True)
    found = inbound(mesh, CART, feed)
    assert [(host.rules, port.normalize_paths) for port in found.http for host in port.hosts] == [
        (ANYBODY, False)
    ]
    assert [chain.permissions for chain in found.tcp] == [None]


def test_nobody_allowed_is_a_host_without_rules_and_no_tcp_chain() -> None:
    feed = service("shop/cart", 90, 9090, "tcp")
    found = inbound(mesh_of(CART, feed), CART, feed)
    assert [host.rules for port in found.http for host in port.hosts] == [()]
    assert [chain.service for port in found.http for chain in port.chains] == [CART]
    assert found.tcp == ()


@pytest.mark.parametrize(
    ("paths", "normalize"),
    [
        pytest.param([".*"], False, id="any-path"),
        pytest.param([".*", "/a"], True, id="one-path"),
        pytest.param(["/.*"], True, id="any-path-in-other-words"),
    ],
)
def test_paths_are_normalized_where_a_rule_names_one(paths: list[str], normalize: bool) -> None:
    matches = [HttpMatch(path=path) for path in paths]
    granted = snapshots.access("shop/cart", "shop/ann", matches=matches)
    (port,) = inbound(mesh_of(CART, granted=(granted,)), CART).http
    assert port.normalize_paths is normalize


def test_port_restriction_holds_per_target() -> None:
    office = service("shop/cart", 81, 8081)
    granted = snapshots.access("shop/cart", "shop/ann", matches=[OPEN], ports=[8081])
    found = inbound(mesh_of(CART, office, granted=(granted,)), CART, office)
    rules = {port.target: port.hosts[0].rules for port in found.http}
    assert rules == {8080: (), 8081: (InboundRule(match=OPEN, principals=ANN),)}


@pytest.mark.parametrize(
    ("backs", "http", "tcp"),
    [
        pytest.param(
            [service("shop/cart", 81), service("shop/cart", 80)],
            [service("shop/cart", 80)],
            [],
            id="two-ports-one-target",
        ),
        pytest.param(
            [service("shop/cart", 80, 8080, "tcp"), service("shop/cart", 81, 8080, "grpc")],
            [service("shop/cart", 81, 8080, "grpc")],
            [],
            id="http-beats-tcp",
        ),
        pytest.param(
            [service("shop/cart", 81, 8080, "tcp"), service("shop/cart", 80, 8080, "tcp")],
            [],
            [service("shop/cart", 80, 8080, "tcp")],
            id="the-lowest-tcp-port",
        ),
        pytest.param(
            [service("shop/cart"), service("shop/alias"), service("shop/raw", 80, 8080, "tcp")],
            [service("shop/alias"), service("shop/cart")],
            [service("shop/raw", 80, 8080, "tcp")],
            id="several-services-on-one-target",
        ),
        pytest.param(
            [service("shop/cart", 80, 8080), service("shop/cart", 80, 9090)],
            [service("shop/cart", 80, 8080), service("shop/cart", 80, 9090)],
            [],
            id="one-service-on-two-targets",
        ),
        pytest.param(
            [service("shop/web"), service("shop/web-0.web")],
            [service("shop/web-0.web"), service("shop/web")],
            [],
            id="base-and-member-of-a-stateful-set",
        ),
    ],
)
def test_one_chain_per_host_name_and_target(
    backs: list[MeshService], http: list[MeshService], tcp: list[MeshService]
) -> None:
    granted = snapshots.access("shop/cart", "shop/ann", ports=[], any_port=True)
    found = inbound(mesh_of(*backs, granted=(granted,)), *backs)
    assert [chain.service for port in found.http for chain in port.chains] == http
    assert [chain.service for chain in found.tcp] == tcp


def test_ports_with_one_target_share_one_virtual_host() -> None:
    alias = service("shop/cart", 81)
    ((host,),) = (port.hosts for port in inbound(mesh_of(CART, alias), CART, alias).http)
    both = dict.fromkeys([*CART.host_names(local=True), *alias.host_names(local=True)])
    assert host.domains == tuple(both)


def split_mesh(root: MeshService, *backends: MeshService) -> MeshSnapshot:
    weights = {backend.name: 1 for backend in backends}
    return snapshots.mesh(
        *{view(one, accounts=["shop/cart"]) for one in (root, *backends)},
        splits=[snapshots.split(root.parent, weights)],
        permissive=True,
    )


def test_backend_answers_to_the_names_of_its_root() -> None:
    root, backend = service("shop/root", 80, 7000), service("shop/v1", 80, 8080, "grpc")
    (port,) = inbound(split_mesh(root, backend), backend).http
    as_root = service("shop/root", 80, 8080, "grpc")
    assert [chain.service for chain in port.chains] == [backend]
    assert port.hosts == tuple(
        InboundHost(service=one, domains=one.host_names(local=True), rules=ANYBODY)
        for one in (as_root, backend)
    )


def test_pod_behind_root_and_backend_has_one_host_for_each() -> None:
    root, backend = service("shop/root"), service("shop/v1")
    (port,) = inbound(split_mesh(root, backend), root, backend).http
    assert [host.service for host in port.hosts] == [root, backend]
    assert [chain.service for chain in port.chains] == [root, backend]


def test_root_on_another_target_is_another_host() -> None:
    root, backend = service("shop/root", 80, 7000), service("shop/v1", 80, 8080)
    found = inbound(split_mesh(root, backend), root, backend)
    assert {port.target: [host.service.name for host in port.hosts] for port in found.http} == {
        7000: ["root"],
        8080: ["root", "v1"],
    }


def test_apex_is_one_host() -> None:
    root = service("shop/root")
    mesh = split_mesh(root, root, service("shop/v1"))
    (port,) = inbound(mesh, root).http
    assert [host.service for host in port.hosts] == [root]


def test_tcp_backend_needs_no_host() -> None:
    root, backend = service("shop/root", 25, 25, "tcp"), service("shop/v1", 25, 26, "tcp")
    found = inbound(split_mesh(root, backend), backend)
    assert (found.http, [chain.service for chain in found.tcp]) == ((), [backend])
