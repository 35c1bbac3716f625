"""The steps by which a control plane makes itself known to an API server."""

import base64
import json
import math
import threading
from typing import Any

import pytest
from fakes.awaited import Awaited
from fakes.cluster import FakeCluster

from app.controller.registration import Registration
from app.controller.webhooks import injection_ref, validation_ref
from app.errors import (
    ForbiddenError,
    InjectionRegistrationError,
    NotFoundError,
    ObjectError,
    UnreachableError,
    ValidationRegistrationError,
    WriteConflict,
)
from app.metrics import Metrics
from app.objects.meta import ObjectRef, RawObject
from app.settings import Settings

MUTATING = ("MutatingWebhookConfiguration", "osm-webhook-osm")
VALIDATING = ("ValidatingWebhookConfiguration", "osm-validator-mesh-osm")
LABEL = "openservicemesh.io/reconcile"
ROOT = b"-----BEGIN CERTIFICATE-----\nroot\n-----END CERTIFICATE-----\n"
NEWER = ROOT.replace(b"root", b"newer")
CRD: RawObject = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "meshconfigs.config.openservicemesh.io"},
    "spec": {"versions": [{"name": "v1alpha2", "storage": True}]},
}


class Scene:
    """A registration with a cluster in memory and roots that can change."""

    def __init__(self, *objects: RawObject, cluster: FakeCluster | None = None, **options: Any):
        self.cluster = cluster or FakeCluster(*objects)
        self.roots, self.metrics = ROOT, Metrics()
        self.registration = self.replica(**options)

    def replica(self, **options: Any) -> Registration:
        return Registration(
            self.cluster,
            Settings(**{"osm_version": "2.0.0", **options}),
            crds=[CRD],
            trust=lambda: self.roots,
            metrics=self.metrics,
        )

    def policies(self) -> dict[str, str]:
        """failurePolicy by webhook."""
        found = self.cluster.get(*VALIDATING) or {}
        return {one["name"].split(".")[0]: one["failurePolicy"] for one in found["webhooks"]}

    def bundles(self) -> set[bytes]:
        """The roots in all webhooks."""
        found = [self.cluster.get(*MUTATING), self.cluster.get(*VALIDATING)]
        return {
            base64.b64decode(webhook["clientConfig"]["caBundle"])
            for raw in found
            for webhook in (raw or {})["webhooks"]
        }

    def put(self, which: tuple[str, str], **changes: Any) -> RawObject:
        raw: RawObject = {**(self.cluster.get(*which) or {}), **changes}
        self.cluster.put(raw)
        return raw


AT_FIRST = {
    "osm-validator": "Ignore",
    "osm-control-plane-validator": "Ignore",
    "osm-warnings": "Ignore",
    "osm-control-plane-warnings": "Ignore",
}
WHEN_READY = {**AT_FIRST, "osm-validator": "Fail", "osm-control-plane-validator": "Fail"}


# Definitions and the first MeshConfig


def preset(text: str) -> RawObject:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "preset-mesh-config", "namespace": "osm-system"},
        "data": {"preset-mesh-config.json": text},
    }


SPEC = {"traffic": {"enableEgress": True}}


def mesh_config(**spec: Any) -> RawObject:
    return {
        "apiVersion": "config.openservicemesh.io/v1alpha2",
        "kind": "MeshConfig",
        "metadata": {"name": "osm-mesh-config", "namespace": "osm-system"},
        "spec": spec,
    }


def config_in(cluster: FakeCluster) -> Any:
    found = cluster.get("MeshConfig", "osm-mesh-config", "osm-system")
    return None if found is None else found["spec"]


def test_definitions_are_applied_before_the_mesh_config_is_made() -> None:
    scene = Scene(preset(json.dumps(SPEC)))
    scene.registration.prepare()
    assert [ref for verb, ref in scene.cluster.calls if verb == "create"] == [
        "CustomResourceDefinition meshconfigs.config.openservicemesh.io",
        "MeshConfig osm-system/osm-mesh-config",
    ]
    crd = scene.cluster.get("CustomResourceDefinition", CRD["metadata"]["name"]) or {}
    assert crd["metadata"]["labels"][LABEL] == "2.0.0"


