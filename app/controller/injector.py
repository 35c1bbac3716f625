"""The one order in which a Pod gets its sidecar: decide, issue, plan, create the Secret, patch.

The admission webhook and the kubelet of one machine call it with a raw Pod. All that can fail has
failed before the Secret is created, the only thing it writes. Specification: kubernetes-surface 3.2
and 3.3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from uuid import uuid4

from app import logs
from app.certs.manager import ISSUER_ID, Certificates
from app.errors import InjectionError
from app.inject.decide import Inject, Skip, decide, read_namespace
from app.inject.plan import Injected, InjectionOptions, NewSidecar, diff, plan
from app.inject.secret import Credentials
from app.mesh.snapshot import MeshNamespace, MeshSnapshot
from app.objects import scheme
from app.objects.config import MeshConfig, MeshConfigSpec
from app.objects.meta import ObjectKey, ObjectKind, RawObject, Rejected
from app.ports import ObjectWriter
from xds.policy.identity import ProxyId


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectionScope:
    """Which mesh injects, and where its MeshConfig is."""

    mesh_name: str
    osm_namespace: str
    config_name: str


class Injector:
    """Gives Pods their sidecars. Any thread may call it; calls may block."""

    def __init__(
        self,
        certificates: Certificates,
        writer: ObjectWriter,
        *,
        snapshot: Callable[[], MeshSnapshot | None],
        scope: InjectionScope,
        options: InjectionOptions,
        new_uuid: Callable[[], str] = lambda: str(uuid4()),
    ) -> None:
        """``options.native`` is the platform's own layout; MeshConfig may ask for another."""
        self._certificates = certificates
        self._writer = writer
        self._snapshot = snapshot
        self._scope = scope
        self._options = options
        self._new_uuid = new_uuid
        self._log = logs.logger("injector")

    def inject(self, pod: RawObject, *, namespace: str, dry_run: bool = False) -> Injected | Skip:
        """The Pod with its sidecar, whose Secret exists now (not on a dry run), or why it has none.

        Raises :class:`InjectionError` for a Pod that should have a sidecar and cannot.
        """
        snapshot = self._snapshot()
        if snapshot is None:
            raise InjectionError("the control plane is still reading objects; try again")
        decision = decide(
            pod,
            self._namespace(snapshot, namespace),
            namespace_name=namespace,
            osm_namespace=self._scope.osm_namespace,
        )
        if isinstance(decision, Skip):
            self._log.info("no sidecar", namespace=namespace, reason=decision.reason)
            return decision
        config = self._config(snapshot)
        made = plan(
            pod,
            decision,
            sidecar=self._sidecar(decision),
            config=config,
            options=replace(self._options, native=self._is_native(config)),
        )
        patch = diff(pod, made.pod)
        if not dry_run:
            self._writer.create(made.secret)
        self._log.info("sidecar injected", identity=str(decision.identity), dry_run=dry_run)
        return Injected(pod=made.pod, patch=patch)

    def _sidecar(self, decision: Inject) -> NewSidecar:
        proxy = ProxyId(uuid=self._new_uuid(), identity=decision.identity)
        previous = self._writer.read(decision.previous) if decision.previous is not None else None
        return NewSidecar(
            uuid=proxy.uuid,
            credentials=issue_credentials(self._certificates, proxy),
            previous=previous,
        )

    def _namespace(self, snapshot: MeshSnapshot, name: str) -> MeshNamespace | None:
        """The namespace; one that the snapshot lacks is read: the snapshot may be a second old."""
        known = snapshot.workloads.namespaces.get(name)
        if known is not None:
            return known
        raw = self._writer.read(ObjectKey(kind=ObjectKind.NAMESPACE, name=name))
        return read_namespace(raw, name=name, mesh_name=self._scope.mesh_name)

    def _config(self, snapshot: MeshSnapshot) -> MeshConfigSpec:
        """The MeshConfig; it is read where the snapshot shows none: it may be brand new."""
        if snapshot.config != MeshConfigSpec():
            return snapshot.config
        scope = self._scope
        key = ObjectKey(
            kind=ObjectKind.MESH_CONFIG, namespace=scope.osm_namespace, name=scope.config_name
        )
        raw = self._writer.read(key)
        decoded = scheme.decode(raw) if raw is not None else None
        if decoded is None or isinstance(decoded, Rejected):
            return snapshot.config
        found = decoded[1]
        return found.spec if isinstance(found, MeshConfig) else snapshot.config

    def _is_native(self, config: MeshConfigSpec) -> bool:
        mode = config.sidecar.mode
        return self._options.native if mode == "auto" else mode == "native"


def issue_credentials(certificates: Certificates, proxy: ProxyId) -> Credentials:
    """What a sidecar shows to the control plane, made anew; raise ``CertificateError``."""
    issued = certificates.issue_sidecar(proxy)
    return Credentials(
        key_pair=issued.key_pair,
        trust=certificates.trust,
        expires=issued.not_after,
        signing_issuer_id=ISSUER_ID,
        validating_issuer_id=ISSUER_ID,
    )
