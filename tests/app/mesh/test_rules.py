"""SMI objects become rules in force; what cannot be resolved grants nothing and is told."""

from __future__ import annotations

from typing import Any

import factory
import pytest

from app.mesh.snapshot import AccessRule, MeshSnapshot, Split
from xds.policy.http import HeaderMatch, HttpMatch
from xds.policy.identity import ServiceIdentity

ANY = HttpMatch()
BOOKS = HttpMatch(path="/books")
GROUP = factory.route_group("shop/g", books="/books", any=".*")


ACCOUNTS = [factory.account(f"shop/{name}") for name in ("store", "buyer", "a")]


def mesh(*objects: Any) -> MeshSnapshot:
    return factory.snapshot(factory.namespace("shop"), *ACCOUNTS, *objects)


def identity(text: str) -> ServiceIdentity:
    return ServiceIdentity.parse(text)


def rule(*matches: HttpMatch, sources: str = "buyer.shop", **more: Any) -> AccessRule:
    fields: dict[str, Any] = {"ports": None, **more}
    return AccessRule(
        name="shop/t",
        destination=identity("store.shop"),
        sources=tuple(identity(source) for source in sources.split()),
        matches=matches,
        **fields,
    )


def target(**fields: Any) -> dict[str, Any]:
    given = {"to": "store", "sources": ["buyer.shop"], "groups": ["g"], **fields}
    return factory.traffic_target("shop/t", **given)


def edited(path: str, value: Any) -> dict[str, Any]:
    """A TrafficTarget with one field of its spec changed."""
    raw = target()
    *way, last = path.split(".")
    place = raw["spec"]
    for part in way:
        place = place[int(part)] if part.isdigit() else place[part]
    place[last] = value
    return raw


def told(found: MeshSnapshot) -> list[tuple[str, str, str]]:
    return [(one.field, one.reason, one.code) for one in found.rejected]


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        pytest.param([target(), GROUP], rule(ANY, BOOKS), id="all-matches-of-the-group"),
        pytest.param(
            [target(groups={"g": ["books"]}), GROUP], rule(BOOKS), id="only-named-matches"
        ),
        pytest.param(
            [target(sources=["z.pay", "a.shop", "z.pay"]), GROUP],
            rule(ANY, BOOKS, sources="z.pay a.shop"),
            id="sources-are-sorted-and-unique",
        ),
        pytest.param(
            [edited("sources.0.namespace", ""), GROUP],
            rule(ANY, BOOKS),
            id="source-without-namespace-is-of-the-same",
        ),
        pytest.param(
            [edited("destination.namespace", ""), GROUP],
            rule(ANY, BOOKS),
            id="destination-without-namespace-is-of-the-same",
        ),
        pytest.param(
            [target(tcp=["r"]), GROUP, factory.tcp_route("shop/r", 80, 81)],
            rule(ANY, BOOKS, ports=frozenset({80, 81})),
            id="ports-of-a-tcp-route",
        ),
        pytest.param(
            [
                target(groups=[], tcp=["r", "s"]),
                *(factory.tcp_route(f"shop/{n}", p) for n, p in (("r", 1), ("s", 2))),
            ],
            rule(ports=frozenset({1, 2})),
            id="ports-of-two-tcp-routes",
        ),
        pytest.param(
            [target(groups=[], tcp=["r"]), factory.tcp_route("shop/r")],
            rule(ports=frozenset(), any_port=True),
            id="tcp-route-without-ports-is-any",
        ),
        pytest.param(
            [target(), factory.route_group("shop/g", {"name": "a"}, {"name": "b"})],
            rule(ANY),
            id="equal-matches-once",
        ),
        pytest.param(
            [target(), GROUP, factory.traffic_target("out/t", to="store", groups=["g"])],
            rule(ANY, BOOKS),
            id="other-namespaces-have-no-rules",
        ),
    ],
)
def test_traffic_target_is_a_rule(objects: list[Any], expected: AccessRule) -> None:
    found = mesh(*objects)
    assert found.rules.access == (expected,)
    assert found.rejected == ()


