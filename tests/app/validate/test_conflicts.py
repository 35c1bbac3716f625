"""Which objects of a namespace claim the same thing."""

from __future__ import annotations

import factory
import pytest

from app.objects.meta import RawObject
from app.validate.conflicts import MAX_CONFLICTS, MAX_SHARED, conflicts

NAMESPACES = (factory.namespace("shop"), factory.namespace("pay"))


def told(*objects: RawObject, namespace: str | None = None) -> list[str]:
    return [str(one) for one in conflicts(factory.snapshot(*NAMESPACES, *objects), namespace)]


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        pytest.param(
            [
                factory.ingress_backend("shop/a", ("web", 80), ("web", 81)),
                factory.ingress_backend("shop/b", ("web", 81), ("pay", 80)),
                factory.ingress_backend("pay/c", ("web", 81)),
            ],
            ["IngressBackend shop/a conflicts with shop/b over web:81"],
            id="ingress-backends",
        ),
        pytest.param(
            [
                factory.traffic_setting("shop/a", host="A.example"),
                factory.traffic_setting("shop/b", host="a.example"),
                factory.traffic_setting("shop/c", host="c.example"),
            ],
            ["UpstreamTrafficSetting shop/a conflicts with shop/b over a.example"],
            id="hosts",
        ),
        pytest.param(
            [
                factory.traffic_split("shop/a", {"v": 1}, root="web"),
                factory.traffic_split("shop/b", {"v": 1}, root="web.shop.svc"),
                factory.traffic_split("shop/c", {"v": 1}, root="web.pay.svc"),
                factory.traffic_split("shop/d", {"v": 1}, root="web.pay.svc"),
            ],
            ["TrafficSplit shop/a conflicts with shop/b over root web"],
            id="roots-of-splits",
        ),
        pytest.param(
            [
                factory.telemetry("shop/a"),
                factory.telemetry("shop/b"),
                factory.telemetry("shop/c", selector={"app": "c"}),
            ],
            ["Telemetry shop/a conflicts with shop/b over all Pods of the namespace"],
            id="telemetries-of-all-pods",
        ),
        pytest.param(
            [factory.egress("shop/a"), factory.egress("shop/b")], [], id="kinds-that-add-up"
        ),
    ],
)
def test_conflicts_name_both_objects_and_what_they_are_over(
    objects: list[RawObject], expected: list[str]
) -> None:
    assert told(*objects) == expected
    assert told(*objects, namespace="shop") == expected
    assert told(*objects, namespace="pay") == []


def test_lists_are_bounded() -> None:
    backends = [(f"web{n}", 80) for n in range(9)]
    objects = [factory.ingress_backend(f"shop/i{n}", *backends) for n in range(40)]
    found = conflicts(factory.snapshot(*NAMESPACES, *objects))
    assert len(found) == MAX_CONFLICTS
    assert max(len(one.over) for one in found) <= MAX_SHARED
