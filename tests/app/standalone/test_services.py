from __future__ import annotations

from typing import Any

import factory
import pytest

from app.objects import scheme
from app.objects.core import Service
from app.objects.meta import RawObject, Rejected
from app.standalone.nat import ServiceForward
from app.standalone.services import backends, endpoints_of, forwards, zone


def service(**spec: Any) -> Service:
    fields = {
        "selector": {"app": "web"},
        "clusterIP": "10.43.0.1",
        "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
        **spec,
    }
    decoded = scheme.decode(factory.raw("Service", "shop/web", spec=fields))
    assert not isinstance(decoded, Rejected)
    found = decoded[1]
    assert isinstance(found, Service)
    return found


def pod(
    name: str, ip: str, *, ready: bool = True, ports: dict[str, int] | None = None, **more: Any
) -> RawObject:
    declared = [{"name": n, "containerPort": p} for n, p in (ports or {}).items()]
    raw = factory.raw(
        "Pod",
        f"{more.get('namespace', 'shop')}/{name}",
        spec={"containers": [{"name": "app", "ports": declared}], **more.get("spec", {})},
        status={
            "phase": more.get("phase", "Running"),
            "podIP": ip,
            "conditions": [{"type": "Ready", "status": str(ready)}],
        },
    )
    raw["metadata"] |= {"uid": f"uid-{name}", "labels": more.get("labels", {"app": "web"})}
    raw["metadata"] |= more.get("meta", {})
    return raw


def address(name: str, ip: str, **more: str) -> dict[str, Any]:
    reference = {"kind": "Pod", "namespace": "shop", "name": name, "uid": f"uid-{name}"}
    return {"ip": ip, "targetRef": reference, **more}


HTTP = {"name": "http", "port": 8080, "protocol": "TCP"}


@pytest.mark.parametrize(
    ("found", "pods", "subsets"),
    [
        pytest.param(service(), [], [], id="nobody"),
        pytest.param(
            service(),
            [pod("b", "10.0.0.2"), pod("a", "10.0.0.1"), pod("c", "10.0.0.3", ready=False)],
            [
                {
                    "addresses": [address("a", "10.0.0.1"), address("b", "10.0.0.2")],
                    "notReadyAddresses": [address("c", "10.0.0.3")],
                    "ports": [HTTP],
                }
            ],
            id="ready-and-not",
        ),
        pytest.param(
            service(),
            [
                pod("ending", "10.0.0.1", meta={"deletionTimestamp": "t"}),
                pod("done", "10.0.0.2", phase="Succeeded"),
                pod("failed", "10.0.0.3", phase="Failed"),
                pod("young", ""),
                pod("other", "10.0.0.4", labels={"app": "x"}),
                pod("abroad", "10.0.0.5", namespace="elsewhere"),
            ],
            [],
            id="who-does-not-serve",
        ),
        pytest.param(
            service(ports=[{"port": 80, "targetPort": "web"}]),
            [
                pod("a", "10.0.0.1", ports={"web": 8080}),
                pod("b", "10.0.0.2", ports={"web": 9090}),
                pod("c", "10.0.0.3"),
            ],
            [
                {"addresses": [address("c", "10.0.0.3")], "ports": []},
                {
                    "addresses": [address("a", "10.0.0.1")],
                    "ports": [{"port": 8080, "protocol": "TCP"}],
                },
                {
                    "addresses": [address("b", "10.0.0.2")],
                    "ports": [{"port": 9090, "protocol": "TCP"}],
                },
            ],
            id="named-ports-by-pod",
        ),
        pytest.param(
            service(ports=[{"port": 80}]),
            [pod("a", "10.0.0.1")],
            [
                {
                    "addresses": [address("a", "10.0.0.1")],
                    "ports": [{"port": 80, "protocol": "TCP"}],
                }
            ],
            id="same-port",
        ),
        pytest.param(
            service(clusterIP="None"),
            [
                pod("web-0", "10.0.0.1", spec={"hostname": "web-0", "subdomain": "web"}),
                pod("web-1", "10.0.0.2", spec={"hostname": "web-1", "subdomain": "other"}),
            ],
            [
                {
                    "addresses": [
                        address("web-0", "10.0.0.1", hostname="web-0"),
                        address("web-1", "10.0.0.2"),
                    ],
                    "ports": [HTTP],
                }
            ],
            id="host-names",
        ),
    ],
)
def test_endpoints_of_a_service(
    found: Service, pods: list[RawObject], subsets: list[dict[str, Any]]
) -> None:
    endpoints = endpoints_of(found, backends(pods))
    assert endpoints == factory.raw("Endpoints", "shop/web", subsets=subsets)


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(service(selector={}), id="no-selector"),
        pytest.param(service(type="ExternalName"), id="external"),
    ],
)
def test_services_whose_endpoints_are_not_ours(found: Service) -> None:
    assert endpoints_of(found, ()) is None


def test_cluster_ips_lead_to_ready_pods_only() -> None:
    found = service(
        ports=[
            {"name": "http", "port": 80, "targetPort": 8080},
            {"name": "dns", "port": 53, "protocol": "UDP"},
            {"name": "n", "port": 81, "targetPort": "nowhere"},
        ]
    )
    pods = backends([pod("a", "10.0.0.1"), pod("b", "10.0.0.2", ready=False)])
    headless = service(clusterIP="None")
    assert forwards([found, headless], pods) == (
        ServiceForward(address="10.43.0.1", port=80, targets=(("10.0.0.1", 8080),)),
        ServiceForward(address="10.43.0.1", port=53, protocol="UDP", targets=(("10.0.0.1", 53),)),
        ServiceForward(address="10.43.0.1", port=81, targets=()),
    )


def names(*found: Service, pods: list[RawObject]) -> dict[str, tuple[str, ...]]:
    control_plane = ("osm-controller", "osm-system", "10.44.0.1")
    return zone(found, backends(pods), dns_suffix="cluster.local", control_plane=control_plane)


CONTROL_PLANE = {
    "osm-controller.osm-system.svc.cluster": ("10.44.0.1",),
    "osm-controller.osm-system.svc.cluster.local": ("10.44.0.1",),
}


def test_the_zone_knows_services_by_their_complete_names() -> None:
    assert names(service(), pods=[pod("a", "10.0.0.1")]) == {
        **CONTROL_PLANE,
        "web.shop.svc.cluster": ("10.43.0.1",),
        "web.shop.svc.cluster.local": ("10.43.0.1",),
    }


def test_the_zone_knows_the_pods_of_headless_services() -> None:
    hosts = {"spec": {"hostname": "web-0", "subdomain": "web"}}
    pods = [pod("web-0", "10.0.0.1", ready=False, **hosts), pod("x", "10.0.0.2")]
    assert names(service(clusterIP="None"), pods=pods) == {
        **CONTROL_PLANE,
        "web-0.web.shop.svc.cluster": ("10.0.0.1",),
        "web-0.web.shop.svc.cluster.local": ("10.0.0.1",),
        "web.shop.svc.cluster": ("10.0.0.2",),
        "web.shop.svc.cluster.local": ("10.0.0.2",),
    }


def test_external_names_are_not_ours() -> None:
    assert names(service(type="ExternalName"), pods=[]) == CONTROL_PLANE
