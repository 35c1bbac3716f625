"""The whole control plane as a process, asked by a real API server, with its own rights only."""

from __future__ import annotations

import itertools
import json
import signal
import threading
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from controller_process import OSM, ControllerProcess, account_token, ended, install_rights
from kube_server import ADMIN_TOKEN, KubeServer
from until import until

pytestmark = pytest.mark.kube

MESH = {"openservicemesh.io/monitored-by": "osm"}
INJECT = {"openservicemesh.io/sidecar-injection": "enabled"}
CONFIG = f"/apis/config.openservicemesh.io/v1alpha2/namespaces/{OSM}/meshconfigs/osm-mesh-config"


@pytest.fixture(scope="module")
def server(whole_kube: KubeServer) -> KubeServer:
    """For us alone: webhooks concern every namespace."""
    install_rights(whole_kube)
    return whole_kube


@pytest.fixture(scope="module")
def controller(
    server: KubeServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ControllerProcess]:
    folder = tmp_path_factory.mktemp("controller")
    kubeconfig = server.kubeconfig(account_token(server, OSM, "osm"))
    with ended(ControllerProcess(kubeconfig, folder)) as process:
        process.start()
        process.wait_until_ready()
        yield process


def pod(name: str) -> dict[str, Any]:
    container = {"name": "app", "image": "app:1"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [container]},
    }


def pods(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods"


def new_mesh_namespace(server: KubeServer, name: str) -> str:
    server.new_namespace(name, labels=MESH, annotations=INJECT)
    server.wait_for_account(name)
    return name


def bootstraps(server: KubeServer, namespace: str) -> list[dict[str, Any]]:
    found = server.call("GET", f"/api/v1/namespaces/{namespace}/secrets")["items"]
    return [one for one in found if one["metadata"]["name"].startswith("envoy-bootstrap-config-")]


def refusal(error: urllib.error.HTTPError) -> str:
    return str(json.loads(error.read())["message"])


def test_pod_gets_its_sidecar_and_a_bootstrap(
    server: KubeServer, controller: ControllerProcess
) -> None:
    namespace = new_mesh_namespace(server, "shop")
    made = server.call("POST", pods(namespace), pod("web"))
    names = [c["name"] for c in made["spec"]["containers"]]
    assert (names, [c["name"] for c in made["spec"]["initContainers"]]) == (
        ["app", "envoy"],
        ["osm-init"],
    )
    (secret,) = bootstraps(server, namespace)
    uuid = made["metadata"]["labels"]["osm-proxy-uuid"]
    assert secret["metadata"]["name"] == f"envoy-bootstrap-config-{uuid}"
    assert {"bootstrap.yaml"} <= secret["data"].keys()
    (told,) = controller.get("/api/v1/injections?namespace=shop", token=ADMIN_TOKEN)
    assert (told["outcome"], told["uuid"]) == ("injected", uuid)
    page = controller.get("/metrics")
    assert 'osm_http_response_total{code="200",method="POST",path="/mutate-pod-creation"}' in page
    assert 'osm_admission_webhook_response_total{kind="Pod",success="true"}' in page


def test_no_pod_is_quicker_than_its_namespace(
    server: KubeServer, controller: ControllerProcess
) -> None:
    for number in range(5):
        namespace = new_mesh_namespace(server, f"quick-{number}")
        made = server.call("POST", pods(namespace), pod("web"))
        assert "osm-proxy-uuid" in made["metadata"]["labels"]


def test_dry_run_leaves_no_secret(server: KubeServer, controller: ControllerProcess) -> None:
    namespace = new_mesh_namespace(server, "dry")
    made = server.call("POST", f"{pods(namespace)}?dryRun=All", pod("web"))
    assert "osm-proxy-uuid" in made["metadata"]["labels"]
    assert bootstraps(server, namespace) == []


def test_pod_outside_the_mesh_is_left_alone(
    server: KubeServer, controller: ControllerProcess
) -> None:
    server.new_namespace("outside")
    server.wait_for_account("outside")
    made = server.call("POST", pods("outside"), pod("web"))
    assert [c["name"] for c in made["spec"]["containers"]] == ["app"]


def test_pod_with_a_wrong_annotation_is_refused_in_words(
    server: KubeServer, controller: ControllerProcess
) -> None:
    namespace = new_mesh_namespace(server, "wrong")
    raw = pod("web")
    raw["metadata"]["annotations"] = {"openservicemesh.io/sidecar-injection": "maybe"}
    with pytest.raises(urllib.error.HTTPError) as caught:
        server.call("POST", pods(namespace), raw)
    assert "'maybe' is unknown; write enabled or disabled" in refusal(caught.value)


def test_invalid_object_is_refused_in_words(
    server: KubeServer, controller: ControllerProcess
) -> None:
    namespace = new_mesh_namespace(server, "policy")
    raw = {
        "apiVersion": "policy.openservicemesh.io/v1alpha1",
        "kind": "UpstreamTrafficSetting",
        "metadata": {"name": "setting"},
        "spec": {"host": "nodots"},
    }
    path = (
        f"/apis/policy.openservicemesh.io/v1alpha1/namespaces/{namespace}/upstreamtrafficsettings"
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        server.call("POST", path, raw)
    assert "'nodots'" in refusal(caught.value)
    raw["spec"] = {"host": "web.policy.svc.cluster.local"}
    assert server.call("POST", path, raw)["metadata"]["name"] == "setting"


def test_admin_api_asks_the_api_server_about_tokens(
    server: KubeServer, controller: ControllerProcess
) -> None:
    nobody = account_token(server, new_mesh_namespace(server, "nobody"), "default")
    reader = account_token(server, OSM, "osm-cli")
    statuses = {
        name: controller.status("/api/v1/mesh", token=token)
        for name, token in (("none", ""), ("bad", "x"), ("nobody", nobody), ("reader", reader))
    }
    assert statuses == {"none": 401, "bad": 401, "nobody": 403, "reader": 200}
    assert controller.status("/api/v1/mesh", token=ADMIN_TOKEN) == 200


def test_namespace_is_changed_with_the_rights_of_the_caller(
    server: KubeServer, controller: ControllerProcess
) -> None:
    server.new_namespace("joining")
    path = "/api/v1/namespaces/joining/membership"
    reader = account_token(server, OSM, "osm-cli")
    assert controller.status(path, method="PUT", token=reader) == 403
    assert "labels" not in server.call("GET", "/api/v1/namespaces/joining")["metadata"]
    assert controller.get(path, method="PUT", token=ADMIN_TOKEN)["changed"] is True
    assert server.call("GET", "/api/v1/namespaces/joining")["metadata"]["labels"] == MESH


def test_debug_server_is_open_while_the_mesh_config_says_so(
    server: KubeServer, controller: ControllerProcess
) -> None:
    for is_on, status in ((True, 200), (False, 0)):
        server.call("PATCH", CONFIG, {"spec": {"observability": {"enableDebugServer": is_on}}})
        until(lambda s=status: controller.status("/debug", port="debug") == s, "the debug server")


def admissions(controller: ControllerProcess) -> float:
    name = "osm_admission_webhook_response_total"
    lines = controller.get("/metrics").splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"{name}{{"))


