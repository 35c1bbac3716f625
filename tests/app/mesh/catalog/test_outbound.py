"""What a client may dial, and which upstreams answer."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import snapshots
from hypothesis import given
from hypothesis import strategies as st

from app.mesh.catalog.access import Reach
from app.mesh.catalog.outbound import OutboundCompiler
from app.mesh.snapshot import MeshSnapshot, ServiceView
from xds.policy.identity import Issuers
from xds.policy.traffic import (
    DeniedPort,
    Outbound,
    OutboundHost,
    OutboundHttpPort,
    OutboundTcp,
    SplitRule,
    Upstream,
    WeightedUpstream,
)

service, view = snapshots.service, snapshots.view
CART = view("shop/cart", "10.0.0.2")
MAIL = view(service("post/mail", 25, 25, "tcp-server-first"), "10.0.0.3")
PAGES = view("shop/pages", "10.0.0.10")


def reach(*identities: str) -> Reach:
    return frozenset(snapshots.identity(one) for one in identities)


def outbound(mesh: MeshSnapshot, allowed: Reach, namespace: str = "shop") -> Outbound:
    return OutboundCompiler(mesh).compile(allowed, namespace)


def weights_of(found: Outbound) -> dict[str, dict[str, int]]:
    """Dialled service → backend → weight, HTTP and TCP."""
    rules = [host.rule for port in found.http for host in port.hosts]
    rules += [chain.rule for chain in found.tcp]
    return {
        f"{rule.service.host}:{rule.service.port}": {
            f"{u.service.host}|{u.service.target}": u.weight for u in rule.upstreams
        }
        for rule in rules
    }


def test_whole_policy_of_a_client() -> None:
    mesh = snapshots.mesh(CART, MAIL, PAGES, egress=True)
    cart_rule = SplitRule(
        service=CART.service, upstreams=(WeightedUpstream(service=CART.service, weight=100),)
    )
    mail_rule = SplitRule(
        service=MAIL.service, upstreams=(WeightedUpstream(service=MAIL.service, weight=100),)
    )
    assert outbound(mesh, reach("shop/cart", "post/mail")) == Outbound(
        upstreams=(
            Upstream(
                service=MAIL.service,
                server_names=Issuers().subject_names(MAIL.identities),
                endpoints_of=MAIL.identities,
            ),
            Upstream(
                service=CART.service,
                server_names=Issuers().subject_names(CART.identities),
                endpoints_of=CART.identities,
            ),
        ),
        http=(
            OutboundHttpPort(
                port=80,
                addresses=("10.0.0.2",),
                hosts=(OutboundHost(rule=cart_rule, domains=CART.service.host_names(local=True)),),
            ),
        ),
        tcp=(OutboundTcp(rule=mail_rule, addresses=("10.0.0.3",)),),
        passthrough=True,
        denied=(DeniedPort(port=80, addresses=("10.0.0.10",)),),
    )


def test_permissive_mode_reaches_everything_and_denies_nothing() -> None:
    found = outbound(snapshots.mesh(CART, MAIL, PAGES, egress=True), None, "elsewhere")
    assert weights_of(found) == {
        "cart:80": {"cart|8080": 100},
        "pages:80": {"pages|8080": 100},
        "mail:25": {"mail|25": 100},
    }
    assert [up.endpoints_of for up in found.upstreams] == [None, None, None]
    (port,) = found.http
    assert port.addresses == ("10.0.0.2", "10.0.0.10")  # numeric, not by text
    assert [host.domains for host in port.hosts] == [
        found.service.host_names(local=False) for found in (CART, PAGES)
    ]
    assert found.denied == ()


@pytest.mark.parametrize("egress", [True, False])
def test_ports_are_denied_only_where_the_rest_passes(egress: bool) -> None:
    found = outbound(snapshots.mesh(CART, egress=egress), reach())
    denied = (DeniedPort(port=80, addresses=("10.0.0.2",)),) if egress else ()
    assert (found.http, found.tcp, found.denied) == ((), (), denied)


def test_service_without_address_has_no_chain_but_may_be_a_backend() -> None:
    silent = view("shop/v1")
    split = snapshots.split("shop/cart", {"v1": 1})
    found = outbound(snapshots.mesh(CART, silent, splits=[split]), None)
    assert weights_of(found) == {"cart:80": {"v1|8080": 1}}


def test_service_of_several_accounts_shows_only_the_allowed_endpoints() -> None:
    mixed = view("shop/cart", "10.0.0.2", accounts=["shop/blue", "shop/green"])
    found = outbound(snapshots.mesh(mixed), reach("shop/green", "shop/unrelated"))
    assert found.upstreams == (
        Upstream(
            service=mixed.service,
            server_names=Issuers().subject_names(mixed.identities),
            endpoints_of=(snapshots.identity("shop/green"),),
        ),
    )


V1 = view("shop/v1", "10.0.1.1", accounts=["shop/one"])
V2 = view("shop/v2", "10.0.1.2", accounts=["shop/two"])
ROOT = view("shop/root", "10.0.1.0", accounts=["shop/one", "shop/two"])


@pytest.mark.parametrize(
    ("weights", "allowed", "expected"),
    [
        pytest.param(
            {"v1": 90, "v2": 10},
            reach("shop/one", "shop/two"),
            {"root:80": {"v1|8080": 90, "v2|8080": 10}},
            id="all-backends",
        ),
        pytest.param(
            {"v1": 90, "v2": 10},
            reach("shop/two"),
            {"root:80": {"v2|8080": 10}},
            id="backend-out-of-reach-is-dropped",
        ),
        pytest.param(
            {"v1": 90},
            reach("shop/two"),
            {"root:80": {"root|8080": 100}},
            id="no-backend-in-reach-is-no-split",
        ),
        pytest.param(
            {"v1": 0, "v2": 0},
            reach("shop/one"),
            {"root:80": {"root|8080": 100}},
            id="zero-weights-are-no-split",
        ),
        pytest.param(
            {"root": 50, "v2": 50},
            reach("shop/one"),
            {"root:80": {"root|8080": 50}},
            id="apex-among-its-backends",
        ),
        pytest.param(
            {"root": 50, "v2": 50},
            None,
            {"root:80": {"root|8080": 50, "v2|8080": 50}},
            id="apex-in-permissive-mode",
        ),
        pytest.param({"v1": 1}, reach("shop/three"), {}, id="nothing-in-reach"),
    ],
)
def test_root_is_split_over_what_the_client_may_call(
    weights: Mapping[str, int], allowed: Reach, expected: dict[str, dict[str, int]]
) -> None:
    mesh = snapshots.mesh(ROOT, V1, V2, splits=[snapshots.split("shop/root", weights)])
    found = weights_of(outbound(mesh, allowed))
    assert {root: backends for root, backends in found.items() if root == "root:80"} == expected


def test_root_without_servers_is_seen_by_who_may_call_a_backend() -> None:
    empty = view("shop/root", "10.0.1.0", accounts=[])
    split = snapshots.split("shop/root", {"v1": 90, "v2": 10})
    mesh = snapshots.mesh(empty, V1, V2, splits=[split])
    found = outbound(mesh, reach("shop/one"))
    assert weights_of(found) == {"root:80": {"v1|8080": 90}, "v1:80": {"v1|8080": 100}}
    assert [upstream.service for upstream in found.upstreams] == [V1.service]
    assert outbound(mesh, reach("shop/three")).http == ()


def test_one_account_on_both_sides_of_a_split() -> None:
    both = [view(f"shop/{n}", f"10.0.1.{i}", accounts=["shop/one"]) for i, n in enumerate("rab")]
    mesh = snapshots.mesh(*both, splits=[snapshots.split("shop/r", {"a": 3, "b": 1})])
    assert weights_of(outbound(mesh, reach("shop/one")))["r:80"] == {"a|8080": 3, "b|8080": 1}


def test_split_is_not_hierarchical() -> None:
    splits = [snapshots.split("shop/root", {"v1": 1}), snapshots.split("shop/v1", {"v2": 1})]
    found = weights_of(outbound(snapshots.mesh(ROOT, V1, V2, splits=splits), None))
    assert (found["root:80"], found["v1:80"]) == ({"v1|8080": 1}, {"v2|8080": 1})


def test_tcp_root_is_split() -> None:
    root = view(service("shop/root", 25, 25, "tcp"), "10.0.1.0")
    backend = view(service("shop/v1", 25, 26, "tcp"), "10.0.1.1")
    mesh = snapshots.mesh(root, backend, splits=[snapshots.split("shop/root", {"v1": 7})])
    found = outbound(mesh, None)
    assert weights_of(found) == {"root:25": {"v1|26": 7}, "v1:25": {"v1|26": 100}}
    assert [chain.addresses for chain in found.tcp] == [("10.0.1.0",), ("10.0.1.1",)]


def test_backend_is_found_by_port_name_where_numbers_differ() -> None:
    root = view("shop/root", "10.0.1.0", port_name="web")
    backend = view(service("shop/v1", 8080, 8080), "10.0.1.1", port_name="web")
    mesh = snapshots.mesh(root, backend, splits=[snapshots.split("shop/root", {"v1": 7})])
    assert weights_of(outbound(mesh, None))["root:80"] == {"v1|8080": 7}


def test_targets_of_one_port_share_one_virtual_host() -> None:
    old = view(service("shop/cart", 80, 8080), "10.0.0.2", share=3)
    new = view(service("shop/cart", 80, 9090), "10.0.0.2", share=1)
    found = outbound(snapshots.mesh(old, new), None)
    assert weights_of(found) == {"cart:80": {"cart|8080": 300, "cart|9090": 100}}


def test_ports_with_one_target_share_one_upstream() -> None:
    web, alias = (
        view(service("shop/cart", 80), "10.0.0.2"),
        view(service("shop/cart", 81), "10.0.0.2"),
    )
    found = outbound(snapshots.mesh(web, alias), None)
    assert [port.port for port in found.http] == [80, 81]
    assert [upstream.service for upstream in found.upstreams] == [web.service]
    shares = {up.service for port in found.http for h in port.hosts for up in h.rule.upstreams}
    assert shares == {web.service}


def test_members_of_a_stateful_set_trust_the_accounts_of_all() -> None:
    base = view("shop/web", "10.0.2.1", "10.0.2.2", accounts=["shop/a", "shop/b"])
    first = view("shop/web-0.web", "10.0.2.1", accounts=["shop/a"])
    found = outbound(snapshots.mesh(base, first), reach("shop/a"))
    assert {up.service: (up.server_names, up.endpoints_of) for up in found.upstreams} == {
        member.service: (
            Issuers().subject_names(base.identities),
            (snapshots.identity("shop/a"),),
        )
        for member in (base, first)
    }
    assert [host.domains[0] for port in found.http for host in port.hosts] == ["web-0.web", "web"]


@pytest.mark.parametrize(
    ("views", "chains"),
    [
        pytest.param(
            [
                view(service("shop/old", 25, 25, "tcp"), "10.0.0.1", "10.0.0.2", created=1),
                view(service("shop/new", 25, 25, "tcp"), "10.0.0.2", "10.0.0.3", created=2),
            ],
            {"old": ("10.0.0.1", "10.0.0.2"), "new": ("10.0.0.3",)},
            id="the-oldest-wins",
        ),
        pytest.param(
            [
                view(service("shop/b", 25, 25, "tcp"), "10.0.0.1", created=1),
                view(service("shop/a", 25, 25, "tcp"), "10.0.0.1", created=1),
            ],
            {"a": ("10.0.0.1",)},
            id="then-the-name",
        ),
        pytest.param(
            [
                view(service("shop/a", 25, 25, "tcp"), "10.0.0.1"),
                view(service("shop/b", 25, 25, "tcp"), "10.0.0.1", created=9),
            ],
            {"b": ("10.0.0.1",)},
            id="unknown-age-is-youngest",
        ),
        pytest.param(
            [
                view(service("shop/a", 25, 25, "tcp"), "10.0.0.1", created=1),
                view(service("shop/b", 25, 25), "10.0.0.1", created=2),
            ],
            {},
            id="http-beats-tcp",
        ),
        pytest.param(
            [
                view(service("shop/db", 25, 25, "tcp"), "10.0.0.1", "10.0.0.2", created=1),
                view(service("shop/db-0.db", 25, 25, "tcp"), "10.0.0.1", created=1),
            ],
            {"db-0.db": ("10.0.0.1",), "db": ("10.0.0.2",)},
            id="one-endpoint-before-its-base",
        ),
        pytest.param(
            [
                view(service("shop/a", 25, 25, "tcp"), "10.0.0.1"),
                view(service("shop/b", 26, 25, "tcp"), "10.0.0.1"),
            ],
            {"a": ("10.0.0.1",), "b": ("10.0.0.1",)},
            id="other-ports-do-not-clash",
        ),
    ],
)
def test_address_belongs_to_one_chain_per_port(
    views: list[ServiceView], chains: dict[str, tuple[str, ...]]
) -> None:
    found = outbound(snapshots.mesh(*views), None)
    assert {chain.rule.service.host: chain.addresses for chain in found.tcp} == chains


def test_host_names_of_the_own_namespace_win() -> None:
    pod = view("shop/web-0.web", "10.0.0.1")
    twin = view("web/web-0", "10.0.0.2")
    hosts = {
        host.rule.service: host.domains
        for host in outbound(snapshots.mesh(pod, twin), None, "shop").http[0].hosts
    }
    assert hosts[pod.service] == pod.service.host_names(local=True)
    shared = ("web-0.web", "web-0.web:80")
    assert hosts[twin.service] == tuple(
        name for name in twin.service.host_names(local=False) if name not in shared
    )


def test_equal_reach_and_namespace_is_the_same_object() -> None:
    compiler = OutboundCompiler(snapshots.mesh(CART, MAIL))
    allowed = reach("shop/cart")
    assert compiler.compile(allowed, "shop") is compiler.compile(reach("shop/cart"), "shop")
    other = compiler.compile(allowed, "post")
    assert other.upstreams is compiler.compile(allowed, "shop").upstreams
    wider = compiler.compile(reach("shop/cart", "post/mail"), "shop")
    assert wider.upstreams[1] is other.upstreams[0]


PORTS = st.sampled_from((25, 80))
VIEWS = st.lists(
    st.builds(
        lambda name, port, protocol, addresses, created: view(
            service(f"shop/{name}", port, port, protocol),
            *sorted(addresses),
            created=created,
        ),
        name=st.sampled_from(("a", "b", "c", "c-0.c", "c-1.c", "d")),
        port=PORTS,
        protocol=st.sampled_from(("http", "grpc", "tcp", "tcp-server-first")),
        addresses=st.sets(st.sampled_from([f"10.0.0.{n}" for n in range(1, 7)]), max_size=3),
        created=st.none() | st.integers(1, 3),
    ),
    max_size=8,
    unique_by=lambda found: (found.service.full_name, found.service.port),
)


@given(
    views=VIEWS,
    called=st.none() | st.sets(st.sampled_from("abcd")),
    egress=st.booleans(),
    weights=st.dictionaries(st.sampled_from("abcd"), st.integers(0, 3), min_size=1),
)
def test_every_address_of_a_port_is_claimed_once(
    views: list[ServiceView], called: set[str] | None, egress: bool, weights: dict[str, int]
) -> None:
    mesh = snapshots.mesh(*views, egress=egress, splits=[snapshots.split("shop/a", weights)])
    allowed = None if called is None else reach(*(f"shop/{name}" for name in called))
    found = outbound(mesh, allowed)
    claimed = [(port.port, address) for port in found.http for address in port.addresses]
    claimed += [(c.rule.service.port, address) for c in found.tcp for address in c.addresses]
    claimed += [(port.port, address) for port in found.denied for address in port.addresses]
    assert len(set(claimed)) == len(claimed)
    if allowed is None or egress:
        assert set(claimed) == {(v.service.port, a) for v in views for a in v.addresses}
    rules = [host.rule for port in found.http for host in port.hosts]
    rules += [chain.rule for chain in found.tcp]
    named = {up.service for rule in rules for up in rule.upstreams}
    assert all(rule.upstreams for rule in rules)
    assert {upstream.service for upstream in found.upstreams} == named
