"""One Service becomes mesh services, with targets, addresses, identities and endpoints."""

from __future__ import annotations

from typing import Any

import factory
import pytest

from app.mesh.services import protocol_of
from app.mesh.snapshot import MeshSnapshot, ServiceView
from app.objects.core import ServicePort
from xds.policy.identity import ServiceIdentity
from xds.policy.service import Endpoint, MeshService, Protocol, Workload

CART = ServiceIdentity(namespace="shop", service_account="cart")


def mesh(*objects: Any) -> MeshSnapshot:
    return factory.snapshot(factory.namespace("shop"), *objects)


def web(target: int = 8080, **more: Any) -> MeshService:
    fields = {"port": 80, "protocol": Protocol.HTTP, **more}
    return MeshService(namespace="shop", name="web", target=target, **fields)


def view(service: MeshService, *addresses: str, **more: Any) -> ServiceView:
    fields = {"identities": (CART,), "created": None, "port_name": "http", **more}
    return ServiceView(service=service, addresses=addresses, **fields)


def pod(name: str = "web", ip: str | None = "10.0.0.1", **more: Any) -> dict[str, Any]:
    fields = {"account": "cart", "labels": {"app": "web"}, "ports": {"http": 8080}, **more}
    return factory.pod(f"shop/{name}", ip=ip, **fields)


def endpoint(name: str, address: str, port: int = 8080, **more: Any) -> Endpoint:
    workload = Workload(namespace="shop", kind="unknown", name="unknown")
    return Endpoint(address=address, port=port, pod=name, workload=workload, identity=CART, **more)


SERVICE = factory.service("shop/web", cluster_ip="10.96.0.1")


@pytest.mark.parametrize(
    ("app_protocol", "name", "expected"),
    [
        pytest.param("grpc", "tcp-x", Protocol.GRPC, id="app-protocol-beats-the-name"),
        pytest.param("HTTP", "", Protocol.HTTP, id="in-any-case"),
        pytest.param("https", "", Protocol.TCP, id="https-is-tcp"),
        pytest.param("redis", "", Protocol.TCP, id="known-tcp-protocol"),
        pytest.param("kubernetes.io/h2c", "", Protocol.HTTP, id="h2c-is-http"),
        pytest.param("sctp-ish", "http", None, id="unknown"),
        pytest.param("", "tcp-server-first-x", Protocol.TCP_SERVER_FIRST, id="longest-prefix"),
        pytest.param("", "tcp-server-first", Protocol.TCP_SERVER_FIRST, id="exact-server-first"),
        pytest.param("", "tcp", Protocol.TCP, id="exact-tcp"),
        pytest.param("", "tcp-x", Protocol.TCP, id="tcp-prefix"),
        pytest.param("", "grpc-x", Protocol.GRPC, id="grpc-prefix"),
        pytest.param("", "http-x", Protocol.HTTP, id="http-prefix"),
        pytest.param("", "tcpx", Protocol.HTTP, id="prefix-needs-a-dash"),
        pytest.param("", "", Protocol.HTTP, id="http-without-a-name"),
    ],
)
def test_protocol_of_a_port(app_protocol: str, name: str, expected: Protocol | None) -> None:
    assert protocol_of(ServicePort(port=1, name=name, app_protocol=app_protocol)) is expected


