"""TrafficDeny: what would deny nothing is refused, what denies more than it says is told."""

from __future__ import annotations

from typing import Any

import factory
import pytest
from judged import judge, reasons, warnings

from app.objects.meta import RawObject

WORLD = (
    factory.namespace("shop"),
    factory.account("shop/web"),
    factory.account("shop/bob"),
    factory.route_group("shop/g", all="/.*"),
    factory.tcp_route("shop/r", 80),
)
BOB = {"kind": "ServiceAccount", "name": "bob"}
WEB = {"kind": "ServiceAccount", "name": "web"}


def deny(**spec: Any) -> RawObject:
    return factory.raw(
        "TrafficDeny", "shop/d", api=factory.POLICY, spec={"destination": WEB, **spec}
    )


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({}, id="all-traffic-of-everybody"),
        pytest.param({"destination": {**WEB, "namespace": "shop"}}, id="own-namespace"),
        pytest.param(
            {
                "sources": [BOB],
                "rules": [
                    {"kind": "HTTPRouteGroup", "name": "g"},
                    {"kind": "TCPRoute", "name": "r"},
                ],
            },
            id="whole",
        ),
    ],
)
def test_good_denial_passes_without_a_word(spec: dict[str, Any]) -> None:
    verdict = judge(deny(**spec), *WORLD)
    assert (verdict.allowed, verdict.warnings) == (True, ())


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        pytest.param(
            {"destination": {**WEB, "namespace": "out"}}, "spec.destination.namespace", id="foreign"
        ),
        pytest.param(
            {"destination": {"kind": "Group", "name": "web"}}, "spec.destination.kind", id="kind"
        ),
        pytest.param(
            {"sources": [{"kind": "User", "name": "b"}]}, "spec.sources[0].kind", id="who"
        ),
        pytest.param(
            {"rules": [{"kind": "UDPRoute", "name": "u"}]}, "spec.rules[0].kind", id="what"
        ),
    ],
)
def test_denial_that_cannot_mean_what_it_says_is_refused(spec: dict[str, Any], field: str) -> None:
    assert set(reasons(deny(**spec), *WORLD)) == {field}


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        pytest.param({"sources": [{**BOB, "name": "eve"}]}, "spec.sources[0].name", id="account"),
        pytest.param(
            {"rules": [{"kind": "HTTPRouteGroup", "name": "x"}]}, "spec.rules[0].name", id="group"
        ),
        pytest.param(
            {"rules": [{"kind": "TCPRoute", "name": "x"}]}, "spec.rules[0].name", id="tcp"
        ),
    ],
)
def test_what_is_missing_is_told(spec: dict[str, Any], field: str) -> None:
    assert set(warnings(deny(**spec), *WORLD)) == {field}
    assert not warnings(deny(**spec))