@pytest.mark.parametrize(
    ("objects", "expected", "reports"),
    [
        pytest.param(
            [edited("destination.kind", "Group"), GROUP],
            (),
            [
                (
                    "spec.destination.kind",
                    "must be ServiceAccount, not 'Group': nothing is granted",
                    "E2010",
                )
            ],
            id="destination-kind",
        ),
        pytest.param(
            [edited("destination.namespace", "pay"), GROUP],
            (),
            [
                (
                    "spec.destination.namespace",
                    "must be 'shop', the TrafficTarget's own, not 'pay': nothing is granted",
                    "E2009",
                )
            ],
            id="destination-elsewhere",
        ),
        pytest.param(
            [target(groups=[])],
            (),
            [("spec.rules", "is empty, so nothing is granted: name a route", "E2009")],
            id="no-rules",
        ),
        pytest.param(
            [target(sources=[]), GROUP],
            (),
            [("spec.sources", "is empty, so nobody is let in: name a source", "E2009")],
            id="no-sources-is-nobody",
        ),
        pytest.param(
            [edited("sources.0.kind", "User"), GROUP],
            (),
            [
                (
                    "spec.sources[0].kind",
                    "must be ServiceAccount, not 'User': this source is ignored",
                    "E2011",
                )
            ],
            id="source-kind",
        ),
        pytest.param(
            [target(groups=["g", "none"]), GROUP],
            (rule(ANY, BOOKS),),
            [
                (
                    "spec.rules[1].name",
                    (
                        "there is no HTTPRouteGroup 'none' in this namespace, so this rule grants "
                        "nothing: create it"
                    ),
                    "E2005",
                )
            ],
            id="missing-group",
        ),
        pytest.param(
            [target(tcp=["none"]), GROUP],
            (rule(ANY, BOOKS, ports=frozenset()),),
            [
                (
                    "spec.rules[1].name",
                    (
                        "there is no TCPRoute 'none' in this namespace, so this rule grants "
                        "nothing: create it"
                    ),
                    "E2005",
                )
            ],
            id="missing-tcp-route-still-closes-http",
        ),
        pytest.param(
            [edited("rules.0.kind", "UDPRoute"), GROUP],
            (rule(),),
            [
                (
                    "spec.rules[0].kind",
                    "must be HTTPRouteGroup or TCPRoute, not 'UDPRoute': this rule is ignored",
                    "E2005",
                )
            ],
            id="rule-kind",
        ),
        pytest.param(
            [target(groups={"g": ["books", "boks"]}), GROUP],
            (rule(BOOKS),),
            [
                (
                    "spec.rules[0].matches",
                    "'boks' is not a usable match of HTTPRouteGroup 'g': correct it",
                    "E2005",
                )
            ],
            id="unknown-match",
        ),
        pytest.param(
            [target(), factory.route_group("shop/g")],
            (rule(),),
            [("spec.matches", "has no matches, so it grants nothing: add one", "E2006")],
            id="group-without-matches",
        ),
    ],
)
def test_what_cannot_be_resolved_grants_nothing_and_is_told(
    objects: list[Any], expected: tuple[AccessRule, ...], reports: list[tuple[str, str, str]]
) -> None:
    found = mesh(*objects)
    assert found.rules.access == expected
    assert told(found) == reports


def none_such(field: str, account: str) -> tuple[str, str, str]:
    return (field, f"there is no ServiceAccount {account!r}: create it", "E3003")


@pytest.mark.parametrize(
    ("raw", "accounts", "reports"),
    [
        pytest.param(target(), ["shop/store", "shop/buyer"], [], id="both-exist"),
        pytest.param(
            target(),
            ["shop/buyer"],
            [none_such("spec.destination.name", "shop/store")],
            id="destination",
        ),
        pytest.param(
            target(sources=["buyer.shop", "thief.shop"]),
            ["shop/buyer", "shop/store"],
            [none_such("spec.sources[1].name", "shop/thief")],
            id="one-source-of-two",
        ),
        pytest.param(
            target(),
            [],
            [
                none_such("spec.destination.name", "shop/store"),
                none_such("spec.sources[0].name", "shop/buyer"),
            ],
            id="both",
        ),
        pytest.param(
            target(sources=["buyer.pay"]),
            ["shop/store", "shop/buyer"],
            [none_such("spec.sources[0].name", "pay/buyer")],
            id="same-name-in-another-namespace",
        ),
        pytest.param(
            edited("sources.0.namespace", ""),
            ["shop/store", "pay/buyer"],
            [none_such("spec.sources[0].name", "shop/buyer")],
            id="source-without-namespace-is-of-the-same",
        ),
        pytest.param(
            target(sources=["buyer.out"]), ["shop/store"], [], id="outside-the-mesh-is-not-judged"
        ),
        pytest.param(
            target(to="default", sources=["default.pay"]), [], [], id="default-is-in-all-namespaces"
        ),
    ],
)
def test_account_that_does_not_exist_is_told_and_the_rule_stays(
    raw: dict[str, Any], accounts: list[str], reports: list[tuple[str, str, str]]
) -> None:
    places = [factory.namespace(n, monitored=n != "out") for n in ("shop", "pay", "out")]
    existing = [factory.account(path) for path in accounts]
    found = factory.snapshot(*places, *existing, GROUP, raw)
    every = [factory.account(f"{n}/{who}") for n in ("shop", "pay") for who in ("store", "buyer")]
    whole = factory.snapshot(*places, *every, factory.account("shop/thief"), GROUP, raw)
    assert told(found) == reports
    assert found.rules.access == whole.rules.access != ()


