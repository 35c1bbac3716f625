"""TrafficTarget, HTTPRouteGroup, TCPRoute, TrafficSplit: one refusal, and what is told."""

from __future__ import annotations

from typing import Any

import factory
import pytest
from judged import judge, reasons, warnings

from app.objects.meta import RawObject
from app.validate.smi import MAX_PATTERNS

WORLD = (
    factory.namespace("shop"),
    factory.account("shop/web"),
    factory.account("shop/bob"),
    factory.service("shop/web"),
    factory.service("shop/v1"),
    factory.service("shop/idle"),
    factory.pod("shop/v1", ip="10.0.0.1", ports={"http": 8080}),
    factory.endpoints("shop/v1", {"v1": "10.0.0.1"}),
    factory.route_group("shop/g", all="/.*"),
    factory.tcp_route("shop/r", 80),
)


def target(to: str = "web", namespace: str | None = "shop", **spec: Any) -> RawObject:
    raw = factory.traffic_target("shop/t", to=to, sources=["bob.shop"], groups=["g"], tcp=["r"])
    raw["spec"] |= spec
    raw["spec"]["destination"]["namespace"] = namespace
    return raw


def group(*matches: dict[str, Any]) -> RawObject:
    return factory.route_group("shop/g", *matches)


def split(weights: dict[str, Any], root: str = "web") -> RawObject:
    return factory.traffic_split("shop/s", weights, root=root)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(target(), id="target"),
        pytest.param(
            group({"name": "a", "pathRegex": "/a.*", "headers": [{"x": "y"}]}), id="group"
        ),
        pytest.param(group({"name": "a", "pathRegex": ".*"}, {"name": "b"}), id="any-path"),
        pytest.param(group({"name": "a", "pathRegex": "(/a|b)"}), id="some-path"),
        pytest.param(factory.tcp_route("shop/r", 80), id="tcp-route"),
        pytest.param(split({"v1": 1, "idle": 0}), id="split-without-a-share-for-the-idle"),
    ],
)
def test_good_object_is_taken_without_a_word(raw: RawObject) -> None:
    assert (reasons(raw, *WORLD), warnings(raw, *WORLD)) == ({}, {})


@pytest.mark.parametrize(
    ("namespace", "written"), [("pay", "'pay'"), ("", "''"), (None, "''")], ids=str
)
def test_destination_of_another_namespace_is_refused(namespace: str | None, written: str) -> None:
    expected = {
        "spec.destination.namespace": "must be 'shop', the namespace of the TrafficTarget, "
        f"not {written}: correct it"
    }
    assert reasons(target(namespace=namespace), *WORLD) == expected
    assert reasons(target(namespace=namespace)) == expected


