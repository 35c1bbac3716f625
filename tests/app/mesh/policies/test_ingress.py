"""Which IngressBackends let gateways in to what, and what of them is not in force."""

from __future__ import annotations

from typing import Any

import factory
import pytest

from app.mesh.policies.part import IngressGrant
from app.mesh.snapshot import MeshSnapshot
from xds.policy.http import HttpMatch
from xds.policy.identity import NameType, SubjectName

NAMESPACES = [factory.namespace("shop"), factory.namespace("edge")]
WEB = factory.service("shop/web")
GATEWAY = factory.raw(
    "Endpoints",
    "edge/nginx",
    subsets=[{"addresses": [{"ip": "10.9.0.2"}, {"ip": "10.9.0.1"}], "ports": [{"port": 80}]}],
)
HTTP = {"name": "web", "port": {"number": 8080, "protocol": "HTTP"}}
HTTPS = {"name": "web", "port": {"number": 8080, "protocol": "https"}}
SERVICE = {"kind": "Service", "name": "nginx", "namespace": "edge"}
RANGE = {"kind": "IPRange", "name": "10.1.2.3/8"}
NGINX = {"kind": "AuthenticatedPrincipal", "name": "nginx.edge.cluster.local"}
ROUTES = {"apiGroup": "specs.smi-spec.io/v1alpha4", "kind": "HTTPRouteGroup", "name": "open"}


def mesh(*objects: Any, enabled: bool = True) -> MeshSnapshot:
    config = factory.mesh_config(featureFlags={"enableIngressBackendPolicy": enabled})
    return factory.snapshot(config, *NAMESPACES, WEB, *objects)


def backend(path: str = "shop/in", *, second: int = 1, **spec: Any) -> Any:
    fields = {"backends": [HTTP], "sources": [RANGE], **spec}
    found = factory.raw("IngressBackend", path, api=factory.POLICY, spec=fields)
    found["metadata"] |= factory.created(second)
    return found


def granted(**changes: Any) -> IngressGrant:
    values: dict[str, Any] = {
        "name": "shop/in",
        "service": "shop/web",
        "target": 8080,
        "tls": False,
        "client_certificate": False,
        "server_names": (),
        "addresses": ("10.0.0.0/8",),
        "principals": None,
        "matches": None,
    }
    return IngressGrant(**{**values, **changes})


def told(found: MeshSnapshot) -> list[tuple[str, str]]:
    return [(one.field, one.code) for one in found.rejected]


@pytest.mark.parametrize(
    ("spec", "grant"),
    [
        pytest.param({}, granted(), id="range"),
        pytest.param(
            {"sources": [SERVICE, RANGE]},
            granted(addresses=("10.0.0.0/8", "10.9.0.1/32", "10.9.0.2/32")),
            id="endpoints-of-a-service",
        ),
        pytest.param({"sources": [NGINX]}, granted(addresses=None), id="http-asks-for-no-name"),
        pytest.param(
            {"backends": [HTTPS], "sources": [NGINX, {**NGINX, "name": "spiffe://td/nginx/edge"}]},
            granted(
                tls=True,
                client_certificate=True,
                addresses=None,
                principals=(
                    SubjectName(type=NameType.DNS, value="nginx.edge.cluster.local"),
                    SubjectName(type=NameType.URI, value="spiffe://td/nginx/edge"),
                ),
            ),
            id="https-by-name",
        ),
        pytest.param(
            {
                "backends": [
                    {**HTTPS, "tls": {"skipClientCertValidation": True, "sniHosts": ["A.test"]}}
                ]
            },
            granted(tls=True, server_names=("a.test",)),
            id="https-without-client-certificates",
        ),
    ],
)
def test_backend_is_granted(spec: dict[str, Any], grant: IngressGrant) -> None:
    found = mesh(GATEWAY, backend(**spec))
    assert dict(found.policies.ingress) == {("shop/web", 8080): grant}
    assert told(found) == []


@pytest.mark.parametrize(
    ("spec", "rejected", "change"),
    [
        pytest.param(
            {"sources": [{**SERVICE, "name": "gone"}]},
            ("spec.sources[0].name", "E3000"),
            {"addresses": ()},
            id="service-without-endpoints",
        ),
        pytest.param(
            {"sources": [{**SERVICE, "namespace": "far"}]},
            ("spec.sources[0].name", "E3000"),
            {"addresses": ()},
            id="service-outside-the-mesh-is-not-seen",
        ),
        pytest.param(
            {"sources": [{"kind": "IPRange", "name": "all"}]},
            ("spec.sources[0].name", "E2002"),
            {"addresses": ()},
            id="no-network",
        ),
        pytest.param(
            {"backends": [HTTPS]},
            ("spec.sources", "E2014"),
            {"tls": True, "client_certificate": True, "principals": ()},
            id="https-without-principals",
        ),
        pytest.param(
            {"matches": [ROUTES]},
            ("spec.matches[0].name", "E2004"),
            {"matches": ()},
            id="missing-route-group",
        ),
    ],
)
def test_what_is_wrong_opens_nothing_and_is_told(
    spec: dict[str, Any], rejected: Any, change: dict[str, Any]
) -> None:
    found = mesh(backend(**spec))
    assert list(found.policies.ingress.values()) == [granted(**change)]
    assert told(found) == [rejected]


@pytest.mark.parametrize(
    ("spec", "rejected"),
    [
        pytest.param(
            {"backends": [{**HTTP, "port": {"number": 8080, "protocol": "tcp"}}]},
            ("spec.backends[0].port.protocol", "E5020"),
            id="unknown-protocol",
        ),
        pytest.param(
            {
                "backends": [
                    {**HTTPS, "tls": {"skipClientCertValidation": True, "sniHosts": ["*x"]}}
                ]
            },
            ("spec.backends[0].tls.sniHosts[0]", "E2003"),
            id="no-server-name-is-left",
        ),
    ],
)
def test_backend_that_cannot_be_served_is_left_out(spec: dict[str, Any], rejected: Any) -> None:
    found = mesh(backend(**spec))
    assert dict(found.policies.ingress) == {}
    assert told(found) == [rejected]


def test_matches_of_a_group_are_let_in() -> None:
    found = mesh(backend(matches=[ROUTES]), factory.route_group("shop/open", open="/open/.*"))
    (grant,) = found.policies.ingress.values()
    assert grant.matches == (HttpMatch(path="/open/.*"),)


def test_oldest_object_of_a_backend_wins() -> None:
    found = mesh(backend("shop/b", second=1), backend("shop/a", second=2))
    assert [grant.name for grant in found.policies.ingress.values()] == ["shop/b"]
    assert told(found) == [("spec.backends[0]", "E2013")]


def test_nothing_is_in_force_while_the_flag_is_off() -> None:
    found = mesh(backend(), enabled=False)
    assert dict(found.policies.ingress) == {}
    assert told(found) == [("", "E2012")]


def test_service_of_another_namespace_is_not_captured() -> None:
    found = mesh(backend("edge/in"))
    assert told(found) == [("spec.backends[0].name", "E3003")]
    assert [grant.service for grant in found.policies.ingress.values()] == ["edge/web"]
