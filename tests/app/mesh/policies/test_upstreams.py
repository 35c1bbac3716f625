"""Which UpstreamTrafficSetting counts for which Service."""

from __future__ import annotations

from typing import Any

import factory
import pytest

from app.mesh.snapshot import MeshSnapshot

SERVICES = [
    factory.service("shop/web"),
    factory.service("shop/api"),
    factory.service("pay/bank"),
]


def mesh(*objects: Any) -> MeshSnapshot:
    namespaces = [factory.namespace("shop"), factory.namespace("pay")]
    return factory.snapshot(*namespaces, *SERVICES, *objects)


def setting(path: str, host: str, **fields: Any) -> dict[str, Any]:
    return factory.traffic_setting(path, host=host, **fields)


@pytest.mark.parametrize(
    ("host", "service"),
    [
        pytest.param("web", "shop/web", id="name"),
        pytest.param("web.shop", "shop/web", id="name-and-namespace"),
        pytest.param("web.shop.svc", "shop/web", id="svc"),
        pytest.param("web.shop.svc.cluster", "shop/web", id="zone"),
        pytest.param("Web.Shop.svc.cluster.local", "shop/web", id="fully-qualified-in-any-case"),
        pytest.param("gone.shop.svc.cluster.local", None, id="no-such-service"),
        pytest.param("bank.pay.svc.cluster.local", None, id="service-of-another-namespace"),
        pytest.param("web.example.com", None, id="host-outside"),
    ],
)
def test_host_names_a_service_of_its_namespace(host: str, service: str | None) -> None:
    found = mesh(setting("shop/s", host)).policies.upstreams
    assert list(found) == ([service] if service else [])


@pytest.mark.parametrize(
    ("ages", "winner"),
    [
        pytest.param({"a": 2, "b": 1}, "b", id="oldest"),
        pytest.param({"a": 1, "b": 1}, "a", id="then-by-name"),
    ],
)
def test_one_setting_per_service(ages: dict[str, int], winner: str) -> None:
    found = mesh(
        *(
            setting(
                f"shop/{name}",
                host,
                meta=factory.created(ages[name]),
                connectionSettings={"tcp": {"maxConnections": ages[name]}},
            )
            for name, host in (("a", "web"), ("b", "web.shop.svc"))
        )
    )
    (loser,) = ages.keys() - {winner}
    chosen = found.policies.upstreams["shop/web"].connection_settings
    assert chosen is not None
    assert chosen.tcp is not None
    assert chosen.tcp.max_connections == ages[winner]
    assert (
        f"UpstreamTrafficSetting shop/{loser}: spec.host: Service shop/web has "
        f"UpstreamTrafficSetting shop/{winner} already, which is older or comes first by name: "
        "delete one (E2013)"
    ) in [str(one) for one in found.rejected]


@pytest.mark.parametrize(
    ("host", "told"),
    [
        pytest.param("bank.pay.svc.cluster.local", True, id="service-elsewhere"),
        pytest.param("bank.pay", True, id="in-short"),
        pytest.param("bank.pay.com", False, id="host-outside"),
        pytest.param("gone.pay.svc", False, id="nobody"),
    ],
)
def test_setting_of_another_namespaces_service_is_told(host: str, told: bool) -> None:
    reason = (
        "UpstreamTrafficSetting shop/s: spec.host: is a Service of namespace 'pay', where this "
        "object does not count: move it there (E3003)"
    )
    assert (reason in [str(one) for one in mesh(setting("shop/s", host)).rejected]) is told


def test_equal_settings_are_the_same_part() -> None:
    raw = setting("shop/s", "web")
    assert mesh(raw).policies == mesh(raw).policies
    assert mesh(raw).policies != mesh().policies