@pytest.mark.parametrize(
    ("objects", "views"),
    [
        pytest.param([SERVICE, pod()], (view(web(), "10.96.0.1"),), id="with-a-sidecar"),
        pytest.param([SERVICE], (view(web(), "10.96.0.1", identities=()),), id="no-pods-at-all"),
        pytest.param([SERVICE, pod(sidecar=False)], (), id="pods-without-sidecar"),
        pytest.param([SERVICE, pod(spec={"hostNetwork": True})], (), id="pods-on-host-network"),
        pytest.param(
            [SERVICE, pod(phase="Succeeded", sidecar=False)],
            (view(web(), "10.96.0.1", identities=()),),
            id="finished-pods-do-not-count",
        ),
        pytest.param(
            [SERVICE, pod(), pod("plain", sidecar=False, account="other")],
            (view(web(), "10.96.0.1"),),
            id="some-pods-without-sidecar",
        ),
        pytest.param([factory.service("shop/web", selector={}), pod()], (), id="without-selector"),
        pytest.param(
            [factory.service("shop/web", spec={"type": "ExternalName"}), pod()],
            (),
            id="external-name",
        ),
        pytest.param(
            [factory.service("out/web"), factory.namespace("out", monitored=False)],
            (),
            id="other-namespace",
        ),
        pytest.param(
            [SERVICE, factory.namespace("pay"), factory.pod("pay/x", labels={"app": "web"})],
            (view(web(), "10.96.0.1", identities=()),),
            id="pods-of-another-namespace-do-not-count",
        ),
        pytest.param(
            [
                factory.service(
                    "shop/web",
                    spec={"clusterIP": "10.96.0.1", "clusterIPs": ["fd00::1", "10.96.0.1"]},
                )
            ],
            (view(web(), "10.96.0.1", "fd00::1", identities=()),),
            id="all-its-addresses",
        ),
    ],
)
def test_service_of_the_mesh(objects: list[Any], views: tuple[ServiceView, ...]) -> None:
    found = mesh(*objects)
    assert found.services.views == views
    assert found.rejected == ()


def test_service_without_ports_is_known_as_empty() -> None:
    found = mesh(factory.service("shop/web", ports=[]))
    assert found.services.by_parent == {"shop/web": ()}


@pytest.mark.parametrize(
    ("port", "objects", "targets"),
    [
        pytest.param({"targetPort": 8080}, [], [8080], id="number"),
        pytest.param({}, [], [80], id="the-same-by-default"),
        pytest.param({"targetPort": "http"}, [pod()], [8080], id="name-found-in-a-pod"),
        pytest.param({"targetPort": "none"}, [pod()], [80], id="unknown-name-is-the-port"),
        pytest.param(
            {"targetPort": 1},
            [pod(), factory.endpoints("shop/web", {"web": "10.0.0.1"}, ports={"http": 9090})],
            [9090],
            id="endpoints-know-best",
        ),
        pytest.param(
            {"targetPort": 1},
            [
                pod(),
                factory.endpoints("shop/web", not_ready={"web": "10.0.0.1"}, ports={"http": 9090}),
            ],
            [9090],
            id="ready-or-not",
        ),
        pytest.param(
            {"targetPort": 1},
            [
                pod(),
                factory.endpoint_slice(
                    "shop/web-a", "web", [factory.endpoint("10.0.0.1", pod="web")]
                ),
                factory.endpoints("shop/web", {"web": "10.0.0.1"}, ports={"http": 9090}),
            ],
            [8080],
            id="slices-replace-endpoints",
        ),
        pytest.param(
            {"targetPort": 1},
            [pod(), factory.endpoints("shop/web", {"web": "10.0.0.1"}, ports={"other": 9090})],
            [1],
            id="endpoints-without-that-port",
        ),
        pytest.param(
            {"targetPort": 1},
            [factory.endpoints("shop/web", ["10.9.9.9"], ports={"http": 9090})],
            [1],
            id="endpoints-that-are-no-pods",
        ),
    ],
)
def test_target_of_a_port(port: dict[str, Any], objects: list[Any], targets: list[int]) -> None:
    given = factory.service("shop/web", ports=[{"name": "http", "port": 80, **port}])
    assert [v.service.target for v in mesh(given, *objects).services.views] == targets


def test_named_port_with_two_numbers_is_two_services() -> None:
    found = mesh(
        factory.service(
            "shop/web",
            ports=[{"name": "http", "port": 80, "targetPort": "http"}],
            cluster_ip="10.96.0.1",
        ),
        pod("a", "10.0.0.1"),
        pod("b", "10.0.0.2"),
        pod("c", "10.0.0.3", ports={"http": 9090}),
        factory.endpoint_slice(
            "shop/web-a",
            "web",
            [factory.endpoint("10.0.0.1", pod="a"), factory.endpoint("10.0.0.2", pod="b")],
        ),
        factory.endpoint_slice(
            "shop/web-b", "web", [factory.endpoint("10.0.0.3", pod="c")], ports={"http": 9090}
        ),
    )
    assert found.services.views == (
        view(web(8080), "10.96.0.1", share=2),
        view(web(9090), "10.96.0.1", share=1),
    )
    assert found.endpoints.by_service == {
        web(8080): (endpoint("a", "10.0.0.1"), endpoint("b", "10.0.0.2")),
        web(9090): (endpoint("c", "10.0.0.3", 9090),),
    }
    backed = {pod.name: pod.services for pod in found.workloads.pods.values()}
    assert backed == {"a": (web(8080),), "b": (web(8080),), "c": (web(9090),)}


