"""A mesh out of a cluster: what goes, what stays, and what is told."""

from __future__ import annotations

import threading
from typing import Any

import factory
from fakes.cluster import FakeCluster

from app.errors import ForbiddenError, UnreachableError
from app.install.meshes import Mesh
from app.install.release import Release, encode_release
from app.install.remove import Removal, remove_mesh, remove_refs
from app.objects.meta import ObjectRef, RawObject

LABELS = {"app.kubernetes.io/name": "openservicemesh.io", "app.kubernetes.io/instance": "osm"}
MESH = Mesh(name="osm", namespace="osm-system", members=("shop",))
RBAC, ADMISSION = "rbac.authorization.k8s.io/v1", "admissionregistration.k8s.io/v1"
CONFIG = "config.openservicemesh.io/v1alpha2"


def labelled(kind: str, path: str, api: str = "v1", **labels: str) -> RawObject:
    return factory.raw(kind, path, api=api, meta={"labels": {**LABELS, **labels}})


OURS = (
    labelled("ClusterRoleBinding", "osm", RBAC),
    labelled("ClusterRole", "osm", RBAC),
    labelled("RoleBinding", "osm-system/osm", RBAC),
    labelled("MutatingWebhookConfiguration", "osm-webhook-osm", ADMISSION),
    labelled("ValidatingWebhookConfiguration", "osm-validator-mesh-osm", ADMISSION),
    labelled("Deployment", "osm-system/osm-controller", "apps/v1"),
    labelled("Service", "osm-system/osm-injector"),
    factory.raw("Lease", "osm-system/osm-controller", api="coordination.k8s.io/v1"),
    factory.raw("MeshConfig", "osm-system/osm-mesh-config", api=CONFIG),
    factory.raw("Secret", "osm-system/osm-ca-bundle"),
    labelled("Secret", "shop/envoy-bootstrap-config-1"),
    factory.raw(
        "Secret",
        "osm-system/sh.helm.release.v1.osm.v1",
        meta={"labels": {"owner": "helm", "name": "osm"}},
    ),
)
THEIRS = (
    factory.raw("Namespace", "osm-system", meta={"labels": {"team": "a"}}),
    labelled("ClusterRole", "other", RBAC, **{"app.kubernetes.io/instance": "other"}),
    factory.raw("MutatingWebhookConfiguration", "of-others", api=ADMISSION),
    labelled("CustomResourceDefinition", "egresses", "apiextensions.k8s.io/v1"),
    labelled("Secret", "shop/of-the-user"),
    factory.raw("Secret", "shop/envoy-bootstrap-config-2"),
    factory.raw("MeshConfig", "shop/osm-mesh-config", api=CONFIG),
    factory.raw("Lease", "osm-system/of-others", api="coordination.k8s.io/v1"),
    factory.raw("Egress", "shop/of-the-user", api="policy.openservicemesh.io/v1alpha1"),
    factory.raw("Pod", "shop/injected", meta={"labels": {"osm-proxy-uuid": "1"}}),
)


def member() -> RawObject:
    return factory.raw(
        "Namespace",
        "shop",
        meta={
            "labels": {"openservicemesh.io/monitored-by": "osm", "team": "b"},
            "annotations": {"openservicemesh.io/sidecar-injection": "enabled"},
        },
    )


def remove(cluster: FakeCluster, wait: Any = None) -> Removal:
    never = wait or (lambda _: False)
    return remove_mesh(cluster, MESH, ca_secret="osm-ca-bundle", told=lambda _: None, wait=never)


def keys(*objects: RawObject) -> set[tuple[str, str]]:
    return {(raw["kind"], raw["metadata"]["name"]) for raw in objects}


def test_everything_of_the_mesh_goes_and_nothing_else() -> None:
    cluster = FakeCluster(*OURS, *THEIRS, member())
    removal = remove(cluster)
    left = {(ref.kind, ref.name) for ref in cluster.objects}
    assert left == keys(*THEIRS, member())
    assert removal.failed == {}
    assert {(ref.kind, ref.name) for ref in removal.removed} == keys(*OURS)
    assert removal.to_restart == ("shop",)
    assert not removal.lingers


def test_members_lose_the_marks_of_the_mesh_alone() -> None:
    cluster = FakeCluster(member())
    remove(cluster)
    shop = cluster.get("Namespace", "shop")
    assert shop is not None
    assert shop["metadata"]["labels"] == {"team": "b"}
    assert shop["metadata"]["annotations"] == {}


