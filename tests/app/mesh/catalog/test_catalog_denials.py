"""What a server refuses of its ports, beside what it is granted."""

from __future__ import annotations

import pytest
import snapshots

from app.mesh.catalog.inbound import compile_inbound
from app.mesh.policies.part import Denial
from xds.policy.http import ANY_REQUEST, HttpMatch
from xds.policy.identity import Issuers
from xds.policy.traffic import Inbound, InboundRule, TcpPermission

CART = snapshots.service("shop/cart")
FEED = snapshots.service("shop/cart", 90, 9090, "tcp")
ADMIN = HttpMatch(path="/admin")


def names(*accounts: str) -> tuple[object, ...]:
    return Issuers().subject_names([snapshots.identity(account) for account in accounts])


def served(*denials: Denial, permissive: bool = True) -> Inbound:
    views = [snapshots.view(one, accounts=["shop/cart"]) for one in (CART, FEED)]
    granted = [snapshots.access("shop/cart", "shop/ann", "shop/bob", any_port=True, ports=())]
    found = snapshots.mesh(
        *views, granted=granted, denials={"shop/cart": denials}, permissive=permissive
    )
    return compile_inbound(found, snapshots.identity("shop/cart"), (CART, FEED))


@pytest.mark.parametrize(
    ("denials", "expected"),
    [
        pytest.param([], (), id="none"),
        pytest.param(
            [snapshots.denial("shop/ann", matches=[ADMIN])],
            (InboundRule(match=ADMIN, principals=names("shop/ann")),),
            id="one-match",
        ),
        pytest.param(
            [
                snapshots.denial("shop/ann", matches=[ADMIN]),
                snapshots.denial("shop/bob", matches=[ADMIN]),
            ],
            (InboundRule(match=ADMIN, principals=names("shop/ann", "shop/bob")),),
            id="two-objects-one-match",
        ),
        pytest.param(
            [
                snapshots.denial(None, matches=[ADMIN]),
                snapshots.denial("shop/bob", matches=[ADMIN]),
            ],
            (InboundRule(match=ADMIN, principals=None),),
            id="everybody-stays-everybody",
        ),
        pytest.param(
            [snapshots.denial("shop/ann", ports=[8080]), snapshots.denial(None, matches=[ADMIN])],
            (
                InboundRule(match=ADMIN, principals=None),
                InboundRule(match=ANY_REQUEST, principals=names("shop/ann")),
            ),
            id="whole-port-last",
        ),
        pytest.param([snapshots.denial(None, ports=[9090])], (), id="another-port"),
    ],
)
def test_denied_requests(denials: list[Denial], expected: tuple[InboundRule, ...]) -> None:
    (port,) = served(*denials).http
    assert [host.denials for host in port.hosts] == [expected]
    assert port.denies is bool(expected)
    assert port.normalize_paths is any(rule.match.path == "/admin" for rule in expected)


def test_denied_connections_beat_permissions_in_the_handshake_too() -> None:
    (chain,) = served(snapshots.denial("shop/ann", ports=[9090]), permissive=False).tcp
    assert chain.permissions == (TcpPermission(name="shop/cart", principals=names("shop/bob")),)
    assert chain.denied == names("shop/ann")


def test_denied_connections_in_permissive_mode() -> None:
    (chain,) = served(snapshots.denial("shop/ann", ports=None)).tcp
    assert (chain.permissions, chain.denied) == (None, names("shop/ann"))


@pytest.mark.parametrize("permissive", [True, False])
def test_port_denied_to_everybody_has_no_chain(*, permissive: bool) -> None:
    denials = snapshots.denial(None, ports=[9090])
    assert served(denials, permissive=permissive).tcp == ()


def test_port_that_greets_is_closed_where_anybody_is_denied_in_permissive_mode() -> None:
    mail = snapshots.service("shop/cart", 25, 2525, "tcp-server-first")
    view = snapshots.view(mail, accounts=["shop/cart"])
    for denials, served_ports in (([], [2525]), ([snapshots.denial("shop/ann", ports=None)], [])):
        found = snapshots.mesh(view, denials={"shop/cart": tuple(denials)}, permissive=True)
        inbound = compile_inbound(found, snapshots.identity("shop/cart"), (mail,))
        assert [one.service.target for one in inbound.tcp] == served_ports
