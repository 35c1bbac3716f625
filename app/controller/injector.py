"""The one order in which a Pod gets its sidecar: decide, issue, plan, create the Secret, patch.

The admission webhook and the kubelet of one machine call it with a raw Pod. All that can fail has
failed before the Secret is created, the only thing it writes; the Secret of a Pod that the API
server refuses later is left to the orphan sweep.

The snapshot may be a second old. A Pod without its sidecar cannot be mended, so every "no" that
rests on a namespace is asked again of the API server, at the price of one read; a "yes" is not: a
namespace that was disabled or left the mesh a moment ago gets one Pod more with a sidecar, as those
that run there have. Images, exclusions and metrics annotations may be those of a second ago.
Specification: kubernetes-surface 3.2 and 3.3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from uuid import uuid4

from app.certs.manager import ISSUER_ID, Certificates
from app.controller.decisions import Asked, Decision, DecisionLog, Outcome
from app.errors import InjectionError, NamespaceInjectionError
from app.inject.decide import Inject, Skip, decide, read_namespace
from app.inject.patch import diff
from app.inject.plan import Injected, InjectionOptions, NewSidecar, plan
from app.inject.secret import Credentials
from app.mesh.snapshot import MeshNamespace, MeshSnapshot
from app.objects import scheme
from app.objects.config import MeshConfig, MeshConfigSpec
from app.objects.meta import ObjectKey, ObjectKind, RawObject, Rejected
from app.ports import ObjectWriter
from xds.policy.identity import ProxyId
from xds.resource import MeshError


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectionScope:
    """Which mesh injects, where its MeshConfig is, and what it adds to Pods."""

    osm_namespace: str
    config_name: str
    options: InjectionOptions
    """``native`` is the platform's own layout; MeshConfig may ask for another."""


class Injector:
    """Gives Pods their sidecars. Any thread may call it; calls may block."""

    def __init__(
        self,
        certificates: Certificates,
        writer: ObjectWriter,
        *,
        snapshot: Callable[[], MeshSnapshot | None],
        scope: InjectionScope,
        decisions: DecisionLog,
        new_uuid: Callable[[], str] = lambda: str(uuid4()),
    ) -> None:
        """``writer`` reads within a deadline of its own: the API server waits 10 s in all."""
        self._certificates = certificates
        self._writer = writer
        self._snapshot = snapshot
        self._scope = scope
        self._decisions = decisions
        self._new_uuid = new_uuid

    def inject(self, pod: RawObject, *, namespace: str, dry_run: bool = False) -> Injected | Skip:
        """The Pod with its sidecar, whose Secret exists now (not on a dry run), or why it has none.

        Raises :class:`InjectionError` for a Pod that should have a sidecar and cannot, or of which
        that cannot be told now; the message says so.
        """
        asked = Asked(pod=pod, namespace=namespace, dry_run=dry_run)
        try:
            decision = self._decide(asked)
            if isinstance(decision, Skip):
                self._decisions.add(asked, Outcome.SKIPPED, decision.reason)
                return decision
            return self._inject(asked, decision)
        except MeshError as error:
            self._decisions.add(asked, Outcome.REFUSED, str(error))
            raise

    def recent(self) -> tuple[Decision, ...]:
        """What became of the Pods that were asked about lately, the newest last."""
        return self._decisions.recent()

    def _inject(self, asked: Asked, decision: Inject) -> Injected:
        config = self._config(self._current())
        sidecar = self._sidecar(decision)
        options = replace(self._scope.options, native=self._is_native(config))
        made = plan(asked.pod, decision, sidecar=sidecar, config=config, options=options)
        patch = diff(asked.pod, made.pod)
        if not asked.dry_run:
            self._create(made.secret)
        reason = f"runs as {decision.identity}"
        self._decisions.add(asked, Outcome.INJECTED, reason, uuid=sidecar.uuid)
        return Injected(pod=made.pod, patch=patch)

    def _current(self) -> MeshSnapshot:
        snapshot = self._snapshot()
        if snapshot is None:
            raise InjectionError("the control plane is still reading objects; try again")
        return snapshot

    def _decide(self, asked: Asked) -> Inject | Skip:
        """The decision; the API server confirms what a namespace kept from injection."""
        known = self._current().workloads.namespaces.get(asked.namespace)
        try:
            found = self._decide_by(known, asked)
        except NamespaceInjectionError:
            return self._decide_by(self._namespace(asked.namespace), asked)
        if isinstance(found, Skip) and found.of_namespace:
            return self._decide_by(self._namespace(asked.namespace), asked)
        return found

    def _decide_by(self, namespace: MeshNamespace | None, asked: Asked) -> Inject | Skip:
        return decide(
            asked.pod,
            namespace,
            namespace_name=asked.namespace,
            osm_namespace=self._scope.osm_namespace,
        )

    def _sidecar(self, decision: Inject) -> NewSidecar:
        previous = None if decision.previous is None else self._read(decision.previous)
        proxy = ProxyId(uuid=self._new_uuid(), identity=decision.identity)
        return NewSidecar(
            uuid=proxy.uuid,
            credentials=issue_credentials(self._certificates, proxy),
            previous=previous,
        )

    def _namespace(self, name: str) -> MeshNamespace | None:
        raw = self._read(ObjectKey(kind=ObjectKind.NAMESPACE, name=name))
        return read_namespace(raw, name=name, mesh_name=self._scope.options.mesh_name)

    def _config(self, snapshot: MeshSnapshot) -> MeshConfigSpec:
        """The MeshConfig; it is read where the snapshot shows none: it may be brand new."""
        if snapshot.has_config:
            return snapshot.config
        scope = self._scope
        key = ObjectKey(
            kind=ObjectKind.MESH_CONFIG, namespace=scope.osm_namespace, name=scope.config_name
        )
        raw = self._read(key)
        decoded = scheme.decode(raw) if raw is not None else None
        if decoded is None or isinstance(decoded, Rejected):
            return snapshot.config
        found = decoded[1]
        return found.spec if isinstance(found, MeshConfig) else snapshot.config

    def _read(self, key: ObjectKey) -> RawObject | None:
        try:
            return self._writer.read(key)
        except MeshError as error:
            raise InjectionError(f"{key} cannot be read now; try again ({error})") from error

    def _create(self, secret: RawObject) -> None:
        try:
            self._writer.create(secret)
        except MeshError as error:
            raise InjectionError(
                f"the sidecar's Secret cannot be created now; try again ({error})"
            ) from error

    def _is_native(self, config: MeshConfigSpec) -> bool:
        mode = config.sidecar.mode
        return self._scope.options.native if mode == "auto" else mode == "native"


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