def test_rights_go_before_webhooks_and_webhooks_before_the_controller() -> None:
    cluster = FakeCluster(*OURS)
    kinds = [ref.kind for ref in remove(cluster).removed]
    assert kinds.index("ClusterRoleBinding") < kinds.index("MutatingWebhookConfiguration")
    assert kinds.index("ValidatingWebhookConfiguration") < kinds.index("Service")
    assert kinds[-1] == "Deployment"
    calls = [call for call in cluster.calls if call[0] in ("patch", "delete")]
    stopped = ("patch", "Deployment osm-system/osm-controller")
    assert calls.index(("delete", "ValidatingWebhookConfiguration osm-validator-mesh-osm")) < (
        calls.index(stopped)
    )
    assert calls.index(stopped) < calls.index(("delete", "Secret osm-system/osm-ca-bundle"))


def test_controller_makes_no_pods_while_the_rest_goes() -> None:
    cluster = FakeCluster(
        *OURS, factory.raw("Pod", "osm-system/a", meta={"labels": {"app": "osm-controller"}})
    )
    seen = []

    def ending(changed: threading.Condition) -> bool:
        deployment = cluster.get("Deployment", "osm-controller", "osm-system")
        seen.append(None if deployment is None else deployment["spec"])
        return False

    remove(cluster, ending)
    assert seen == [{"replicas": 0}]


def test_what_a_controller_writes_while_it_ends_goes_too() -> None:
    cluster = FakeCluster(
        *OURS, factory.raw("Pod", "osm-system/a", meta={"labels": {"app": "osm-controller"}})
    )

    def ending(changed: threading.Condition) -> bool:
        cluster.put(labelled("MutatingWebhookConfiguration", "osm-webhook-osm", ADMISSION))
        cluster.put(factory.raw("Secret", "osm-system/osm-ca-bundle"))
        cluster.remove("Pod", "a", "osm-system")
        return True

    assert not remove(cluster, ending).lingers
    assert cluster.objects == {}


def test_a_controller_that_does_not_end_is_told() -> None:
    pod = factory.raw("Pod", "osm-system/a", meta={"labels": {"app": "osm-controller"}})
    assert remove(FakeCluster(pod)).lingers


def test_what_the_release_remembers_goes() -> None:
    unlabelled = factory.raw("Service", "osm-system/extra")
    release = Release(
        mesh_name="osm",
        namespace="osm-system",
        version="1",
        objects=(
            ObjectRef.of(factory.raw("Namespace", "osm-system")),
            ObjectRef.of(unlabelled),
        ),
    )
    namespace = factory.raw("Namespace", "osm-system")
    cluster = FakeCluster(unlabelled, namespace, encode_release(release))
    remove(cluster)
    assert {ref.kind for ref in cluster.objects} == {"Namespace"}


def test_what_cannot_be_removed_is_told_and_the_rest_goes() -> None:
    cluster = FakeCluster(*OURS, member())
    cluster.fail("delete", ForbiddenError("you may not"), kind="ClusterRole")
    cluster.fail("patch", ForbiddenError("not yours"), kind="Namespace")
    removal = remove(cluster)
    assert {(ref.kind, ref.name): why for ref, why in removal.failed.items()} == {
        ("ClusterRole", "osm"): "you may not",
        ("Namespace", "shop"): "not yours",
    }
    assert {ref.kind for ref in cluster.objects} == {"ClusterRole", "Namespace", "Deployment"}


def test_run_that_failed_leaves_what_the_next_one_knows_the_mesh_by() -> None:
    release = encode_release(Release(mesh_name="osm", namespace="osm-system", version="1"))
    cluster = FakeCluster(*OURS, release)
    cluster.fail("delete", UnreachableError("no answer"), kind="Secret")
    assert list(remove(cluster).failed.values()) == ["no answer"]
    assert cluster.get("Deployment", "osm-controller", "osm-system") is not None
    assert cluster.get("Secret", "osm-release-osm", "osm-system") is not None
    assert remove(cluster).failed == {}
    assert cluster.objects == {}


def test_a_second_run_finds_nothing() -> None:
    cluster = FakeCluster(*OURS)
    remove(cluster)
    assert remove(cluster).removed == []


def test_single_objects_go() -> None:
    ref = ObjectRef.of(THEIRS[0])
    assert remove_refs(FakeCluster(THEIRS[0]), [ref], lambda _: None).removed == [ref]
