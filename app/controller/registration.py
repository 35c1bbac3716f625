"""The control plane's own objects in a cluster: definitions, first MeshConfig, webhooks.

``Runtime`` calls the steps in the order of its start; from ``start`` on, the reconciler keeps what
they wrote. All replicas do all of it, whoever comes second finds nothing to do. Specification:
kubernetes-surface 3.8, 5.1 and 6.5.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version

from app import logs
from app.controller import webhooks
from app.controller.crds import (
    ESTABLISHED_SECONDS,
    LAST_APPLIED,
    RECONCILE_LABEL,
    apply_crds,
    crd_merge,
    last_applied,
)
from app.controller.reconciler import Kept, Reconciler
from app.controller.settle import settle
from app.errors import (
    AppError,
    InjectionRegistrationError,
    NotFoundError,
    ObjectError,
    ValidationRegistrationError,
    WebhookRootError,
    WriteConflict,
)
from app.metrics import Metrics
from app.objects.meta import (
    INSTANCE_LABEL,
    NAME_LABEL,
    PRODUCT,
    VERSION_LABEL,
    ObjectRef,
    RawObject,
)
from app.ports import Cluster
from app.settings import Settings

PRESET_NAME = "preset-mesh-config"
PRESET_KEY = "preset-mesh-config.json"
_CONFIG_API_VERSION = "config.openservicemesh.io/v1alpha2"
_PAUSE_SECONDS = 0.1
_UPDATE_CODES = {webhooks.MUTATING: "E6114", webhooks.VALIDATING: "E6703"}
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"


class Registration:
    """Registers the control plane with the API server and keeps it registered.

    Methods block on the API server; they may be called from any thread but the loop's.
    """

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        *,
        crds: Iterable[RawObject],
        trust: Callable[[], bytes],
        metrics: Metrics,
    ) -> None:
        """``trust`` gives the PEM roots by which the API server knows our webhooks, the newest."""
        self._cluster = cluster
        self._settings = settings
        self._crds = tuple(crds)
        self._trust = trust
        self._version = webhooks.version_label(settings.osm_version or version("openservicemesh"))
        self._log = logs.logger("registration")
        self._is_enforced = False
        """Validation refuses what it cannot check; once true it stays so."""
        self._injection = webhooks.injection_ref(settings)
        self._validation = webhooks.validation_ref(settings)
        self._reconciler = Reconciler(cluster, self._kept(), metrics=metrics)

    def prepare(self) -> None:
        """The definitions are served, and there is a MeshConfig unless there is no preset either.

        Raises ``KubernetesError`` and its like, ``ObjectError`` for a preset that is none.
        """
        apply_crds(self._cluster, self._crds, version=self._version)
        self._make_mesh_config()

    def register(self) -> None:
        """Both webhook configurations are written, validation as it was or refusing nothing yet.

        Raises ``InjectionRegistrationError``, ``ValidationRegistrationError``.
        """
        try:
            self._write(self._injection)
        except AppError as error:
            raise InjectionRegistrationError(f"{self._injection}: {error}") from error
        try:
            self._write(self._validation)
        except AppError as error:
            raise ValidationRegistrationError(f"{self._validation}: {error}") from error

    def set_ready(self) -> None:
        """Validation refuses from now on what it cannot check, also while no controller runs."""
        with self._reconciler.writing:
            self._is_enforced = True
            self._update(self._validation)

    def refresh(self) -> None:
        """Both configurations have the newest roots; what fails is logged and tried again."""
        with self._reconciler.writing:
            self._update(self._injection)
            self._update(self._validation)

    def start(self) -> None:
        """What others alter or delete is restored from now on."""
        self._reconciler.start()

    def stop(self) -> None:
        """Nothing is restored any more; the configurations stay. May be called twice."""
        self._reconciler.stop()

    def problems(self) -> tuple[str, ...]:
        """What is not as it should be, and why; sorted sentences."""
        return self._reconciler.problems()

    # Webhook configurations

    def _kept(self) -> tuple[Kept, ...]:
        kept = (
            Kept(
                ref=self._injection,
                merge=self._merge_injection,
                altered_code="E7002",
                deleted_code="E7003",
                version=self._version,
            ),
            Kept(
                ref=self._validation,
                merge=self._merge_validation,
                altered_code="E7004",
                deleted_code="E7005",
                version=self._version,
            ),
        )
        if not self._settings.enable_reconciler:
            return kept
        return kept + tuple(
            Kept(
                ref=ObjectRef.of(crd),
                merge=crd_merge(crd, version=self._version),
                altered_code="E7000",
                deleted_code="E7001",
            )
            for crd in self._crds
        )

    def _write(self, ref: ObjectRef) -> None:
        """The configuration is written, unless it was released from us and is of this release."""
        ours = self._merge_injection if ref == self._injection else self._merge_validation

        def merge(current: RawObject | None) -> RawObject | None:
            if not self._is_released(current):
                return ours(current)
            self._log.warning(
                "webhook configuration left as it is: its label was removed", object=str(ref)
            )
            return current

        if settle(self._cluster, ref, merge):
            self._log.info("webhook configuration written", object=str(ref))

    def _update(self, ref: ObjectRef) -> None:
        try:
            self._write(ref)
        except AppError as error:
            self._log.exception(
                "webhook configuration not updated",
                object=str(ref),
                error_code=_UPDATE_CODES[ref.kind],
                reason=str(error),
            )
            self._reconciler.wake()

    def _is_released(self, current: RawObject | None) -> bool:
        """True for a configuration of ours that an operator took from us, also before a restart."""
        labels = ((current or {}).get("metadata") or {}).get("labels") or {}
        return RECONCILE_LABEL not in labels and (labels.get(VERSION_LABEL) == self._version)

    def _merge_injection(self, current: RawObject | None) -> RawObject:
        return webhooks.restored(current, webhooks.injection(self._settings, self._scope()))

    def _merge_validation(self, current: RawObject | None) -> RawObject:
        self._is_enforced = self._is_enforced or webhooks.is_enforced(current)
        wanted = webhooks.validation(self._settings, self._scope(), enforced=self._is_enforced)
        return webhooks.restored(current, wanted)

    def _scope(self) -> webhooks.WebhookScope:
        roots = self._trust()
        if _CERTIFICATE not in roots:
            # An empty bundle would mean the roots of the API server's machine: nobody's of ours.
            raise WebhookRootError("there is no root to give to the API server")
        return webhooks.WebhookScope(version=self._version, roots=roots)

    # MeshConfig

    def _make_mesh_config(self) -> None:
        """The MeshConfig is made from its preset; one that exists is left alone for ever."""
        ref = self._config_ref()
        if self._cluster.read(ref) is not None:
            return
        spec = self._preset()
        if spec is None:
            self._log.warning("no MeshConfig and no preset: all settings have their defaults")
            return
        self._create(_mesh_config(ref, spec, mesh_name=self._settings.mesh_name))

    def _create(self, raw: RawObject) -> None:
        """The object is created, as soon as the API server has learnt its kind."""
        deadline = time.monotonic() + ESTABLISHED_SECONDS
        while True:
            try:
                self._cluster.create(raw)
            except WriteConflict:
                return
            except NotFoundError:
                if time.monotonic() >= deadline:
                    raise
                threading.Event().wait(_PAUSE_SECONDS)
            else:
                self._log.info("MeshConfig created from its preset", name=raw["metadata"]["name"])
                return

    def _preset(self) -> RawObject | None:
        namespace = self._settings.osm_namespace
        ref = ObjectRef(api_version="v1", kind="ConfigMap", namespace=namespace, name=PRESET_NAME)
        raw = self._cluster.read(ref)
        text = ((raw or {}).get("data") or {}).get(PRESET_KEY)
        if text is None:
            return None
        try:
            spec = json.loads(text)
        except ValueError as error:
            raise ObjectError(f"{ref}: {PRESET_KEY} is not JSON: {error}") from error
        if not isinstance(spec, dict):
            raise ObjectError(f"{ref}: {PRESET_KEY} must be the spec of a MeshConfig, an object")
        return spec

    def _config_ref(self) -> ObjectRef:
        return ObjectRef(
            api_version=_CONFIG_API_VERSION,
            kind="MeshConfig",
            namespace=self._settings.osm_namespace,
            name=self._settings.osm_config_name,
        )


def _mesh_config(ref: ObjectRef, spec: RawObject, *, mesh_name: str) -> RawObject:
    raw: RawObject = {
        "apiVersion": ref.api_version,
        "kind": ref.kind,
        "metadata": {
            "name": ref.name,
            "namespace": ref.namespace,
            "labels": {
                NAME_LABEL: PRODUCT,
                INSTANCE_LABEL: mesh_name,
            },
        },
        "spec": spec,
    }
    raw["metadata"]["annotations"] = {LAST_APPLIED: last_applied(raw)}
    return raw