def test_sigterm_cuts_no_admission_off(server: KubeServer, controller: ControllerProcess) -> None:
    namespace = new_mesh_namespace(server, "ending")
    failures: list[str] = []

    def create_until_refused(worker: int) -> None:
        for number in itertools.count():
            try:
                server.call("POST", f"{pods(namespace)}?dryRun=All", pod(f"w{worker}-{number}"))
            except urllib.error.HTTPError as error:
                failures.append(refusal(error))
                return

    workers = [threading.Thread(target=create_until_refused, args=(n,)) for n in range(3)]
    before = admissions(controller)
    for worker in workers:
        worker.start()
    until(lambda: admissions(controller) > before + 5, "admissions")
    began = time.monotonic()
    status = controller.end(signal.SIGTERM)
    took = time.monotonic() - began
    for worker in workers:
        worker.join(30)
    assert (status, took < 10) == (0, True)
    # Nobody listens any more, that is all; nothing broke off in the middle.
    assert [text for text in failures if "connection refused" not in text] == []
    assert len(failures) == len(workers)
    controller.start()
    controller.wait_until_ready()


def test_pods_are_refused_while_no_controller_runs(
    server: KubeServer, controller: ControllerProcess
) -> None:
    namespace = new_mesh_namespace(server, "alone")
    controller.end(signal.SIGKILL)
    with pytest.raises(urllib.error.HTTPError) as caught:
        server.call("POST", pods(namespace), pod("web"))
    assert "osm-inject.k8s.io" in refusal(caught.value)
    controller.start()
    controller.wait_until_ready()
    assert (
        "osm-proxy-uuid" in server.call("POST", pods(namespace), pod("web"))["metadata"]["labels"]
    )


@pytest.mark.parametrize(
    ("account", "environment", "reason", "words"),
    [
        pytest.param(
            "osm",
            {"OSM_CERTIFICATE_MANAGER": "vault"},
            "FatalInvalidCLIParameters",
            "not in this release",
            id="setting",
        ),
        pytest.param(
            "osm",
            {"OSM_INJECTOR_PORT": "0", "OSM_API_HOST": "192.0.2.1"},
            "FatalInitializationError",
            "cannot listen on 192.0.2.1",
            id="listener",
        ),
        pytest.param("osm-cli", {}, "", "not allowed to read", id="without-rights"),
    ],
)
def test_failure_to_start_is_told(
    server: KubeServer,
    tmp_path: Path,
    account: str,
    environment: dict[str, str],
    reason: str,
    words: str,
) -> None:
    kubeconfig = server.kubeconfig(account_token(server, OSM, account), namespace=OSM)
    pod_name = f"controller-of-{tmp_path.name.replace('_', '-')}"
    process = ControllerProcess(kubeconfig, tmp_path, CONTROLLER_POD_NAME=pod_name, **environment)
    with ended(process):
        process.start()
        assert process.process is not None
        assert process.process.wait(30) == 1
    lines = process.log.read_text().splitlines()
    told = [line for line in lines if "does not start" in line]
    assert words in told[0]
    assert json.loads(told[0])["error_code"].startswith("E")
    assert not [line for line in lines if "Traceback" in line]
    found = server.call("GET", f"/api/v1/namespaces/{OSM}/events")["items"]
    events = [event for event in found if event["involvedObject"]["name"] == pod_name]
    assert [event["reason"] for event in events] == ([reason] if reason else [])
    assert [event["message"] for event in events if words not in event["message"]] == []


def test_log_is_json_without_secrets(controller: ControllerProcess) -> None:
    lines = Path(controller.log).read_text().splitlines()
    assert {"component", "level", "message", "time"} <= json.loads(lines[0]).keys()
    for line in lines:
        json.loads(line)
        assert "PRIVATE KEY" not in line
        assert ADMIN_TOKEN not in line
    errors = [line for line in lines if json.loads(line)["level"] in ("error", "critical")]
    assert errors == []
