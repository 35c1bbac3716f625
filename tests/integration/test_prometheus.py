"""A real Prometheus with our scrape configuration reads a real controller and a real sidecar.

What arrives has the names and labels that dashboards and users ask for, and nothing else arrives.
Prometheus has the token and so the rights of its own account.
"""

from __future__ import annotations

import contextlib
import http.server
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import prometheus_server as prom
import pytest
from controller_process import OSM, ControllerProcess, account_token, ended, install_rights
from dashboards import chosen, expressions, filled, load_dashboards
from envoy_harness.counting import CountingEnvoy
from kube_server import KubeServer
from osm_command import kubectl
from until import until

from xds.policy.service import Workload

pytestmark = [pytest.mark.kube, pytest.mark.envoy]

SHOP = "shop-east"
DESTINATION = {
    "namespace": "shop-west",
    "kind": "StatefulSet",
    "name": "book-store",
    "pod": "book-store-0",
}
REQUESTS = {"osm_request_total"} | {
    f"osm_request_duration_ms_{part}" for part in ("bucket", "count", "sum")
}
DATA_PLANE = (
    "osm-data-plane-performance",
    "osm-pod-to-service",
    "osm-service-to-service",
    "osm-workload-to-service",
    "osm-workload-to-workload",
)
DASHBOARDS = load_dashboards()


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What was scraped, and by whom."""

    prometheus: prom.Prometheus
    pod: str
    """Of the caller."""
    sidecar: str
    """Where its metrics are."""
    controller: str


@pytest.fixture(scope="module")
def world(whole_kube: KubeServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    install_rights(whole_kube)
    kubectl(whole_kube, "apply", "-k", str(prom.OBSERVABILITY))
    folder = tmp_path_factory.mktemp("prometheus")
    with contextlib.ExitStack() as stack:
        envoy = stack.enter_context(envoy_of_the_caller(tmp_path_factory))
        account = account_token(whole_kube, OSM, "osm")
        controller = ControllerProcess(whole_kube.kubeconfig(account), folder)
        stack.enter_context(ended(controller)).start()
        pod = run_pods(whole_kube, envoy.admin_port, controller.ports["api"])
        token = folder / "token"
        token.write_text(account_token(whole_kube, OSM, "osm-prometheus"))
        kubelet = stack.enter_context(kubelet_of(whole_kube, token.read_text(), pod))
        found = stack.enter_context(discovery(whole_kube, kubelet))
        controller.wait_until_ready()
        config = prom.config_for_test(found.url, token, whole_kube.ca_file)
        prometheus = stack.enter_context(prom.Prometheus(folder, config))
        await_everything(prometheus, envoy)
        yield World(
            prometheus=prometheus,
            pod=pod,
            sidecar=f"127.0.0.1:{envoy.admin_port}",
            controller=f"127.0.0.1:{controller.ports['api']}",
        )


@contextlib.contextmanager
def envoy_of_the_caller(temporary: pytest.TempPathFactory) -> Iterator[CountingEnvoy]:
    with CountingEnvoy(
        temporary.mktemp("envoy"),
        source=Workload(namespace=SHOP, kind="Deployment", name="book-buyer"),
        service="shop-west/book-store|14001",
        destination=DESTINATION,
    ) as envoy:
        yield envoy


def run_pods(server: KubeServer, sidecar_port: int, controller_port: int) -> str:
    """Pods are there, as they would run; the name of the caller's."""
    server.new_namespace(SHOP)
    server.wait_for_account(SHOP)
    annotations = scraped(sidecar_port, "/stats/prometheus")
    sidecar = {"app": "buyer", "osm-proxy-uuid": "4d6a"}
    apps = f"/apis/apps/v1/namespaces/{SHOP}"
    server.call("POST", f"{apps}/deployments", workload("book-buyer", sidecar, annotations))
    ledger = workload("ledger", {"app": "ledger"}, annotations)
    server.call("POST", f"{apps}/statefulsets", ledger)
    for name, marks in (("unmarked", {}), ("done", annotations)):
        raw = pod({"name": name, "labels": {"app": name}, "annotations": marks})
        server.call("POST", pods(SHOP), raw)
    control = {"app": "osm-controller"}
    raw = pod({"name": "control", "labels": control, "annotations": scraped(controller_port)})
    server.call("POST", pods(OSM), raw)
    found = {name: started(server, SHOP, name) for name in ("buyer", "ledger", "unmarked")}
    started(server, SHOP, "done", "Succeeded")
    started(server, OSM, "osm-controller")
    return found["buyer"]