@pytest.mark.parametrize(
    ("raw", "field", "reason"),
    [
        pytest.param(
            target(rules=[{"kind": "HTTPRouteGroup", "name": "gone"}]),
            "spec.rules[0].name",
            "there is no HTTPRouteGroup 'gone' in this namespace, so this rule grants nothing: "
            "create it",
            id="target-missing-group",
        ),
        pytest.param(
            target(rules=[{"kind": "HTTPRouteGroup", "name": "g", "matches": ["gone"]}]),
            "spec.rules[0].matches",
            "'gone' is not a usable match of HTTPRouteGroup 'g': correct it",
            id="target-missing-match",
        ),
        pytest.param(
            target(rules=[{"kind": "TCPRoute", "name": "gone"}]),
            "spec.rules[0].name",
            "there is no TCPRoute 'gone' in this namespace, so this rule grants nothing: create it",
            id="target-missing-tcp-route",
        ),
        pytest.param(
            target("gone"),
            "spec.destination.name",
            "there is no ServiceAccount 'shop/gone': create it",
            id="target-missing-account",
        ),
        pytest.param(
            group({"name": "a", "pathRegex": "("}),
            "spec.matches[0].pathRegex",
            "is not a pattern RE2 can compile: missing ): (",
            id="group-pattern",
        ),
        pytest.param(
            group({"name": "a", "headers": [{"x": "("}]}),
            "spec.matches[0].headers[0].x",
            "is not a pattern RE2 can compile: missing ): (",
            id="group-header-pattern",
        ),
        pytest.param(
            group({"name": "a", "pathRegex": "books"}),
            "spec.matches[0].pathRegex",
            "'books' matches no path: a path begins with /",
            id="group-matches-nothing",
        ),
        pytest.param(
            group({"name": "a", "headers": [{"x": "1", "y": "2"}]}),
            "spec.matches[0].headers[0]",
            "has 2 headers, all of which must match: write one each",
            id="group-several-headers",
        ),
        pytest.param(
            group(),
            "spec.matches",
            "has no matches, so it grants nothing: add one",
            id="group-without-matches",
        ),
        pytest.param(
            group(*({"name": f"m{n}"} for n in range(MAX_PATTERNS + 1))),
            "spec.matches",
            "only the first 200 have been checked",
            id="group-with-many",
        ),
        pytest.param(
            factory.tcp_route("shop/r"),
            "spec.matches.ports",
            "is empty, which admits every port: name those you mean",
            id="tcp-route-without-ports",
        ),
        pytest.param(
            split({"gone": 1, "v1": 1}),
            "spec.backends[0].service",
            "'gone' is not a Service of the mesh in this namespace, so it gets no traffic",
            id="split-missing-backend",
        ),
        pytest.param(
            split({"v1": 1, "idle": 1}),
            "spec.backends[1].service",
            "Service 'shop/idle' has no ready endpoint with a sidecar: check its Pods",
            id="split-backend-without-endpoints",
        ),
        pytest.param(
            split({"v1": 1}, root="gone"),
            "spec.service",
            "'gone' is not a Service of the mesh in this namespace: create it",
            id="split-missing-root",
        ),
        pytest.param(
            split({"v1": 1}, root="v1"),
            "spec.backends",
            "'v1' is the root itself and the only one: no traffic is split",
            id="split-of-itself",
        ),
        pytest.param(
            split({"v1": 0}),
            "spec.backends",
            "no backend has a weight above 0, so traffic is not split: raise one",
            id="split-without-weight",
        ),
        pytest.param(
            split({"v1": -1}),
            "spec.backends[0].weight",
            "must be at least 0, not -1; the object is not in force",
            id="split-negative",
        ),
        pytest.param(
            split({"v1": 0.5}),
            "spec.backends[0].weight",
            "must be a whole number such as 90, not 0.5; the object is not in force",
            id="split-fraction",
        ),
    ],
)
def test_object_is_taken_with_a_warning(raw: RawObject, field: str, reason: str) -> None:
    assert judge(raw, *WORLD).allowed
    assert warnings(raw, *WORLD) == {field: reason}


def test_two_matches_of_one_name_are_told() -> None:
    raw = group({"name": "a", "pathRegex": "/x"}, {"name": "a", "pathRegex": "/y"}, {"name": "b"})
    reason = "'a' is the name of another match: rename one"
    assert warnings(raw) == {"spec.matches[0].name": reason, "spec.matches[1].name": reason}


def test_second_split_of_a_root_is_told_and_the_first_is_not() -> None:
    first = factory.traffic_split("shop/a", {"v1": 1}, root="web", meta=factory.created(1))
    second = factory.traffic_split("shop/b", {"v1": 1}, root="web.shop", meta=factory.created(2))
    assert warnings(second, *WORLD, first) == {
        "spec.service": "Service shop/web is split already by TrafficSplit shop/a, which is older "
        "or comes first by name: delete one"
    }
    assert warnings(first, *WORLD, second) == {}


def test_namespace_that_the_snapshot_does_not_know_has_nothing_missing() -> None:
    other = factory.namespace("pay")
    assert warnings(split({"gone": 1}), other) == {}
    assert warnings(target("gone"), other) == {}