def test_mesh_config_is_made_of_its_preset_for_kubectl_to_apply_to() -> None:
    scene = Scene(preset(json.dumps(SPEC)), mesh_name="books")
    scene.registration.prepare()
    found = scene.cluster.get("MeshConfig", "osm-mesh-config", "osm-system") or {}
    labels = {
        "app.kubernetes.io/instance": "books",
        "app.kubernetes.io/name": "openservicemesh.io",
    }
    assert (found["spec"], found["metadata"]["labels"]) == (SPEC, labels)
    (note,) = found["metadata"]["annotations"].values()
    assert json.loads(note)["spec"] == SPEC


@pytest.mark.parametrize(
    ("objects", "spec"),
    [
        pytest.param([mesh_config(), preset(json.dumps(SPEC))], {}, id="existing-is-left-alone"),
        pytest.param([mesh_config(), preset("broken")], {}, id="preset-is-not-even-read"),
        pytest.param([], None, id="no-preset"),
    ],
)
def test_no_mesh_config_is_made(objects: list[RawObject], spec: Any) -> None:
    scene = Scene(*objects)
    scene.registration.prepare()
    assert config_in(scene.cluster) == spec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("{", "preset-mesh-config.json is not JSON", id="broken"),
        pytest.param("[]", "must be the spec of a MeshConfig, an object", id="a-list"),
    ],
)
def test_preset_that_is_none_is_named(text: str, message: str) -> None:
    with pytest.raises(ObjectError, match=f"ConfigMap osm-system/preset-mesh-config: .*{message}"):
        Scene(preset(text)).registration.prepare()


@pytest.mark.parametrize(
    ("error", "made"),
    [
        pytest.param(WriteConflict("exists"), None, id="another-replica-was-first"),
        pytest.param(NotFoundError("no such kind"), SPEC, id="kind-is-not-served-yet"),
    ],
)
def test_making_the_mesh_config_meets_others(error: Exception, made: Any) -> None:
    scene = Scene(preset(json.dumps(SPEC)))
    scene.cluster.fail("create", error, kind="MeshConfig")
    scene.registration.prepare()
    assert config_in(scene.cluster) == made


# Webhooks


def test_validation_ignores_at_first_and_fails_once_ready() -> None:
    scene = Scene()
    scene.registration.register()
    assert (scene.policies(), scene.bundles()) == (AT_FIRST, {ROOT})
    scene.registration.set_ready()
    assert scene.policies() == WHEN_READY


def test_second_and_restarted_replicas_keep_fail() -> None:
    scene = Scene()
    scene.registration.register()
    scene.registration.set_ready()
    second = scene.replica()
    second.register()
    assert scene.policies() == WHEN_READY
    scene.cluster.remove(*VALIDATING)
    second.register()
    assert scene.policies() == WHEN_READY


def test_registering_again_writes_nothing() -> None:
    scene = Scene()
    scene.registration.register()
    before = len(scene.cluster.calls)
    scene.registration.register()
    scene.registration.refresh()
    assert {verb for verb, _ in scene.cluster.calls[before:]} == {"read"}


def test_refresh_gives_the_newest_roots_to_all_webhooks() -> None:
    scene = Scene()
    scene.registration.register()
    scene.roots = NEWER
    scene.registration.refresh()
    assert scene.bundles() == {NEWER}


def test_configurations_of_an_original_are_taken_over() -> None:
    def original(kind: str, name: str, webhook: str) -> RawObject:
        return {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": {
                "name": name,
                "labels": {"app.kubernetes.io/version": "v1.2.4", "team": "mesh"},
            },
            "webhooks": [{"name": webhook, "failurePolicy": "Fail", "timeoutSeconds": 20}],
        }

    fresh = Scene()
    fresh.registration.register()
    scene = Scene(
        original(*MUTATING, "osm-inject.k8s.io"), original(*VALIDATING, "osm-validator.k8s.io")
    )
    scene.registration.register()
    mutating = scene.cluster.get(*MUTATING) or {}
    clean = fresh.cluster.get(*MUTATING) or {}
    assert mutating["webhooks"] == clean["webhooks"]
    assert mutating["metadata"]["labels"] == {**clean["metadata"]["labels"], "team": "mesh"}
    # What refused before does not cease to.
    assert scene.policies() == WHEN_READY