def test_account_of_another_kind_is_not_looked_for() -> None:
    raw = edited("sources", [{"kind": "User", "name": "thief"}])
    assert [code for _, _, code in told(mesh(raw, GROUP))] == ["E2011"]


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        pytest.param({}, ANY, id="everything"),
        pytest.param({"pathRegex": "", "methods": []}, ANY, id="empty-is-everything"),
        pytest.param(
            {"methods": ["PUT", "GET", "", "PUT"]}, HttpMatch(methods=("GET", "PUT")), id="methods"
        ),
        pytest.param({"methods": ["GET", "*"]}, ANY, id="a-star-is-any-method"),
        pytest.param(
            {"headers": [{"X-B": "2", "host": "h"}, {"x-a": "1"}]},
            HttpMatch(
                headers=(
                    HeaderMatch(name=":authority", pattern="h"),
                    HeaderMatch(name="x-a", pattern="1"),
                    HeaderMatch(name="x-b", pattern="2"),
                )
            ),
            id="headers-are-lower-case-and-sorted",
        ),
    ],
)
def test_match_of_a_group(match: dict[str, Any], expected: HttpMatch) -> None:
    found = mesh(target(), factory.route_group("shop/g", {"name": "m", **match}))
    assert found.rules.access == (rule(expected),)
    assert found.rejected == ()


@pytest.mark.parametrize(
    ("match", "field", "reason"),
    [
        pytest.param(
            {"pathRegex": "(?!a)"},
            "spec.matches[1].pathRegex",
            "is not a pattern RE2 can compile: invalid perl operator: (?!",
            id="path",
        ),
        pytest.param(
            {"methods": [""]},
            "spec.matches[1].methods",
            "names no method: write * for any",
            id="no-method",
        ),
        pytest.param(
            {"headers": [{"a": "x"}, {"b": "("}]},
            "spec.matches[1].headers[1].b",
            "is not a pattern RE2 can compile: missing ): (",
            id="header",
        ),
        pytest.param(
            {"headers": [{"a": ""}]},
            "spec.matches[1].headers[0].a",
            "is empty: write .* for any text",
            id="empty-header-pattern",
        ),
        pytest.param(
            {"headers": [{"a b": "x"}]},
            "spec.matches[1].headers[0].a b",
            "is not the name of a header: 'a b'",
            id="header-name",
        ),
        pytest.param(
            {"headers": [{"": "x"}]},
            "spec.matches[1].headers[0].",
            "is not the name of a header: ''",
            id="empty-header-name",
        ),
    ],
)
def test_match_that_envoy_would_refuse_is_dropped_and_told(
    match: dict[str, Any], field: str, reason: str
) -> None:
    group = factory.route_group(
        "shop/g", {"name": "good", "pathRegex": "/books"}, {"name": "bad", **match}
    )
    found = mesh(target(), group)
    assert found.rules.access == (rule(BOOKS),)
    assert told(found) == [(field, reason, "E3002")]


def test_rules_are_found_by_source_and_destination() -> None:
    rules = mesh(
        GROUP,
        factory.traffic_target("shop/b", to="store", sources=["x.shop", "y.pay"], groups=["g"]),
        factory.traffic_target("shop/a", to="bank", sources=["x.shop"], groups=["g"]),
    ).rules
    a, b = rules.access
    assert (a.name, b.name) == ("shop/a", "shop/b")
    assert rules.by_source == {identity("x.shop"): (a, b), identity("y.pay"): (b,)}
    assert rules.by_destination == {identity("bank.shop"): (a,), identity("store.shop"): (b,)}


@pytest.mark.parametrize(
    ("ports", "any_port", "http", "tcp"),
    [
        pytest.param(None, False, True, False, id="no-tcp-route"),
        pytest.param(frozenset({80}), False, True, True, id="port-named"),
        pytest.param(frozenset({81}), False, False, False, id="other-port"),
        pytest.param(frozenset({81}), True, True, True, id="any-port"),
    ],
)
def test_rule_admits_a_port(
    ports: frozenset[int] | None, any_port: bool, http: bool, tcp: bool
) -> None:
    found = rule(ports=ports, any_port=any_port)
    assert (found.admits_http(80), found.admits_tcp(80)) == (http, tcp)


SERVICES = [factory.service(f"shop/{name}") for name in ("root", "v1", "v2")]


def split(weights: dict[str, Any], **more: Any) -> dict[str, Any]:
    return factory.traffic_split("shop/s", weights, root=more.pop("root", "root"), **more)


def in_force(*backends: tuple[str, int], name: str = "s") -> Split:
    return Split(name=name, namespace="shop", root="root", backends=backends)


