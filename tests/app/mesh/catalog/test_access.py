"""Rules of access: merged, restricted to ports, in canonical order."""

from __future__ import annotations

import pytest
import snapshots
from hypothesis import given
from hypothesis import strategies as st

from app.mesh.catalog.access import canonical_order, http_rules, reach_of, tcp_permissions
from app.mesh.snapshot import AccessRule
from xds.policy.http import ANY_REQUEST, HeaderMatch, HttpMatch
from xds.policy.identity import Issuer, Issuers
from xds.policy.traffic import InboundRule, TcpPermission

CART = snapshots.identity("shop/cart")
READ = HttpMatch(path="/read", methods=("GET",))
WRITE = HttpMatch(path="/write", methods=("POST",))
SPIFFE = Issuers(validating=Issuer(trust_domain="new.mesh", spiffe=True))


def names(*identities: str, issuers: Issuers | None = None) -> tuple[object, ...]:
    return (issuers or Issuers()).subject_names(snapshots.identity(one) for one in identities)


@pytest.mark.parametrize(
    ("granted", "expected"),
    [
        pytest.param([], [], id="nothing-is-granted"),
        pytest.param(
            [snapshots.access("shop/cart", "shop/ann", matches=[READ])],
            [(READ, names("shop/ann"))],
            id="one-rule",
        ),
        pytest.param(
            [
                snapshots.access("shop/cart", "shop/ann", matches=[READ, WRITE], name="shop/a"),
                snapshots.access("shop/cart", "shop/bob", matches=[READ], name="shop/b"),
            ],
            [(WRITE, names("shop/ann")), (READ, names("shop/ann", "shop/bob"))],
            id="callers-of-equal-matches-are-united",
        ),
        pytest.param(
            [snapshots.access("shop/other", "shop/ann")], [], id="other-destination-grants-nothing"
        ),
        pytest.param([snapshots.access("shop/cart")], [], id="no-source-is-not-anybody"),
        pytest.param(
            [snapshots.access("shop/cart", "shop/ann", ports=[9090])], [], id="port-not-admitted"
        ),
        pytest.param(
            [snapshots.access("shop/cart", "shop/ann", ports=[8080])],
            [(ANY_REQUEST, names("shop/ann"))],
            id="port-admitted",
        ),
        pytest.param(
            [snapshots.access("shop/cart", "shop/ann", ports=[], any_port=True)],
            [(ANY_REQUEST, names("shop/ann"))],
            id="tcp-route-without-ports-admits-any",
        ),
        pytest.param(
            [
                snapshots.access("shop/cart", "shop/ann", matches=[READ], ports=[1], name="shop/a"),
                snapshots.access("shop/cart", "shop/bob", matches=[READ], name="shop/b"),
            ],
            [(READ, names("shop/bob"))],
            id="port-restriction-is-per-rule",
        ),
        pytest.param(
            [snapshots.access("shop/cart", "shop/ann", matches=())], [], id="no-match-no-rule"
        ),
    ],
)
def test_http_rules_are_those_that_admit_the_port(
    granted: list[AccessRule], expected: list[tuple[HttpMatch, tuple[object, ...]]]
) -> None:
    found = http_rules(snapshots.rules(granted), Issuers(), CART, 8080)
    assert [(rule.match, rule.principals) for rule in found] == expected


def test_principals_have_the_names_of_both_issuers() -> None:
    granted = snapshots.rules([snapshots.access("shop/cart", "shop/ann")])
    both = names("shop/ann", issuers=SPIFFE)
    assert len(both) == 2
    assert http_rules(granted, SPIFFE, CART, 8080) == (
        InboundRule(match=ANY_REQUEST, principals=both),
    )


@pytest.mark.parametrize(
    ("granted", "expected"),
    [
        pytest.param(
            [snapshots.access("shop/cart", "shop/ann")], [], id="http-rules-open-no-tcp-port"
        ),
        pytest.param(
            [
                snapshots.access("shop/cart", "shop/bob", ports=[9090], name="shop/b"),
                snapshots.access("shop/cart", "shop/ann", ports=[9090, 1], name="shop/a"),
                snapshots.access("shop/cart", "shop/eve", ports=[1], name="shop/e"),
            ],
            [("shop/a", names("shop/ann")), ("shop/b", names("shop/bob"))],
            id="rules-that-admit-the-port-by-name",
        ),
        pytest.param(
            [snapshots.access("shop/cart", "shop/ann", ports=[], any_port=True)],
            [("shop/cart", names("shop/ann"))],
            id="any-port",
        ),
        pytest.param([snapshots.access("shop/cart", ports=[9090])], [], id="no-source"),
    ],
)
def test_tcp_permissions_need_a_tcp_route(
    granted: list[AccessRule], expected: list[tuple[str, tuple[object, ...]]]
) -> None:
    found = tcp_permissions(snapshots.rules(granted), Issuers(), CART, 9090)
    assert found == tuple(TcpPermission(name=n, principals=p) for n, p in expected)  # type: ignore[arg-type]


def test_reach_is_every_destination_that_names_the_caller() -> None:
    granted = snapshots.rules(
        [
            snapshots.access("shop/cart", "shop/ann", "shop/bob"),
            snapshots.access("shop/mail", "shop/ann", ports=[25]),
            snapshots.access("shop/safe", "shop/bob"),
        ]
    )
    assert reach_of(granted, snapshots.identity("shop/ann")) == {
        snapshots.identity("shop/cart"),
        snapshots.identity("shop/mail"),
    }
    assert reach_of(granted, snapshots.identity("shop/eve")) == frozenset()


ORDERED = (
    HttpMatch(path="/books/12\\.pdf"),
    HttpMatch(path="/books"),
    HttpMatch(
        path="/a", headers=(HeaderMatch(name="x", pattern="1"), HeaderMatch(name="y", pattern="1"))
    ),
    HttpMatch(path="/a", headers=(HeaderMatch(name="x", pattern="2"),)),
    HttpMatch(path="/a"),
    HttpMatch(path="/a", methods=("GET",)),
    HttpMatch(path="/books/[0-9]+"),
    HttpMatch(path="/bookss?"),
    HttpMatch(path="/book\\d"),
    HttpMatch(path="/boo\\"),
    HttpMatch(path="/.*"),
    HttpMatch(path="(/x|/y)"),
    HttpMatch(path="/c|/d"),
    ANY_REQUEST,
)


@given(st.permutations(ORDERED))
def test_order_of_matches_is_canonical(shuffled: list[HttpMatch]) -> None:
    assert tuple(sorted(shuffled, key=canonical_order)) == ORDERED