def test_configuration_that_was_taken_from_us_stays_so_over_a_restart() -> None:
    scene = Scene()
    scene.registration.register()
    raw = scene.cluster.get(*MUTATING) or {}
    del raw["metadata"]["labels"][LABEL]
    scene.cluster.put({**raw, "webhooks": []})
    scene.replica().register()
    assert (scene.cluster.get(*MUTATING) or {})["webhooks"] == []
    scene.replica(osm_version="2.1.0").register()
    assert len((scene.cluster.get(*MUTATING) or {})["webhooks"]) == 1


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        pytest.param(MUTATING[0], InjectionRegistrationError, id="injection"),
        pytest.param(VALIDATING[0], ValidationRegistrationError, id="validation"),
    ],
)
def test_start_ends_where_a_configuration_cannot_be_written(
    kind: str, error: type[Exception]
) -> None:
    scene = Scene()
    scene.cluster.fail("create", ForbiddenError("may not"), kind=kind)
    with pytest.raises(error, match=f"{kind} osm-.*: may not"):
        scene.registration.register()
    scene.registration.register()


@pytest.mark.parametrize("roots", [b"", b"not PEM"])
def test_nothing_is_written_without_roots(roots: bytes) -> None:
    scene = Scene()
    scene.roots = roots
    with pytest.raises(InjectionRegistrationError, match="there is no root"):
        scene.registration.register()
    assert scene.cluster.objects == {}


def test_refresh_that_fails_harms_nobody_and_is_made_up_for() -> None:
    scene = Scene()
    scene.registration.register()
    scene.roots = NEWER
    scene.cluster.fail("replace", UnreachableError("no answer"), times=2)
    scene.registration.refresh()
    assert scene.bundles() == {ROOT}
    scene.registration.refresh()
    assert scene.bundles() == {NEWER}


# Keeping


@pytest.fixture
def running() -> Any:
    scene = Scene()
    scene.registration.register()
    scene.registration.start()
    yield scene
    scene.registration.stop()


@pytest.mark.parametrize(
    ("which", "ref"),
    [
        pytest.param(MUTATING, injection_ref(Settings()), id="injection"),
        pytest.param(VALIDATING, validation_ref(Settings()), id="validation"),
    ],
)
def test_configurations_are_restored_as_they_should_be_now(
    running: Scene, which: tuple[str, str], ref: ObjectRef
) -> None:
    running.registration.set_ready()
    good = (running.cluster.get(*which) or {})["webhooks"]
    restored = Awaited(running.cluster, ref, lambda raw: bool(raw["webhooks"] == good))
    running.put(which, webhooks=[{**webhook, "failurePolicy": "Ignore"} for webhook in good[:1]])
    assert restored.wait()
    running.registration.stop()
    assert running.metrics.reconciliations.get(which[0]) == 1


def test_what_could_not_be_restored_is_a_problem(running: Scene) -> None:
    raw = running.cluster.get(*MUTATING) or {}
    running.cluster.fail("replace", ForbiddenError("may not"), times=math.inf)
    fixed = Awaited(running.cluster, injection_ref(Settings()), lambda raw: bool(raw["webhooks"]))
    running.put(MUTATING, webhooks=[])
    for _ in range(100):
        if running.registration.problems():
            break
        threading.Event().wait(0.05)
    assert running.registration.problems() == (
        "MutatingWebhookConfiguration osm-webhook-osm is not as it should be: may not",
    )
    running.cluster.recover()
    assert fixed.wait()
    assert (running.cluster.get(*MUTATING) or {})["webhooks"] == raw["webhooks"]


@pytest.mark.parametrize(
    ("option", "kinds"),
    [
        pytest.param({}, {MUTATING[0], VALIDATING[0]}, id="webhooks-always"),
        pytest.param(
            {"enable_reconciler": True},
            {MUTATING[0], VALIDATING[0], "CustomResourceDefinition"},
            id="definitions-where-asked-for",
        ),
    ],
)
def test_what_is_watched(option: dict[str, bool], kinds: set[str]) -> None:
    scene = Scene(**option)
    scene.registration.prepare()
    scene.registration.register()
    scene.registration.start()
    scene.registration.stop()
    assert {watch.kind for watch in scene.cluster.watches} == kinds