@pytest.mark.parametrize(
    "root",
    [
        "root",
        "root.shop",
        "root.shop.svc",
        "root.shop.svc.cluster",
        "root.shop.svc.cluster.local",
    ],
)
def test_split_root_may_be_any_name_of_the_service(root: str) -> None:
    rules = mesh(*SERVICES, split({"v2": 10, "v1": 90}, root=root)).rules
    found = in_force(("v1", 90), ("v2", 10))
    assert rules.splits == {"shop/root": found}
    assert rules.splits_of_backend == {"shop/v1": (found,), "shop/v2": (found,)}


GONE = "'gone' is not a Service of the mesh in this namespace"


@pytest.mark.parametrize(
    ("objects", "expected", "reports"),
    [
        pytest.param(
            [split({"root": 50, "v1": 50})], in_force(("root", 50), ("v1", 50)), [], id="root-too"
        ),
        pytest.param(
            [split({"v1": 1, "v2": 0})],
            in_force(("v1", 1), ("v2", 0)),
            [],
            id="zero-weight-is-kept",
        ),
        pytest.param(
            [split({"v1": 0, "v2": 0})],
            None,
            [
                (
                    "spec.backends",
                    "no backend has a weight above 0, so traffic is not split: raise one",
                    "E2008",
                )
            ],
            id="all-zero-is-no-split",
        ),
        pytest.param(
            [split({"v1": 1, "gone": 9})],
            in_force(("v1", 1)),
            [("spec.backends[1].service", f"{GONE}, so it gets no traffic", "E3003")],
            id="missing-backend",
        ),
        pytest.param(
            [split({"gone": 9})],
            None,
            [("spec.backends[0].service", f"{GONE}, so it gets no traffic", "E3003")],
            id="only-missing-backends",
        ),
        pytest.param(
            [split({"v1": 0, "gone": 9})],
            None,
            [("spec.backends[1].service", f"{GONE}, so it gets no traffic", "E3003")],
            id="all-weight-is-on-a-missing-backend",
        ),
        pytest.param(
            [split({"v1": 1}, root="gone")],
            None,
            [("spec.service", f"{GONE}: create it", "E3003")],
            id="missing-root",
        ),
        pytest.param(
            [split({"v1": 1}, root="root.pay")],
            None,
            [
                (
                    "spec.service",
                    (
                        "'root.pay' is not a Service of namespace 'shop': a split works in its own "
                        "namespace"
                    ),
                    "E3003",
                )
            ],
            id="root-elsewhere",
        ),
        pytest.param(
            [split({"v1": 1, "x": 1}), factory.service("shop/x", ports={"web": 81})],
            in_force(("v1", 1), ("x", 1)),
            [
                (
                    "spec.backends[1].service",
                    "'x' has no port 80 as the root has, so it gets none of its traffic",
                    "E3003",
                )
            ],
            id="backend-without-the-port",
        ),
        pytest.param(
            [split({"v1": 1, "x": 1}), factory.service("shop/x", ports={"http": 81})],
            in_force(("v1", 1), ("x", 1)),
            [],
            id="backend-with-the-port-by-name",
        ),
    ],
)
def test_split(
    objects: list[Any], expected: Split | None, reports: list[tuple[str, str, str]]
) -> None:
    found = mesh(*SERVICES, *objects)
    assert found.rules.splits == ({"shop/root": expected} if expected else {})
    assert told(found) == reports


def test_backend_named_twice_has_both_weights() -> None:
    raw = split({"v1": 1})
    raw["spec"]["backends"] *= 3
    assert mesh(*SERVICES, raw).rules.splits == {"shop/root": in_force(("v1", 3))}


@pytest.mark.parametrize(
    ("ages", "winner"),
    [
        pytest.param({"a": 2, "b": 1}, "b", id="oldest"),
        pytest.param({"a": 1, "b": 1}, "a", id="then-by-name"),
        pytest.param({"a": None, "b": 1}, "b", id="no-age-is-youngest"),
        pytest.param({"b": None, "a": None}, "a", id="no-ages-at-all"),
    ],
)
def test_one_split_per_root(ages: dict[str, int | None], winner: str) -> None:
    found = mesh(
        *SERVICES,
        *(
            factory.traffic_split(
                f"shop/{name}",
                {"v1": 1},
                root="root",
                meta=factory.created(second) if second is not None else None,
            )
            for name, second in ages.items()
        ),
    )
    (loser,) = ages.keys() - {winner}
    assert found.rules.splits == {"shop/root": in_force(("v1", 1), name=winner)}
    assert [str(one) for one in found.rejected] == [
        (
            f"TrafficSplit shop/{loser}: spec.service: Service shop/root is split already by "
            f"TrafficSplit shop/{winner}, which is older or comes first by name: delete one (E2007)"
        )
    ]
