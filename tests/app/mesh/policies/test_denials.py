"""What a TrafficDeny denies, and that what cannot be read denies more and never less."""

from __future__ import annotations

from typing import Any

import factory
import pytest

from app.mesh.policies.part import Denial
from app.mesh.snapshot import MeshSnapshot
from xds.policy.http import HttpMatch
from xds.policy.identity import ServiceIdentity

WEB = ServiceIdentity(namespace="shop", service_account="web")
BUYER = ServiceIdentity(namespace="shop", service_account="buyer")
GROUP = factory.raw(
    "HTTPRouteGroup",
    "shop/g",
    api="specs.smi-spec.io/v1alpha4",
    spec={
        "matches": [
            {"name": "admin", "pathRegex": "/admin", "methods": ["*"]},
            {"name": "open", "pathRegex": "/open", "methods": ["GET"]},
        ]
    },
)
BROKEN = factory.raw(
    "HTTPRouteGroup",
    "shop/g",
    api="specs.smi-spec.io/v1alpha4",
    spec={"matches": [{"name": "admin", "pathRegex": "/admin"}, {"name": "x", "pathRegex": "("}]},
)
EMPTY = factory.raw("HTTPRouteGroup", "shop/g", api="specs.smi-spec.io/v1alpha4", spec={})
ADMIN = HttpMatch(path="/admin")


def tcp(*ports: int) -> Any:
    spec = {"matches": {"ports": list(ports)}}
    return factory.raw("TCPRoute", "shop/t", api="specs.smi-spec.io/v1alpha4", spec=spec)


def deny(**spec: Any) -> Any:
    subject = {"kind": "ServiceAccount"}
    whole = {
        "destination": {**subject, "name": "web"},
        "sources": [{**subject, "name": "buyer"}],
        **spec,
    }
    return factory.raw("TrafficDeny", "shop/d", api=factory.POLICY, spec=whole)


def mesh(*objects: Any) -> MeshSnapshot:
    return factory.snapshot(factory.namespace("shop"), factory.namespace("out"), *objects)


def told(snapshot: MeshSnapshot) -> list[tuple[str, str]]:
    return [(one.field, one.code) for one in snapshot.rejected if "TrafficDeny" in one.where]


HTTP = {"kind": "HTTPRouteGroup", "name": "g"}
TCP = {"kind": "TCPRoute", "name": "t"}
ADMIN_ONLY = {**HTTP, "matches": ["admin"]}


@pytest.mark.parametrize(
    ("rules", "objects", "matches", "ports", "codes"),
    [
        pytest.param([], (), (), None, [], id="no-rules-is-all-traffic"),
        pytest.param([ADMIN_ONLY], (GROUP,), (ADMIN,), frozenset(), [], id="one-match"),
        pytest.param(
            [HTTP],
            (GROUP,),
            (ADMIN, HttpMatch(path="/open", methods=("GET",))),
            frozenset(),
            [],
            id="all-matches",
        ),
        pytest.param([TCP], (tcp(9090, 80),), (), frozenset({80, 9090}), [], id="ports"),
        pytest.param([TCP], (tcp(),), (), None, [], id="any-port"),
        pytest.param([ADMIN_ONLY, TCP], (GROUP, tcp(80)), (ADMIN,), frozenset({80}), [], id="both"),
        pytest.param([HTTP], (), (), None, [("spec.rules[0].name", "E2015")], id="no-group"),
        pytest.param([TCP], (), (), None, [("spec.rules[0].name", "E2015")], id="no-tcp-route"),
        pytest.param(
            [HTTP], (EMPTY,), (), None, [("spec.rules[0].name", "E2015")], id="empty-group"
        ),
        pytest.param(
            [{**HTTP, "matches": ["gone"]}],
            (GROUP,),
            (),
            None,
            [("spec.rules[0].matches", "E2015")],
            id="no-such-match",
        ),
        pytest.param(
            [HTTP], (BROKEN,), (), None, [("spec.rules[0].matches", "E2015")], id="broken-match"
        ),
        pytest.param(
            [ADMIN_ONLY], (BROKEN,), (ADMIN,), frozenset(), [], id="broken-match-not-named"
        ),
        pytest.param(
            [{"kind": "UDPRoute", "name": "u"}],
            (),
            (),
            None,
            [("spec.rules[0].kind", "E2015")],
            id="other-kind",
        ),
    ],
)
def test_what_is_denied(
    rules: list[Any],
    objects: tuple[Any, ...],
    matches: tuple[HttpMatch, ...],
    ports: frozenset[int] | None,
    codes: list[tuple[str, str]],
) -> None:
    found = mesh(*objects, deny(rules=rules))
    expected = Denial(name="shop/d", sources=(BUYER,), matches=matches, ports=ports)
    assert found.policies.denials == {WEB: (expected,)}
    assert told(found) == codes


@pytest.mark.parametrize(
    ("sources", "expected", "codes"),
    [
        pytest.param([], None, [], id="everybody"),
        pytest.param(
            [{"kind": "ServiceAccount", "name": "a", "namespace": "out"}],
            (ServiceIdentity(namespace="out", service_account="a"),),
            [],
            id="other-namespace",
        ),
        pytest.param(
            [{"kind": "Group", "name": "a"}],
            None,
            [("spec.sources[0].kind", "E2011")],
            id="not-an-account-is-everybody",
        ),
    ],
)
def test_who_is_denied(
    sources: list[Any], expected: tuple[ServiceIdentity, ...] | None, codes: list[tuple[str, str]]
) -> None:
    found = mesh(deny(sources=sources))
    assert [one.sources for one in found.policies.denials[WEB]] == [expected]
    assert told(found) == codes


@pytest.mark.parametrize(
    ("destination", "code"),
    [
        pytest.param({"kind": "Group", "name": "web"}, "E2010", id="kind"),
        pytest.param(
            {"kind": "ServiceAccount", "name": "web", "namespace": "out"}, "E2009", id="foreign"
        ),
    ],
)
def test_foreign_destination_is_left_alone(destination: Any, code: str) -> None:
    found = mesh(deny(destination=destination))
    assert found.policies.denials == {}
    assert [one for _, one in told(found)] == [code]