def scraped(port: int, path: str = "") -> dict[str, str]:
    marks = {"prometheus.io/scrape": "true", "prometheus.io/port": str(port)}
    return {**marks, "prometheus.io/path": path} if path else marks


def pod(metadata: dict[str, Any]) -> dict[str, Any]:
    # Two ports, so two targets are discovered; one must be left.
    ports = [{"containerPort": 80}, {"containerPort": 81}]
    return {
        "metadata": metadata,
        "spec": {"containers": [{"name": "app", "image": "a", "ports": ports}]},
    }


def workload(name: str, labels: dict[str, str], annotations: dict[str, str]) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {
            "serviceName": name,
            "selector": {"matchLabels": {"app": labels["app"]}},
            "template": pod({"labels": labels, "annotations": annotations}),
        },
    }


def pods(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods"


def started(server: KubeServer, namespace: str, app: str, phase: str = "Running") -> str:
    """The name of the Pod, which has an address now."""
    path = f"{pods(namespace)}?labelSelector=app={app}"
    (found,) = until(lambda: server.call("GET", path)["items"], f"a Pod of {app}")
    name = found["metadata"]["name"]
    status = {"phase": phase, "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}
    server.call("PATCH", f"{pods(namespace)}/{name}/status", {"status": status})
    return str(name)


@contextlib.contextmanager
def kubelet_of(server: KubeServer, token: str, pod: str) -> Iterator[str]:
    """The address of a kubelet that shows metrics to whoever has the token."""
    pages = {
        "/metrics": 'kubelet_running_pods 3\nkubelet_x_bucket{le="1"} 1\n',
        "/metrics/cadvisor": "".join(
            f'{name}{{namespace="{SHOP}",pod="{pod}",container="{container}"}} 1\n'
            for name in ("container_cpu_usage_seconds_total", "container_memory_rss", "container_x")
            for container in ("envoy", "app", "POD", "")
        ),
    }

    class Kubelet(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            may = self.headers["authorization"] == f"Bearer {token}"
            self.send_response(200 if may else 401)
            self.send_header("content-type", "text/plain")
            self.end_headers()
            self.wfile.write(pages[self.path].encode() if may else b"")

        def log_message(self, *_: object) -> None:
            """Nothing is written."""

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Kubelet)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.ca_file, server.ca_file.with_suffix(".key"))
    running.socket = context.wrap_socket(running.socket, server_side=True)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{running.server_address[1]}"
    running.shutdown()
    running.server_close()


def discovery(server: KubeServer, kubelet: str) -> prom.Discovery:
    """What Prometheus would find in the cluster, but for an API server that has no address."""
    address = server.url.removeprefix("https://")

    def found_pods() -> list[prom.Target]:
        items = server.call("GET", "/api/v1/pods")["items"]
        return [target for raw in items for target in prom.pod_targets(raw)]

    return prom.Discovery(
        pod=found_pods,
        endpoints=lambda: [
            prom.endpoint_target(address, namespace="default", service=service, port=port)
            for service, port in (("kubernetes", "https"), ("other", "https"))
        ],
        node=lambda: [prom.node_target(kubelet, "node-1")],
    )


def await_everything(prometheus: prom.Prometheus, envoy: CountingEnvoy) -> None:
    """Each job has brought something twice, so that rates are known."""

    def busy() -> bool:
        for path in ("/ok", "/broken", "/nowhere"):
            envoy.call(path)
        return all(
            prometheus.query(wanted)
            for wanted in (
                "count(rate(osm_request_total[1m]) > 0) == 3",
                # Envoy merges histograms every five seconds.
                "count(rate(osm_request_duration_ms_count[1m]) > 0) == 3",
                "count(count_over_time(up[1m]) > 2) == 7",
            )
        )

    until(busy, "rates of requests")


# Whom it asks


def test_only_annotated_running_pods_are_asked_and_each_once(world: World) -> None:
    asked = {
        job: sorted(
            one["scrapeUrl"] for one in world.prometheus.targets() if one["scrapePool"] == job
        )
        for job in ("kubernetes-pods", "smi-metrics")
    }
    sidecar = f"http://{world.sidecar}/stats/prometheus"
    assert asked == {
        # One for the Deployment's Pod, one for the StatefulSet's.
        "kubernetes-pods": sorted([f"http://{world.controller}/metrics", sidecar, sidecar]),
        "smi-metrics": [f"{sidecar}?filter=osm.request_"],
    }


def test_everybody_answers(world: World) -> None:
    found = {
        (one["scrapePool"], one["health"], one["lastError"]) for one in world.prometheus.targets()
    }
    jobs = [job["job_name"] for job in prom.shipped_config()["scrape_configs"]]
    assert found == {(job, "up", "") for job in jobs}


# What it keeps


def test_metrics_of_a_sidecar_have_the_labels_of_its_pod(world: World) -> None:
    assert world.prometheus.labels('envoy_server_live{source_service="buyer"}') == [
        {
            "__name__": "envoy_server_live",
            "job": "kubernetes-pods",
            "instance": world.sidecar,
            "source_namespace": SHOP,
            "source_pod_name": world.pod,
            "source_service": "buyer",
            "source_workload_kind": "Deployment",
            "source_workload_name": "book-buyer",
        }
    ]


def test_other_workloads_than_deployments_keep_their_kind(world: World) -> None:
    (found,) = world.prometheus.labels('envoy_server_live{source_service="ledger"}')
    assert found["source_pod_name"] == "ledger-0"
    assert found["source_workload_kind"] == "StatefulSet"
    assert found["source_workload_name"] == "ledger"


def test_a_pod_of_nobody_has_no_workload(world: World) -> None:
    (found,) = world.prometheus.labels("osm_version_info")
    assert found["source_service"] == "osm-controller"
    assert (found["source_namespace"], found["source_pod_name"]) == (OSM, "control")
    assert {"source_workload_kind", "source_workload_name"} & set(found) == set()


def test_requests_are_counted_between_workloads(world: World) -> None:
    caller = {
        "__name__": "osm_request_total",
        "job": "smi-metrics",
        "instance": world.sidecar,
        "source_namespace": SHOP,
        "source_kind": "Deployment",
        "source_name": "book-buyer",
        "source_pod": "bookbuyer-pod",
    }
    called = {f"destination_{name}": value for name, value in DESTINATION.items()}
    nobody = dict.fromkeys(called, "unknown")
    found = world.prometheus.labels("osm_request_total")
    assert sorted(found, key=lambda one: one["response_code"]) == [
        {**caller, **called, "response_code": "200"},
        {**caller, **called, "response_code": "500"},
        {**caller, **nobody, "response_code": "503"},
    ]


def test_the_time_of_requests_is_a_histogram(world: World) -> None:
    quantile = "histogram_quantile(0.99, sum by (le) (rate(osm_request_duration_ms_bucket[1m])))"
    (found,) = world.prometheus.query(quantile)
    assert 0 <= float(found["value"][1]) < 1000


def test_nothing_else_is_kept(world: World) -> None:
    names = {job: world.prometheus.names(job) for job in ("kubernetes-pods", "smi-metrics")}
    assert names["smi-metrics"] == REQUESTS
    others = {name for name in names["kubernetes-pods"] if not name.startswith("osm_")}
    assert {"_".join(name.split("_")[:2]) for name in others} == {"envoy_cluster", "envoy_server"}
    assert "envoy_cluster_upstream_cx_total" not in others
    assert world.prometheus.names("kubernetes-nodes") == {"kubelet_running_pods"}
    assert world.prometheus.names("kubernetes-cadvisor") == {
        "container_cpu_usage_seconds_total",
        "container_memory_rss",
    }
    assert world.prometheus.names("kubernetes-apiservers") <= {
        "apiserver_watch_events_total",
        "apiserver_admission_webhook_rejection_count",
    }
    assert "apiserver_watch_events_total" in world.prometheus.names("kubernetes-apiservers")


# What is asked of it


@pytest.mark.parametrize(
    ("name", "panel"),
    [
        pytest.param(name, panel, id=f"{name}: {panel['title']}")
        for name, found in DASHBOARDS.items()
        for panel in found["panels"]
    ],
)
def test_a_panel_can_be_drawn(world: World, name: str, panel: dict[str, Any]) -> None:
    values = chosen(DASHBOARDS[name], world.prometheus.labels)
    found = [world.prometheus.query(filled(one, values)) for one in expressions(panel)]
    # What a controller tells depends on what happens to it; its panels may be empty.
    assert name not in DATA_PLANE or all(found), (values, expressions(panel))
