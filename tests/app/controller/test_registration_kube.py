"""Registration with a real API server: upgrade, presets, webhooks that are kept."""

import base64
import copy
import itertools
import json
import threading
import urllib.error
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from kube_server import KubeServer
from until import until

from app.compute.kube_client import KubeClient
from app.controller.crds import load_crds
from app.controller.registration import Registration
from app.metrics import Metrics
from app.objects.meta import RawObject
from app.settings import Settings

pytestmark = pytest.mark.kube

LABEL = "openservicemesh.io/reconcile"
CRDS = load_crds()
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
MUTATING = f"{ADMISSION}/mutatingwebhookconfigurations"
VALIDATING = f"{ADMISSION}/validatingwebhookconfigurations"
ROOT = b"-----BEGIN CERTIFICATE-----\nroot\n-----END CERTIFICATE-----\n"
DEADLINE_SECONDS = 10
QUIET_SECONDS = 1.0
NUMBERS = itertools.count()


class Scene:
    """A mesh of its own on the shared server, with two names of configurations."""

    def __init__(self, server: KubeServer, name: str) -> None:
        self.server, self.name = server, name
        self.mutating = f"{MUTATING}/osm-webhook-{name}"
        self.validating = f"{VALIDATING}/osm-validator-mesh-{name}"
        self.roots, self.metrics = ROOT, Metrics()
        self.replicas: list[Registration] = []

    def replica(self, **options: Any) -> Registration:
        settings = Settings(
            **{
                "mesh_name": self.name,
                "osm_namespace": self.name,
                "osm_version": "2.0.0",
                **options,
            }
        )
        made = Registration(
            KubeClient.from_kubeconfig(self.server.kubeconfig()),
            settings,
            crds=CRDS,
            trust=lambda: self.roots,
            metrics=self.metrics,
        )
        self.replicas.append(made)
        return made

    def running(self, **options: Any) -> Registration:
        made = self.replica(**options)
        made.register()
        made.start()
        return made

    def get(self, path: str) -> Any:
        code, answer = self.ask("GET", path)
        assert code in (200, 404), answer
        return answer if code == 200 else None

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status code and answer, also of a refusal: text where the path itself is unknown."""
        try:
            return 200, self.server.call(method, path, body)
        except urllib.error.HTTPError as error:
            text = error.read()
            return error.code, json.loads(text) if text.startswith(b"{") else text.decode()

    def policies(self) -> set[str]:
        return {webhook["failurePolicy"] for webhook in self.get(self.validating)["webhooks"]}

    def preset(self, spec: RawObject) -> None:
        self.server.new_namespace(self.name, labels={"control-plane": "osm"})
        self.server.call(
            "POST",
            f"/api/v1/namespaces/{self.name}/configmaps",
            {
                "metadata": {"name": "preset-mesh-config"},
                "data": {"preset-mesh-config.json": json.dumps(spec)},
            },
        )

    def end(self) -> None:
        for replica in self.replicas:
            replica.stop()
        for path in (self.mutating, self.validating):
            if self.get(path) is not None:
                self.server.call("DELETE", path)


@pytest.fixture
def scene(whole_kube: KubeServer) -> Iterator[Scene]:
    made = Scene(whole_kube, f"mesh-{next(NUMBERS)}")
    yield made
    made.end()


def eventually(holds: Callable[[], bool], seconds: float = DEADLINE_SECONDS) -> bool:
    try:
        return until(holds, "it", seconds=seconds)
    except TimeoutError:
        return False


def definition(kind: str) -> RawObject:
    return next(copy.deepcopy(crd) for crd in CRDS if crd["spec"]["names"]["kind"] == kind)


def without_definitions(scene: Scene, *kinds: str) -> None:
    paths = [f"{DEFINITIONS}/{definition(kind)['metadata']['name']}" for kind in kinds]
    for path in paths:
        if scene.get(path) is not None:
            scene.server.call("DELETE", path)
    assert eventually(lambda: not any(scene.get(path) for path in paths))


# Definitions


def left_behind(kind: str, *versions: str) -> RawObject:
    """As an old original left it: some versions, converted by a webhook that is gone."""
    crd = definition(kind)
    old = {
        "openAPIV3Schema": {
            "type": "object",
            "properties": {
                "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
            },
        }
    }
    crd["spec"]["versions"] = [
        {"name": name, "served": True, "storage": name == versions[-1], "schema": old}
        for name in versions
    ]
    crd["spec"]["conversion"] = {
        "strategy": "Webhook",
        "webhook": {
            "clientConfig": {
                "service": {
                    "namespace": "osm-system",
                    "name": "osm-bootstrap",
                    "path": "/convert",
                    "port": 9443,
                }
            },
            "conversionReviewVersions": ["v1beta1", "v1"],
        },
    }
    crd["metadata"]["labels"][LABEL] = "v1.0.0"
    return crd


def post_when_served(scene: Scene, path: str, raw: RawObject) -> None:
    def is_taken() -> bool:
        code, answer = scene.ask("POST", path, raw)
        assert code in (200, 404), answer
        return code == 200

    assert eventually(is_taken)


def test_original_definitions_and_their_objects_are_taken_over(scene: Scene) -> None:
    without_definitions(scene, "MeshConfig", "TrafficSplit")
    for crd in (left_behind("MeshConfig", "v1alpha1"), left_behind("TrafficSplit", "v1alpha1")):
        scene.server.call("POST", DEFINITIONS, crd)
    configs = "/apis/config.openservicemesh.io/{}/namespaces/default/meshconfigs"
    post_when_served(
        scene,
        configs.format("v1alpha1"),
        {
            "apiVersion": "config.openservicemesh.io/v1alpha1",
            "kind": "MeshConfig",
            "metadata": {"name": "osm-mesh-config"},
            "spec": {"traffic": {"enableEgress": True}, "gone": 1},
        },
    )
    scene.replica().prepare()
    found = scene.get(f"{DEFINITIONS}/meshconfigs.config.openservicemesh.io")
    assert found["spec"] == definition("MeshConfig")["spec"]
    assert found["metadata"]["labels"][LABEL] == "2.0.0"
    config = scene.get(f"{configs.format('v1alpha2')}/osm-mesh-config")
    assert config["spec"]["traffic"]["enableEgress"] is True
    split = scene.get(f"{DEFINITIONS}/trafficsplits.split.smi-spec.io")
    assert split["spec"]["conversion"] == {"strategy": "None"}
    assert [(one["name"], one["served"]) for one in split["spec"]["versions"]] == [
        ("v1alpha4", True),
        ("v1alpha3", False),
        ("v1alpha2", True),
        ("v1alpha1", False),
    ]
    without_definitions(scene, "TrafficSplit")


def test_replicas_that_start_together_write_everything_once(scene: Scene) -> None:
    without_definitions(scene, *[crd["spec"]["names"]["kind"] for crd in CRDS])
    scene.preset({"traffic": {"enableEgress": True}})
    replicas = [scene.replica() for _ in range(3)]
    together = threading.Barrier(len(replicas))

    def start(replica: Registration) -> None:
        together.wait(DEADLINE_SECONDS)
        replica.prepare()
        replica.register()
        replica.set_ready()

    with ThreadPoolExecutor(len(replicas)) as pool:
        list(pool.map(start, replicas))
    config = scene.get(
        f"/apis/config.openservicemesh.io/v1alpha2/namespaces/{scene.name}/meshconfigs/osm-mesh-config"
    )
    assert config["spec"]["traffic"]["enableEgress"] is True
    assert scene.policies() == {"Fail", "Ignore"}


def test_second_start_changes_nothing(scene: Scene) -> None:
    scene.replica().prepare()
    scene.replica().register()
    paths = [f"{DEFINITIONS}/{crd['metadata']['name']}" for crd in CRDS]
    paths += [scene.mutating, scene.validating]
    before = [scene.get(path)["metadata"]["resourceVersion"] for path in paths]
    again = scene.replica()
    again.prepare()
    again.register()
    again.refresh()
    assert [scene.get(path)["metadata"]["resourceVersion"] for path in paths] == before


def test_mesh_config_that_exists_is_left_alone(scene: Scene) -> None:
    replica = scene.replica()
    replica.prepare()
    scene.preset({"traffic": {"enableEgress": True}})
    path = f"/apis/config.openservicemesh.io/v1alpha2/namespaces/{scene.name}/meshconfigs"
    own = {"traffic": {"enableEgress": False, "enableCrossNamespaceEgress": False}}
    scene.server.call(
        "POST",
        path,
        {
            "apiVersion": "config.openservicemesh.io/v1alpha2",
            "kind": "MeshConfig",
            "metadata": {"name": "osm-mesh-config"},
            "spec": own,
        },
    )
    replica.prepare()
    assert scene.get(f"{path}/osm-mesh-config")["spec"] == own


# Webhooks


def test_validation_becomes_fail_and_roots_are_renewed(scene: Scene) -> None:
    replica = scene.replica()
    replica.register()
    assert scene.policies() == {"Ignore"}
    replica.set_ready()
    scene.roots = ROOT.replace(b"root", b"newer")
    replica.refresh()
    scene.replica().register()
    assert scene.policies() == {"Fail", "Ignore"}
    bundles = {
        webhook["clientConfig"]["caBundle"]
        for path in (scene.mutating, scene.validating)
        for webhook in scene.get(path)["webhooks"]
    }
    assert {base64.b64decode(bundle) for bundle in bundles} == {scene.roots}


@pytest.mark.parametrize("which", ["mutating", "validating"])
def test_altered_and_deleted_configurations_come_back(scene: Scene, which: str) -> None:
    replica = scene.running()
    replica.set_ready()
    path = getattr(scene, which)
    good = scene.get(path)
    altered = {"webhooks": [], "metadata": {"labels": {"app": "other"}}}
    scene.server.call("PATCH", path, altered)
    assert eventually(lambda: parts(scene.get(path)) == parts(good))
    scene.server.call("DELETE", path)
    assert eventually(lambda: parts(scene.get(path)) == parts(good))
    replica.stop()
    assert scene.metrics.reconciliations.get(good["kind"]) == 2


def parts(raw: RawObject | None) -> Any:
    return None if raw is None else (raw.get("webhooks"), raw["metadata"]["labels"])


def test_configuration_whose_label_was_removed_is_nobodys(scene: Scene) -> None:
    replica = scene.running()
    scene.server.call("PATCH", scene.mutating, {"metadata": {"labels": {LABEL: None}}})
    scene.server.call("PATCH", scene.mutating, {"webhooks": []})
    assert eventually(lambda: bool(replica.problems()))
    assert not eventually(lambda: bool(scene.get(scene.mutating).get("webhooks")), QUIET_SECONDS)
    scene.server.call("DELETE", scene.mutating)
    assert not eventually(lambda: scene.get(scene.mutating) is not None, QUIET_SECONDS)


def test_definitions_come_back_where_asked_for(scene: Scene) -> None:
    replica = scene.replica(enable_reconciler=True)
    replica.prepare()
    replica.register()
    replica.start()
    path = f"{DEFINITIONS}/retries.policy.openservicemesh.io"
    first = scene.get(path)["metadata"]["uid"]
    scene.server.call("PATCH", path, {"spec": {"names": {"shortNames": ["again"]}}})
    wanted = definition("Retry")["spec"]
    assert eventually(lambda: scene.get(path)["spec"] == wanted)
    scene.server.call("DELETE", path)
    assert eventually(
        lambda: (scene.get(path) or {}).get("spec") == wanted and is_new(scene, first)
    )


def is_new(scene: Scene, uid: str) -> bool:
    found = scene.get(f"{DEFINITIONS}/retries.policy.openservicemesh.io")
    return found is not None and found["metadata"]["uid"] != uid


POD = {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "a", "image": "a"}]}}


@pytest.mark.parametrize(
    ("labels", "is_asked"),
    [
        pytest.param({}, True, id="of-the-mesh"),
        pytest.param({"openservicemesh.io/monitored-by": None}, False, id="not-of-the-mesh"),
        pytest.param({"openservicemesh.io/monitored-by": "other"}, False, id="of-another-mesh"),
        pytest.param({"openservicemesh.io/ignore": "true"}, False, id="ignored"),
        pytest.param({"control-plane": "osm"}, False, id="of-a-control-plane"),
        pytest.param({"kubernetes.io/metadata.name": "kube-system"}, False, id="of-kubernetes"),
    ],
)
def test_pods_need_us_in_namespaces_of_the_mesh_only(
    scene: Scene, labels: dict[str, str | None], is_asked: bool
) -> None:
    scene.replica().register()
    wanted = {"openservicemesh.io/monitored-by": scene.name, **labels}
    given = {key: value for key, value in wanted.items() if value is not None}
    namespace = scene.server.new_namespace(f"{scene.name}-pods", labels=given)
    scene.server.wait_for_account(namespace)
    code, answer = scene.ask("POST", f"/api/v1/namespaces/{namespace}/pods", POD)
    assert code == (500 if is_asked else 200), answer
    assert ("osm-inject.k8s.io" in answer.get("message", "")) is is_asked
