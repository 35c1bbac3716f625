"""Decisions of the policy model; tests/e2e/test_policy_equality.py holds them to a real Envoy."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import snapshots
from hypothesis import given
from hypothesis import strategies as st

from app.mesh.authorize import Verdict, authorize
from app.mesh.catalog.compile import compile_policy
from app.mesh.snapshot import AccessRule, MeshSnapshot
from xds.policy.http import ANY_REQUEST, HeaderMatch, HttpMatch, RequestSeen
from xds.policy.identity import Issuers, SubjectName
from xds.policy.service import MeshService
from xds.policy.traffic import Inbound

CART = snapshots.service("shop/cart", 80, 8080)
OFFICE = snapshots.service("shop/cart", 81, 8081, "grpc")
FEED = snapshots.service("shop/cart", 90, 9090, "tcp")
SERVED = (CART, OFFICE, FEED)


def names(*callers: str) -> tuple[SubjectName, ...]:
    return Issuers().subject_names(snapshots.identity(caller) for caller in callers)


ANN, BOB = names("shop/ann"), names("shop/bob")


def compiled(*granted: AccessRule, permissive: bool = False) -> Inbound:
    views = [snapshots.view(served) for served in SERVED]
    mesh: MeshSnapshot = snapshots.mesh(*views, granted=granted, permissive=permissive)
    return compile_policy(mesh, snapshots.profile("shop/cart", *SERVED)).inbound


def get(path: str = "/", *headers: tuple[str, str], method: str = "GET") -> RequestSeen:
    return RequestSeen(method=method, path=path, headers=headers)


BOOKS = HttpMatch(path="/books/[0-9]+", methods=("GET",))
ADMIN = HttpMatch(path="/admin", headers=(HeaderMatch(name="x-role", pattern="a|b"),))
BOTH = compiled(
    snapshots.access("shop/cart", "shop/ann", "shop/bob", matches=[BOOKS], name="shop/books"),
    snapshots.access("shop/cart", "shop/ann", matches=[ADMIN], name="shop/admin"),
)


@pytest.mark.parametrize(
    ("caller", "request_seen", "verdict"),
    [
        pytest.param(BOB, get("/books/1"), Verdict.ALLOWED, id="fits"),
        pytest.param(BOB, get("/books/1x"), Verdict.NOT_FOUND, id="path-fits-in-full-only"),
        pytest.param(BOB, get("/books/1", method="POST"), Verdict.NOT_FOUND, id="method"),
        pytest.param(BOB, get("/books/1", method="get"), Verdict.NOT_FOUND, id="case-of-method"),
        pytest.param(ANN, get("/admin", ("x-role", "a")), Verdict.ALLOWED, id="header"),
        pytest.param(BOB, get("/admin", ("x-role", "a")), Verdict.FORBIDDEN, id="other-caller"),
        pytest.param((), get("/admin", ("x-role", "a")), Verdict.FORBIDDEN, id="nameless-caller"),
        pytest.param(ANN, get("/admin"), Verdict.NOT_FOUND, id="header-missing"),
        pytest.param(ANN, get("/admin", ("x-role", "ab")), Verdict.NOT_FOUND, id="header-in-full"),
        pytest.param(
            ANN, get("/admin", ("x-role", "z"), ("x-role", "b")), Verdict.ALLOWED, id="one-of-two"
        ),
        pytest.param(BOB, get("/books/../books//1"), Verdict.ALLOWED, id="path-is-resolved"),
        pytest.param(BOB, get("/books/1/..%2f..%2fadmin"), Verdict.NOT_FOUND, id="no-way-around"),
        pytest.param(BOB, get("/books/%00"), Verdict.MALFORMED, id="zero-byte"),
        pytest.param(BOB, get("books/1"), Verdict.MALFORMED, id="no-leading-slash"),
        pytest.param(BOB, get("/books/1#x"), Verdict.MALFORMED, id="fragment"),
        pytest.param(BOB, get("/books/ 1"), Verdict.MALFORMED, id="space"),
        pytest.param(BOB, get("/books/1", ("host", "cart:80")), Verdict.ALLOWED, id="own-host"),
        pytest.param(BOB, get("/books/1", ("host", "CART.shop.")), Verdict.ALLOWED, id="its-dot"),
        pytest.param(BOB, get("/books/1", ("host", "cart.:80")), Verdict.ALLOWED, id="dot-port"),
        pytest.param(BOB, get("/books/1", ("host", "pit")), Verdict.NOT_FOUND, id="other-host"),
        pytest.param(BOB, None, Verdict.ALLOWED, id="connection"),
    ],
)
def test_http_is_decided_per_request(
    caller: tuple[SubjectName, ...], request_seen: RequestSeen | None, verdict: Verdict
) -> None:
    assert authorize(BOTH, CART, caller, request_seen) is verdict


@pytest.mark.parametrize(
    ("header", "given", "verdict"),
    [
        pytest.param("accept", ["a", "b"], Verdict.ALLOWED, id="joined-by-envoy"),
        pytest.param("accept", ["a"], Verdict.NOT_FOUND, id="joined-header-alone"),
        pytest.param("x-own", ["a", "b"], Verdict.NOT_FOUND, id="each-value-counts"),
        pytest.param("x-own", ["z", "a,b"], Verdict.ALLOWED, id="last-value"),
        pytest.param("te", ["a,b"], Verdict.NOT_FOUND, id="taken-out-by-envoy"),
        pytest.param(":authority", ["a,b"], Verdict.NOT_FOUND, id="authority-is-the-host"),
    ],
)
def test_values_of_a_header(header: str, given: list[str], verdict: Verdict) -> None:
    match = HttpMatch(headers=(HeaderMatch(name=header, pattern="a,b"),))
    inbound = compiled(snapshots.access("shop/cart", "shop/ann", matches=[match]))
    seen = get("/", ("host", "cart"), *((header, value) for value in given))
    assert authorize(inbound, CART, ANN, seen) is verdict


def test_host_header_is_matched_without_its_dot() -> None:
    match = HttpMatch(headers=(HeaderMatch(name=":authority", pattern="cart:80"),))
    inbound = compiled(snapshots.access("shop/cart", "shop/ann", matches=[match]))
    assert authorize(inbound, CART, ANN, get("/", ("host", "cart.:80"))) is Verdict.ALLOWED
    assert authorize(inbound, CART, ANN, get("/", (":authority", "cart"))) is Verdict.NOT_FOUND


@pytest.mark.parametrize(
    ("granted", "caller", "verdict"),
    [
        pytest.param([], ANN, Verdict.CLOSED, id="no-rule"),
        pytest.param([snapshots.access("shop/cart", "shop/ann")], ANN, Verdict.CLOSED, id="http"),
        pytest.param(
            [snapshots.access("shop/cart", "shop/ann", ports=[9090])],
            ANN,
            Verdict.ALLOWED,
            id="tcp",
        ),
        pytest.param(
            [snapshots.access("shop/cart", "shop/ann", ports=[9090])], BOB, Verdict.CLOSED, id="who"
        ),
    ],
)
def test_tcp_is_decided_per_connection(
    granted: Sequence[AccessRule], caller: tuple[SubjectName, ...], verdict: Verdict
) -> None:
    assert authorize(compiled(*granted), FEED, caller) is verdict


def test_permissive_mode_allows_everybody_as_sent() -> None:
    inbound = compiled(permissive=True)
    assert authorize(inbound, CART, (), get("/a/%00/../b")) is Verdict.ALLOWED
    assert authorize(inbound, FEED, ()) is Verdict.ALLOWED


def test_application_that_serves_only_tcp_is_found() -> None:
    mail = snapshots.service("shop/cart", 25, 25, "tcp")
    granted = snapshots.access("shop/cart", "shop/ann", ports=[25])
    mesh = snapshots.mesh(snapshots.view(mail), snapshots.view(FEED), granted=[granted])
    inbound = compile_policy(mesh, snapshots.profile("shop/cart", mail, FEED)).inbound
    assert (authorize(inbound, mail, ANN), authorize(inbound, FEED, ANN)) == (
        Verdict.ALLOWED,
        Verdict.CLOSED,
    )


def test_service_that_is_not_served_is_closed() -> None:
    assert authorize(BOTH, snapshots.service("shop/other"), ANN, get()) is Verdict.CLOSED
    assert authorize(BOTH, snapshots.service("shop/cart", 80, 1), ANN, get()) is Verdict.CLOSED


RULES = st.builds(
    lambda to, sources, matches, ports, any_port: snapshots.access(
        to, *sources, matches=matches, ports=ports, any_port=any_port
    ),
    to=st.sampled_from(("shop/cart", "shop/cart", "shop/other")),
    sources=st.sets(st.sampled_from(("shop/ann", "shop/bob")), max_size=2),
    matches=st.sets(st.sampled_from((BOOKS, ADMIN, ANY_REQUEST)), max_size=2),
    ports=st.none() | st.sets(st.sampled_from((8080, 8081, 9090)), max_size=2),
    any_port=st.just(value=False) | st.booleans(),
)


@given(
    granted=st.lists(RULES, max_size=5),
    caller=st.sampled_from(("shop/ann", "shop/bob")),
    service=st.sampled_from(SERVED),
    seen=st.sampled_from((get("/books/1"), get("/admin", ("x-role", "a")), get("/x"))),
)
def test_policy_grants_exactly_what_the_rules_say(
    granted: list[AccessRule], caller: str, service: MeshService, seen: RequestSeen
) -> None:
    """data-plane 4.2, in its own words, from the rules and not from what was compiled."""
    who = snapshots.identity(caller)
    here = [rule for rule in granted if rule.destination == snapshots.identity("shop/cart")]
    if service is FEED:
        opened = any(who in rule.sources and rule.admits_tcp(9090) for rule in here)
        expected = Verdict.ALLOWED if opened else Verdict.CLOSED
    else:
        fitting = [
            rule
            for rule in here
            if rule.sources and rule.admits_http(service.target) and fits_one(rule, seen)
        ]
        allowed = any(who in rule.sources for rule in fitting)
        refused = Verdict.FORBIDDEN if fitting else Verdict.NOT_FOUND
        expected = Verdict.ALLOWED if allowed else refused
    assert authorize(compiled(*granted), service, names(caller), seen) is expected


def fits_one(rule: AccessRule, seen: RequestSeen) -> bool:
    """Which of the requests above fits which of the matches above, by hand."""
    own = {"/books/1": BOOKS, "/admin": ADMIN}.get(seen.path)
    return ANY_REQUEST in rule.matches or own in rule.matches
