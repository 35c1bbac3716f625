"""A split with matches is of the requests that fit a match of its groups, and of no other."""

from __future__ import annotations

from typing import Any

import factory
import pytest

from xds.policy.http import HttpMatch

SHOP = factory.namespace("shop")
SERVICES = [factory.service(f"shop/{name}") for name in ("root", "v1")]


def canary(*groups: str) -> dict[str, Any]:
    """A split of the requests that fit a match of the groups."""
    raw = factory.traffic_split("shop/s", {"v1": 1}, root="root")
    raw["spec"]["matches"] = [{"kind": "HTTPRouteGroup", "name": name} for name in groups]
    return raw


FIRST = factory.route_group("shop/first", b="/b", a="/a")
NO_SECOND = "there is no HTTPRouteGroup 'second' in this namespace: create it"


@pytest.mark.parametrize(
    ("groups", "matches", "reports"),
    [
        pytest.param([], None, [], id="all-requests"),
        pytest.param(
            ["first"], (HttpMatch(path="/a"), HttpMatch(path="/b")), [], id="those-of-a-group"
        ),
        pytest.param(
            ["first", "second"],
            (HttpMatch(path="/a"), HttpMatch(path="/b")),
            [("spec.matches[1].name", NO_SECOND, "E2005")],
            id="what-is-left-of-them",
        ),
        pytest.param(
            ["second"], (), [("spec.matches[0].name", NO_SECOND, "E2005")], id="no-request-at-all"
        ),
    ],
)
def test_requests_that_are_split(
    groups: list[str], matches: tuple[HttpMatch, ...] | None, reports: list[tuple[str, str, str]]
) -> None:
    found = factory.snapshot(SHOP, *SERVICES, FIRST, canary(*groups))
    assert found.rules.splits["shop/root"].matches == matches
    assert [(one.field, one.reason, one.code) for one in found.rejected] == reports


def test_split_of_requests_leaves_connections_alone() -> None:
    port = [{"name": "db", "port": 80, "targetPort": 80, "appProtocol": "tcp"}]
    found = factory.snapshot(
        SHOP, factory.service("shop/root", ports=port), SERVICES[1], FIRST, canary("first")
    )
    reason = "speaks of requests, but port 80 of the root carries tcp, which is not split"
    assert [(one.field, one.reason, one.code) for one in found.rejected] == [
        ("spec.matches", reason, "E2008")
    ]
