"""A mesh out of the cluster: nothing stays that acts, holds a key or marks a namespace.

The controller's rights go first, since while it ends it would write its webhook configurations
anew; its Secrets go when it has ended. Its Deployment, by which a mesh is known, is stopped first
and deleted last: a run that was broken off can be repeated. The users' objects, the definitions of
their kinds and the namespace stay unless asked for. What cannot be removed is reported and the rest
still goes. Called by ``osm uninstall mesh``. Specification: kubernetes-surface 6.8, 7.2.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from app.errors import AppError, NotFoundError
from app.install.apply import Told, Waiting
from app.install.meshes import Mesh
from app.install.release import read_release, release_ref
from app.install.render import CONTROLLER
from app.mesh.membership import leave
from app.objects.meta import INSTANCE_LABEL, NAME_LABEL, PRODUCT, PROXY_UUID_LABEL, ObjectRef
from app.ports import Cluster

_BOOTSTRAP = "envoy-bootstrap-config-"
_RBAC = "rbac.authorization.k8s.io/v1"
_ADMISSION = "admissionregistration.k8s.io/v1"
_CONFIG = "config.openservicemesh.io/v1alpha2"
_RIGHTS = (
    (_RBAC, "ClusterRoleBinding"),
    (_RBAC, "RoleBinding"),
    (_RBAC, "ClusterRole"),
    (_RBAC, "Role"),
)
_WEBHOOKS = (
    (_ADMISSION, "MutatingWebhookConfiguration"),
    (_ADMISSION, "ValidatingWebhookConfiguration"),
)
_CLUSTER_WIDE = frozenset({"ClusterRole", "ClusterRoleBinding"})
_PARTS = (
    ("apps/v1", "Deployment"),
    ("batch/v1", "Job"),
    ("autoscaling/v1", "HorizontalPodAutoscaler"),
    ("policy/v1", "PodDisruptionBudget"),
    ("policy/v1beta1", "PodDisruptionBudget"),
    ("v1", "Service"),
    ("v1", "ConfigMap"),
    ("v1", "ServiceAccount"),
)
_SETTINGS = ("MeshConfig", "MeshRootCertificate")


@dataclass(kw_only=True)
class Removal:
    """What became of a mesh."""

    removed: list[ObjectRef] = field(default_factory=list)
    failed: dict[ObjectRef, str] = field(default_factory=dict)
    """What is still there, and why."""
    to_restart: tuple[str, ...] = ()
    """Namespaces whose Pods run sidecars that nobody serves any more; sorted."""
    lingers: bool = False
    """True when controllers had not ended in time."""


def remove_mesh(
    cluster: Cluster, mesh: Mesh, *, ca_secret: str, told: Told, wait: Waiting
) -> Removal:
    """The mesh is gone; what could not be removed is in the answer."""
    remover = _Remover(cluster, mesh, told)
    remover.find_sidecars()
    remover.remove(remover.labelled(_RIGHTS))
    remover.remove(remover.labelled(_WEBHOOKS))
    remover.release_namespaces()
    remover.stop_controller()
    remover.remove(remover.recorded())
    remover.remove(remover.parts())
    remover.await_end(wait)
    remover.remove(remover.labelled(_WEBHOOKS))
    remover.remove(remover.leases())
    remover.remove(remover.settings())
    remover.remove(remover.secrets(ca_secret))
    remover.unmark_home()
    if not remover.removal.failed:
        remover.remove(remover.traces())
    return remover.removal


def remove_refs(cluster: Cluster, refs: Iterable[ObjectRef], told: Told) -> Removal:
    """These objects are gone; what could not be removed is in the answer."""
    remover = _Remover(cluster, Mesh(name="", namespace=""), told)
    remover.remove(refs)
    return remover.removal


class _Remover:
    """Deletes one mesh's objects and remembers what happened."""

    def __init__(self, cluster: Cluster, mesh: Mesh, told: Told) -> None:
        self._cluster = cluster
        self._mesh = mesh
        self._told = told
        self._controller = ObjectRef(
            api_version="apps/v1", kind="Deployment", namespace=mesh.namespace, name=CONTROLLER
        )
        self.removal = Removal()

    def remove(self, refs: Iterable[ObjectRef]) -> None:
        for ref in refs:
            self._told(f"removing {ref}")
            try:
                if self._cluster.delete(ref):
                    self.removal.removed.append(ref)
            except AppError as error:
                self.removal.failed[ref] = str(error)

    # What there is

    def labelled(self, kinds: Iterable[tuple[str, str]]) -> Iterator[ObjectRef]:
        """Objects of these kinds that carry the mesh's labels."""
        labels = f"{NAME_LABEL}={PRODUCT},{INSTANCE_LABEL}={self._mesh.name}"
        for api_version, kind in kinds:
            is_ours_alone = kind in _CLUSTER_WIDE or (api_version, kind) in _WEBHOOKS
            namespace = "" if is_ours_alone else self._mesh.namespace
            yield from self._listed(api_version, kind, namespace=namespace, labels=labels)

    def recorded(self) -> Iterator[ObjectRef]:
        """What the release says was applied; a namespace holds more than the mesh."""
        release = read_release(self._cluster, self._mesh.name, self._mesh.namespace)
        for ref in reversed(release.objects if release else ()):
            if ref.kind not in ("Namespace", "CustomResourceDefinition") and not self._is_last(ref):
                yield ref

    def parts(self) -> Iterator[ObjectRef]:
        """What serves, but for the controller's Deployment."""
        return (ref for ref in self.labelled(_PARTS) if not self._is_last(ref))

    def leases(self) -> Iterator[ObjectRef]:
        """What replicas agreed by; a Lease has no labels of ours."""
        for ref in self._listed(
            "coordination.k8s.io/v1", "Lease", namespace=self._mesh.namespace, labels=""
        ):
            if ref.name.startswith("osm-"):
                yield ref

    def settings(self) -> Iterator[ObjectRef]:
        """The mesh's own settings, which a new installation makes from its preset."""
        for kind in _SETTINGS:
            yield from self._listed(_CONFIG, kind, namespace=self._mesh.namespace, labels="")

    def secrets(self, ca_secret: str) -> Iterator[ObjectRef]:
        """Sidecars' bootstraps in all namespaces, the root, what Helm noted."""
        mesh = self._mesh
        labels = f"{NAME_LABEL}={PRODUCT},{INSTANCE_LABEL}={mesh.name}"
        for ref in self._listed("v1", "Secret", namespace="", labels=labels):
            if ref.name.startswith(_BOOTSTRAP):
                yield ref
        yield ObjectRef(api_version="v1", kind="Secret", namespace=mesh.namespace, name=ca_secret)
        yield from self._listed(
            "v1", "Secret", namespace=mesh.namespace, labels=f"owner=helm,name={mesh.name}"
        )

    def traces(self) -> Iterator[ObjectRef]:
        """By what a mesh and its values are known."""
        yield release_ref(self._mesh.name, self._mesh.namespace)
        yield self._controller

    def find_sidecars(self) -> None:
        """The namespaces with injected Pods are known."""
        pods = self._listed("v1", "Pod", namespace="", labels=PROXY_UUID_LABEL)
        self.removal.to_restart = tuple(sorted({ref.namespace for ref in pods}))

    # What is not deleted

    def release_namespaces(self) -> None:
        """No namespace is a member any more."""
        for name in self._mesh.members:
            ref = ObjectRef(api_version="v1", kind="Namespace", name=name)
            self._told(f"releasing {ref}")
            try:
                namespace = self._cluster.read(ref)
                change = leave(namespace, self._mesh.name) if namespace else None
                if change and change.patch:
                    self._cluster.patch(ref, change.patch)
            except AppError as error:
                self.removal.failed[ref] = str(error)

    def stop_controller(self) -> None:
        """No new Pod of the controller is made, also by an autoscaler."""
        self._told(f"stopping {self._controller}")
        try:
            self._cluster.patch(self._controller, {"spec": {"replicas": 0}})
        except NotFoundError:
            return
        except AppError as error:
            self.removal.failed[self._controller] = str(error)

    def unmark_home(self) -> None:
        """The control plane's namespace has lost the labels that we applied, and only those.

        They would stop another product's webhooks, or Pods that are not restricted.
        """
        ref = ObjectRef(api_version="v1", kind="Namespace", name=self._mesh.namespace)
        try:
            if self._cluster.read(ref) is not None:
                # What the same manager leaves out at the next apply is removed.
                metadata = {"name": ref.name}
                self._cluster.apply({"apiVersion": "v1", "kind": ref.kind, "metadata": metadata})
        except AppError as error:
            self.removal.failed[ref] = str(error)

    def await_end(self, wait: Waiting) -> None:
        """No controller runs any more, or the time is over."""
        self._told("waiting for the controller to end")
        changed = threading.Condition()
        with changed:
            while any(True for _ in self._controllers()):
                if not wait(changed):
                    self.removal.lingers = True
                    return

    def _is_last(self, ref: ObjectRef) -> bool:
        return (ref.kind, ref.name) == (self._controller.kind, self._controller.name)

    def _controllers(self) -> Iterator[ObjectRef]:
        return self._listed("v1", "Pod", namespace=self._mesh.namespace, labels=f"app={CONTROLLER}")

    def _listed(
        self, api_version: str, kind: str, *, namespace: str, labels: str
    ) -> Iterator[ObjectRef]:
        found = self._cluster.list(
            api_version, kind, namespace=namespace, labels=labels, metadata_only=True
        )
        for raw in found:
            metadata = raw["metadata"]
            yield ObjectRef(
                api_version=api_version,
                kind=kind,
                namespace=metadata.get("namespace") or "",
                name=metadata["name"],
            )
