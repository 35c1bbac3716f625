"""What Egresses of one source say differently: kept, dropped and told."""

from __future__ import annotations

from typing import Any

import pytest
import snapshots

from app.mesh.policies.overlaps import overlaps, told_apart
from app.mesh.policies.part import EgressGrant
from xds.policy.egress import EgressProtocol
from xds.policy.settings import Connections

BOUND = Connections(max_connections=7)


def grant(name: str, ports: str, *, source: str = "shop/buyer", **fields: Any) -> EgressGrant:
    pairs = (pair.partition(":") for pair in ports.split())
    values: dict[str, Any] = {"hosts": (), "ranges": (), "matches": None, **fields}
    return EgressGrant(
        name=name,
        sources=frozenset([snapshots.identity(source)]),
        ports=tuple((int(number), EgressProtocol(protocol)) for protocol, _, number in pairs),
        connections=values.pop("connections", Connections()),
        **values,
    )


@pytest.mark.parametrize(
    ("grants", "kept"),
    [
        pytest.param(
            [grant("a", "http:80"), grant("b", "tcp-server-first:80 tcp:80")],
            [("a", "http:80"), ("b", "tcp:80")],
            id="oldest-is-told-by-first-bytes",
        ),
        pytest.param(
            [grant("a", "tcp-server-first:80"), grant("b", "https:80"), grant("c", "http:81")],
            [("a", "tcp-server-first:80"), ("c", "http:81")],
            id="oldest-talks-first",
        ),
        pytest.param(
            [grant("a", "http:80 https:80 tcp:80")],
            [("a", "http:80 https:80 tcp:80")],
            id="clients-talk-first",
        ),
    ],
)
def test_port_of_servers_that_talk_first_has_no_other_traffic(grants: Any, kept: Any) -> None:
    assert [
        (one.name, " ".join(f"{protocol}:{port}" for port, protocol in one.ports))
        for one in told_apart(grants)
    ] == kept


@pytest.mark.parametrize(
    ("grants", "told"),
    [
        pytest.param(
            [grant("a", "http:80"), grant("b", "tcp-server-first:80"), grant("c", "http:80")],
            [("b", "spec.ports")],
            id="server-first-after-http",
        ),
        pytest.param(
            [grant("a", "http:80"), grant("b", "tcp-server-first:80", source="shop/visitor")],
            [],
            id="other-sources",
        ),
        pytest.param(
            [grant("a", "http:80 tcp-server-first:80")], [("a", "spec.ports")], id="within-one"
        ),
        pytest.param(
            [
                grant("a", "tcp:90", ranges=("10.0.0.0/8",)),
                grant("b", "tcp:90", ranges=("10.1.0.0/16",), connections=BOUND),
            ],
            [("b", "spec.matches")],
            id="networks-overlap",
        ),
        pytest.param(
            [
                grant("a", "tcp:90", ranges=("10.0.0.0/8",)),
                grant("b", "tcp:90", ranges=("11.0.0.0/8",), connections=BOUND),
                grant("c", "tcp:91", connections=BOUND),
                grant("d", "https:90", hosts=("a.test",), connections=BOUND),
            ],
            [],
            id="nothing-overlaps",
        ),
        pytest.param(
            [
                grant("a", "https:443", hosts=("*.b.test",)),
                grant("b", "https:443", hosts=("a.b.test",), connections=BOUND),
                grant("c", "https:443", hosts=("b.test",), connections=BOUND),
            ],
            [("b", "spec.matches")],
            id="server-names-overlap",
        ),
        pytest.param(
            [
                grant("a", "http:80", hosts=("a.test",)),
                grant("b", "http:80", hosts=("a.test", "b.test"), connections=BOUND),
                grant("c", "http:80", connections=BOUND),
            ],
            [("b", "spec.matches")],
            id="same-host",
        ),
    ],
)
def test_younger_word_that_does_not_count_is_told(grants: Any, told: Any) -> None:
    assert [(name, field) for name, field, _ in overlaps(grants)] == told