def test_ports_that_cannot_be_served_are_left_out_and_told() -> None:
    found = mesh(
        factory.service(
            "shop/web",
            ports=[
                {"name": "dns", "port": 53, "protocol": "UDP"},
                {"name": "odd", "port": 81, "appProtocol": "gopher"},
                {"name": "http", "port": 80, "targetPort": 8080},
                {"name": "again", "port": 80, "targetPort": 1},
                {"name": "tcp-x", "port": 82, "targetPort": 8080},
            ],
            cluster_ip="10.96.0.1",
        )
    )
    tcp = web(port=82, protocol=Protocol.TCP)
    assert [v.service for v in found.services.views] == [web(), tcp]
    assert [str(one) for one in found.rejected] == [
        (
            "Service shop/web: spec.ports[1].appProtocol: 'gopher' is not a protocol the mesh "
            "knows, so the port is skipped: use http, grpc, tcp or tcp-server-first (E5020)"
        ),
        (
            "Service shop/web: spec.ports[3]: repeats port 80: remove one, the first is in force "
            "(E3002)"
        ),
        (
            "Service shop/web: spec.ports[4]: leads to port 8080 of its Pods, which Service port "
            "80 serves as HTTP, so HTTP is in force: give both one protocol (E5020)"
        ),
    ]


HEADLESS = factory.service("shop/web", cluster_ip="None")
STATEFUL = [
    pod("web-0", "10.0.0.10"),
    pod("web-1", "10.0.0.9"),
    factory.endpoints(
        "shop/web", {"web-0": "10.0.0.10"}, not_ready={"web-1": "10.0.0.9"}, hostnames=True
    ),
]


def test_headless_service_is_dialled_at_its_pods() -> None:
    found = mesh(
        HEADLESS,
        pod("a", "10.0.0.10"),
        pod("b", "10.0.0.9"),
        pod("plain", "10.0.0.1", sidecar=False),
        factory.endpoints("shop/web", {"a": "10.0.0.10", "b": "10.0.0.9", "plain": "10.0.0.1"}),
    )
    assert found.services.views == (view(web(), "10.0.0.9", "10.0.0.10"),)


def test_stateful_set_has_a_service_per_host_name_and_the_base() -> None:
    found = mesh(HEADLESS, *STATEFUL)
    first, second = web(subdomain="web-0"), web(subdomain="web-1")
    assert found.services.views == (
        view(web(), "10.0.0.9", "10.0.0.10"),
        view(first, "10.0.0.10"),
        view(second, "10.0.0.9"),
    )
    ready = (endpoint("web-0", "10.0.0.10"),)
    assert found.endpoints.by_service == {web(): ready, first: ready, second: ()}
    backed = {pod.name: pod.services for pod in found.workloads.pods.values()}
    assert backed == {"web-0": (web(), first), "web-1": (web(), second)}
    assert found.services.by_identity == {CART: (web(), first, second)}


def test_headless_tcp_base_leaves_named_endpoints_to_their_own() -> None:
    ports = [{"name": "tcp-x", "port": 80, "targetPort": 8080}]
    found = mesh(
        factory.service("shop/web", cluster_ip="None", ports=ports),
        pod("web-0", "10.0.0.1"),
        pod("other", "10.0.0.2"),
        factory.endpoint_slice(
            "shop/web-a",
            "web",
            [
                factory.endpoint("10.0.0.1", pod="web-0", hostname="web-0"),
                factory.endpoint("10.0.0.2", pod="other"),
            ],
            ports={"tcp-x": 8080},
        ),
    )
    base, named = web(protocol=Protocol.TCP), web(protocol=Protocol.TCP, subdomain="web-0")
    assert found.services.views == (
        view(base, "10.0.0.2", port_name="tcp-x"),
        view(named, "10.0.0.1", port_name="tcp-x"),
    )
    assert len(found.endpoints.by_service[base]) == 2


