"""Each address and port belongs to one mesh service, or to HTTP services together."""

from __future__ import annotations

from typing import Any

import factory
import pytest

POD = factory.pod("shop/p", labels={"app": "p"}, ip="10.0.0.1")


def headless(name: str, port: str, second: int = 0, number: int = 80) -> list[dict[str, Any]]:
    """A headless Service over the one Pod, and its endpoints."""
    return [
        factory.service(
            f"shop/{name}",
            selector={"app": "p"},
            cluster_ip="None",
            ports=[{"name": port, "port": number, "targetPort": 8080}],
            meta=factory.created(second) if second else None,
        ),
        factory.endpoints(f"shop/{name}", {"p": "10.0.0.1"}, ports={port: 8080}),
    ]


def refusal(loser: str, winner: str) -> str:
    return (
        f"Service shop/{loser}: spec.ports[0]: cannot be reached at 10.0.0.1, port 80, because "
        f"Service shop/{winner} has the same address and port: use another port, or http on both "
        "(E2008)"
    )


@pytest.mark.parametrize(
    ("services", "reached", "rejected"),
    [
        pytest.param(
            [headless("a", "http"), headless("b", "grpc")], ["a", "b"], [], id="http-shares"
        ),
        pytest.param(
            [headless("a", "tcp", 1), headless("b", "http", 9)],
            ["b"],
            [refusal("a", "b")],
            id="http-beats-older-tcp",
        ),
        pytest.param(
            [headless("a", "tcp", 9), headless("b", "tcp", 1)],
            ["b"],
            [refusal("a", "b")],
            id="oldest-tcp-wins",
        ),
        pytest.param(
            [headless("a", "tcp"), headless("b", "tcp", 1)],
            ["b"],
            [refusal("a", "b")],
            id="no-age-is-youngest",
        ),
        pytest.param(
            [headless("b", "tcp-server-first"), headless("a", "tcp")],
            ["a"],
            [refusal("b", "a")],
            id="then-the-name",
        ),
        pytest.param(
            [headless("a", "tcp"), headless("b", "tcp", number=81)],
            ["a", "b"],
            [],
            id="other-ports-do-not-meet",
        ),
    ],
)
def test_place_belongs_to_one(services: list[Any], reached: list[str], rejected: list[str]) -> None:
    objects = [obj for pair in services for obj in pair]
    found = factory.snapshot(factory.namespace("shop"), POD, *objects)
    views = found.services.views
    assert [view.service.name for view in views if view.addresses] == reached
    assert len(views) == 2
    assert [str(one) for one in found.rejected] == rejected


def test_targets_of_one_port_are_no_rivals() -> None:
    ports = [{"name": "tcp", "port": 80, "targetPort": "x"}]
    found = factory.snapshot(
        factory.namespace("shop"),
        factory.service("shop/db", cluster_ip="10.96.0.1", ports=ports),
        factory.pod("shop/a", labels={"app": "db"}, ip="10.0.0.1"),
        factory.pod("shop/b", labels={"app": "db"}, ip="10.0.0.2"),
        factory.endpoint_slice(
            "shop/db-a", "db", [factory.endpoint("10.0.0.1", pod="a")], ports={"tcp": 1}
        ),
        factory.endpoint_slice(
            "shop/db-b", "db", [factory.endpoint("10.0.0.2", pod="b")], ports={"tcp": 2}
        ),
    )
    views = [(view.service.target, view.addresses) for view in found.services.views]
    assert views == [(1, ("10.96.0.1",)), (2, ("10.96.0.1",))]
    assert found.rejected == ()


def test_indexes_lead_to_the_same_views() -> None:
    found = factory.snapshot(
        factory.namespace("shop"),
        factory.service("shop/b"),
        factory.service("shop/a", ports={"http": 80, "tcp-x": 81}),
    ).services
    assert [view.service.parent for view in found.views] == ["shop/a", "shop/a", "shop/b"]
    assert found.by_parent == {"shop/a": found.views[:2], "shop/b": found.views[2:]}
    assert found.by_service == {view.service: view for view in found.views}
    assert found.by_identity == {}