def test_host_name_of_a_pod_may_differ_from_its_name() -> None:
    found = mesh(
        HEADLESS,
        pod("x", "10.0.0.1", spec={"hostname": "db"}),
        factory.endpoint_slice(
            "shop/web-a", "web", [factory.endpoint("10.0.0.1", pod="x", hostname="db")]
        ),
    )
    (only,) = found.workloads.pods.values()
    assert only.services == (web(), web(subdomain="db"))


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        pytest.param([factory.endpoint("10.0.0.1", pod="web")], [("10.0.0.1", False)], id="ready"),
        pytest.param([factory.endpoint("10.0.0.1", pod="web", ready=False)], [], id="not-ready"),
        pytest.param(
            [factory.endpoint("10.0.0.1", pod="web", ready=False, serving=True, terminating=True)],
            [("10.0.0.1", True)],
            id="terminating-but-serving",
        ),
        pytest.param([factory.endpoint("10.0.0.1", pod="gone")], [], id="pod-is-unknown"),
        pytest.param([factory.endpoint("10.0.0.7", pod="web")], [], id="address-of-the-pod-before"),
        pytest.param(
            [factory.endpoint("10.0.0.7", pod="new")],
            [("10.0.0.7", False)],
            id="pod-has-no-address-yet",
        ),
        pytest.param([factory.endpoint("10.0.0.1")], [("10.0.0.1", False)], id="by-address"),
        pytest.param([factory.endpoint("10.0.0.7")], [], id="address-of-nobody"),
        pytest.param([factory.endpoint("10.0.0.3", pod="plain")], [], id="no-sidecar"),
        pytest.param([factory.endpoint("web.example", pod="new")], [], id="a-name-no-address"),
        pytest.param(
            [factory.endpoint("fd00::1", pod="new"), factory.endpoint("10.0.0.1", pod="web")],
            [("10.0.0.1", False)],
            id="no-ipv6-beside-ipv4",
        ),
        pytest.param(
            [factory.endpoint("fd00::1", pod="new")], [("fd00::1", False)], id="only-ipv6"
        ),
        pytest.param(
            [factory.endpoint("10.0.0.1", pod="web")] * 2, [("10.0.0.1", False)], id="twice"
        ),
    ],
)
def test_endpoints_are_serving_pods_with_sidecars(
    members: list[Any], expected: list[tuple[str, bool]]
) -> None:
    found = mesh(
        SERVICE,
        pod(),
        pod("new", None),
        pod("plain", "10.0.0.3", sidecar=False),
        factory.endpoint_slice("shop/web-a", "web", members),
    )
    endpoints = found.endpoints.by_service[web()]
    assert [(one.address, one.draining) for one in endpoints] == expected


@pytest.mark.parametrize("sliced", [True, False])
def test_endpoint_of_a_deleted_pod_drains(sliced: bool) -> None:
    leaving = pod(meta={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    source = (
        factory.endpoint_slice("shop/web-a", "web", [factory.endpoint("10.0.0.1", pod="web")])
        if sliced
        else factory.endpoints("shop/web", {"web": "10.0.0.1"})
    )
    found = mesh(SERVICE, leaving, source)
    assert found.endpoints.by_service == {web(): (endpoint("web", "10.0.0.1", draining=True),)}


def test_endpoints_are_sorted_by_number() -> None:
    found = mesh(
        SERVICE,
        *(pod(f"p{i}", f"10.0.0.{i}") for i in (10, 9, 2)),
        factory.endpoints("shop/web", {f"p{i}": f"10.0.0.{i}" for i in (10, 9, 2)}),
    )
    addresses = [one.address for one in found.endpoints.by_service[web()]]
    assert addresses == ["10.0.0.2", "10.0.0.9", "10.0.0.10"]


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(factory.endpoints("shop/web", {"web": ""}), id="none"),
        pytest.param(
            factory.endpoint_slice(
                "shop/web-x", "web", [factory.endpoint("fe80::1%eth0", pod="web")]
            ),
            id="with-a-zone",
        ),
    ],
)
def test_an_address_that_is_none_is_left_out(found: Any) -> None:
    snapshot = mesh(SERVICE, pod(ip=""), found)
    assert snapshot.endpoints.by_service == {web(): ()}
