"""Objects to a snapshot: what did not change stays the same object.

The loop owns a :class:`LiveMesh` and gives it each batch of events. Work is in proportion to what
changed: a Service is read anew when it, one of its Pods or its endpoints changed; what policy
depends on only when the shape of a Service or a rule did. Specification: data-plane 3, 4, 7.7.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from app.events import ObjectEvent
from app.mesh.addresses import join_services, same_services
from app.mesh.findings import Finding
from app.mesh.gateways import gateway_addresses
from app.mesh.listing import NOT_ENFORCED, TABLE_KINDS, object_table, unenforced_objects
from app.mesh.memory import NOTHING, Memory, Progress, ServiceState
from app.mesh.policies.authorization import wrong_settings
from app.mesh.policies.source import PolicySource
from app.mesh.resolve import Resolved, resolve
from app.mesh.routes import NO_ROUTES
from app.mesh.services import join_endpoints, keep_endpoints, service_state
from app.mesh.snapshot import (
    EndpointTable,
    MeshPod,
    MeshSnapshot,
    Services,
    Workloads,
    unless_same,
)
from app.mesh.store import ObjectStore
from app.mesh.table import NO_OBJECTS, ObjectTable, T
from app.mesh.workloads import has_sidecar, mesh_namespaces, mesh_pod, repeated_port, workloads
from app.objects.config import MeshConfig, MeshConfigSpec, not_enforced
from app.objects.core import Endpoints, EndpointSlice, Namespace, Pod, Service
from app.objects.meta import (
    MONITORED_BY_LABEL,
    SERVICE_NAME_LABEL,
    ObjectKey,
    ObjectKind,
    Rejected,
    selects,
)
from xds.policy.identity import Issuers

Name = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshScope:
    """What decides which objects are of this mesh; fixed for the life of the process."""

    mesh_name: str = "osm"
    osm_namespace: str = "osm-system"
    config_name: str = "osm-mesh-config"
    dns_suffix: str = "cluster.local"


class LiveMesh:
    """The objects of the mesh and their newest snapshot; owned by the loop thread."""

    def __init__(self, scope: MeshScope, issuers: Issuers) -> None:
        self._scope = scope
        self._issuers = issuers
        self._store = ObjectStore()
        self._progress: Progress | None = None
        self._changed: set[ObjectKey] = set()
        """What the progress does not account for yet: a refresh that fails forgets nothing."""

    @property
    def objects(self) -> ObjectStore:
        """All that the mesh has heard of; other threads only look up single objects and kinds."""
        return self._store

    def refresh(self, events: Iterable[ObjectEvent]) -> MeshSnapshot:
        """The snapshot after these events; the same object where nothing changed.

        Where it raises, the next call makes up for it.
        """
        for event in events:
            self._changed |= self._store.apply(event)
        self._progress = refresh(
            self._store, self._progress, self._changed, scope=self._scope, issuers=self._issuers
        )
        self._changed = set()
        return self._progress.snapshot


def refresh(
    store: ObjectStore,
    previous: Progress | None,
    changed: AbstractSet[ObjectKey] = frozenset(),
    *,
    scope: MeshScope,
    issuers: Issuers,
) -> Progress:
    """The mesh as the store has it; ``previous`` was right but for the changed objects.

    Without ``previous`` everything is read. Equal parts are the same objects as before, and so is
    the snapshot when all of them are; else its revision is one higher.
    """
    step = _Step(store, previous, changed=changed, scope=scope)
    return step.progress(issuers)


class _Step:
    """One refresh: what was, what changed, and the new parts as they come about."""

    def __init__(
        self,
        store: ObjectStore,
        previous: Progress | None,
        *,
        changed: AbstractSet[ObjectKey],
        scope: MeshScope,
    ) -> None:
        self._store = store
        self._scope = scope
        self._changed = changed
        self._old = previous.snapshot if previous else None
        self._memory = previous.memory if previous else NOTHING
        self._findings = dict(self._memory.findings)
        self._namespaces = [one for one in store.all(Namespace, "") if self._is_monitored(one)]
        before = set(self._old.workloads.namespaces) if self._old else set()
        now = {one.name for one in self._namespaces}
        self._monitored = now
        self._mesh_config = store.get(MeshConfig, scope.osm_namespace, scope.config_name)
        self._joined = now - before
        self._left = before - now

    def progress(self, issuers: Issuers) -> Progress:
        """The snapshot after all steps, and what the next refresh starts from."""
        states = self._states()
        reshaped = self._reshaped(states)
        pods, repeated = self._pods(states, reshaped)
        services = self._services(states, pods, reshaped=bool(reshaped))
        config, objects = self._config(), self._objects()
        resolved = self._resolved(services, objects, config)
        new = MeshSnapshot(
            revision=self._old.revision + 1 if self._old else 1,
            config=config,
            has_config=self._mesh_config is not None,
            issuers=issuers,
            dns_suffix=self._scope.dns_suffix,
            workloads=self._workloads(pods),
            services=services,
            rules=resolved.rules,
            policies=resolved.policies,
            endpoints=self._endpoints(states),
            objects=objects,
            rejected=self._rejected(states, repeated, resolved),
        )
        memory = Memory(
            states=states,
            pods=pods,
            repeated=repeated,
            resolved=resolved,
            findings=self._findings,
        )
        return Progress(snapshot=unless_same(self._old, new), memory=memory)

    def _is_monitored(self, namespace: Namespace) -> bool:
        return namespace.metadata.labels.get(MONITORED_BY_LABEL) == self._scope.mesh_name

    def _changed_names(self, kind: ObjectKind) -> Iterator[Name]:
        """Changed objects of a kind in the mesh's namespaces."""
        for key in self._changed:
            if key.kind is kind and key.namespace in self._monitored:
                yield key.namespace, key.name

    def _in_mesh(self, model: type[T]) -> Iterator[T]:
        for namespace in self._monitored:
            yield from self._store.all(model, namespace)

    def _config(self) -> MeshConfigSpec:
        found = self._mesh_config
        key = ObjectKey(
            kind=ObjectKind.MESH_CONFIG,
            namespace=self._scope.osm_namespace,
            name=self._scope.config_name,
        )
        problems = [(one, "E3002") for one in wrong_settings(found)] if found else []
        problems += [(one, NOT_ENFORCED) for one in not_enforced(found.spec)] if found else []
        self._findings["config"] = tuple(
            Finding(key=key, field=one.field, reason=one.reason, code=code)
            for one, code in problems
        )
        config = found.spec if found else MeshConfigSpec()
        return self._old.config if self._old and self._old.config == config else config

    # Services: states, then the joined part.

    def _states(self) -> dict[Name, ServiceState]:
        """State of every Service in the mesh's namespaces; unaffected ones as they were."""
        states = {
            name: state for name, state in self._memory.states.items() if name[0] not in self._left
        }
        for name in self._affected():
            service = self._store.get(Service, *name)
            if service is None:
                states.pop(name, None)
            else:
                states[name] = keep_endpoints(states.get(name), self._read(service))
        return states

    def _affected(self) -> set[Name]:
        """Services to read anew."""
        found = set(self._changed_names(ObjectKind.SERVICE))
        found |= set(self._changed_names(ObjectKind.ENDPOINTS))
        found |= {
            (service.namespace, service.name)
            for namespace in self._joined
            for service in self._store.all(Service, namespace)
        }
        for namespace, name in self._changed_names(ObjectKind.ENDPOINT_SLICE):
            found |= self._services_of_slice(namespace, name)
        changed_pods: dict[str, set[str]] = {}
        for namespace, name in self._changed_names(ObjectKind.POD):
            changed_pods.setdefault(namespace, set()).add(name)
        for namespace, names in changed_pods.items():
            found |= self._services_of_pods(namespace, names)
        return found

    def _services_of_slice(self, namespace: str, name: str) -> set[Name]:
        """The Service a slice belongs to, and those it belonged to."""
        found = {
            key for key in self._states_in(namespace) if name in self._memory.states[key].slices
        }
        one = self._store.get(EndpointSlice, namespace, name)
        return found | ({(namespace, one.service)} if one else set())

    def _services_of_pods(self, namespace: str, names: AbstractSet[str]) -> set[Name]:
        """Services that select one of the Pods, or did."""
        found = {
            key
            for key in self._states_in(namespace)
            if not self._memory.states[key].pods.isdisjoint(names)
        }
        pods = [pod for name in names if (pod := self._store.get(Pod, namespace, name))]
        for service in self._store.all(Service, namespace):
            if any(selects(service.spec.selector, pod.metadata.labels) for pod in pods):
                found.add((namespace, service.name))
        return found

    def _states_in(self, namespace: str) -> Iterator[Name]:
        return (name for name in self._memory.states if name[0] == namespace)

    def _read(self, service: Service) -> ServiceState:
        namespace, name = service.namespace, service.name
        pods = self._store.labelled(Pod, namespace, service.spec.selector)
        return service_state(
            service,
            [pod for pod in pods if not pod.finished],
            slices=self._store.labelled(EndpointSlice, namespace, {SERVICE_NAME_LABEL: name}),
            endpoints=self._store.get(Endpoints, namespace, name),
        )

    def _reshaped(self, states: Mapping[Name, ServiceState]) -> set[Name]:
        """Services whose mesh services, identities or addresses differ from before."""
        old = self._memory.states
        return {
            name
            for name in states.keys() | old.keys()
            if (before := old.get(name)) is not (after := states.get(name))
            and (before.shape if before else None) != (after.shape if after else None)
        }

    def _services(
        self, states: Mapping[Name, ServiceState], pods: Mapping[Name, MeshPod], *, reshaped: bool
    ) -> Services:
        old = self._old.services if self._old else None
        if old and not reshaped and pods is self._memory.pods:
            return old
        shapes = [state.shape for state in states.values() if state.shape]
        new, self._findings["services"] = join_services(shapes, pods.values())
        return old if old and same_services(old, new) else new

    def _endpoints(self, states: Mapping[Name, ServiceState]) -> EndpointTable:
        old = self._old.endpoints if self._old else EndpointTable(by_service={})
        return join_endpoints(old, self._memory.states, states)

    # Pods.

    def _pods(
        self, states: Mapping[Name, ServiceState], reshaped: AbstractSet[Name]
    ) -> tuple[Mapping[Name, MeshPod], Mapping[Name, Finding]]:
        """Pods of the mesh, and those that declare a port twice; the old mappings where equal."""
        affected = self._affected_pods(states, reshaped)
        if not affected and not self._left:
            return self._memory.pods, self._memory.repeated
        pods = {n: pod for n, pod in self._memory.pods.items() if n[0] not in self._left}
        repeated = {n: one for n, one in self._memory.repeated.items() if n[0] not in self._left}
        backing = _services_by_pod(states)
        for name in affected:
            found = self._store.get(Pod, *name)
            pods.pop(name, None)
            repeated.pop(name, None)
            if found is None or found.finished:
                continue
            finding = repeated_port(found)
            if finding:
                repeated[name] = finding
            if has_sidecar(found):
                new = mesh_pod(found, backing.get(name, ()))
                old = self._memory.pods.get(name)
                pods[name] = old if old == new else new
        return self._memory.pods if self._memory.pods == pods else pods, repeated

    def _affected_pods(
        self, states: Mapping[Name, ServiceState], reshaped: AbstractSet[Name]
    ) -> set[Name]:
        """Pods to read anew: changed, new or gone behind a Service, or behind a reshaped one."""
        found = set(self._changed_names(ObjectKind.POD))
        for namespace in self._joined:
            found |= {(namespace, pod.name) for pod in self._store.all(Pod, namespace)}
        for name in reshaped:
            for state in (states.get(name), self._memory.states.get(name)):
                found |= {(name[0], pod) for pod in state.pods} if state else set()
        # A selector may move to another Pod of the account: the Service has the same shape then.
        for name in states.keys() & self._memory.states.keys():
            found |= {(name[0], p) for p in states[name].pods ^ self._memory.states[name].pods}
        return {name for name in found if name[0] in self._monitored}

    def _workloads(self, pods: Mapping[Name, MeshPod]) -> Workloads:
        old = self._old.workloads if self._old else None
        namespaces = mesh_namespaces(self._namespaces)
        if old and pods is self._memory.pods and old.namespaces == namespaces:
            return old
        new, self._findings["workloads"] = workloads(pods.values(), namespaces)
        return new

    # Policies.

    def _resolved(
        self, services: Services, objects: ObjectTable, config: MeshConfigSpec
    ) -> Resolved:
        source = PolicySource(
            objects=objects,
            routes=NO_ROUTES,
            services=services,
            config=config,
            monitored=self._monitored,
            osm_namespace=self._scope.osm_namespace,
            dns_suffix=self._scope.dns_suffix,
            gateways=self._gateways(objects),
        )
        moved = self._old is None or self._joined or self._left
        changed = None if moved else {key.kind for key in self._changed}
        return resolve(source, self._memory.resolved, changed)

    def _gateways(self, objects: ObjectTable) -> Mapping[str, tuple[str, ...]]:
        source = self._memory.resolved.source
        found = gateway_addresses(self._store, objects, self._monitored)
        return source.gateways if source is not None and source.gateways == found else found

    def _objects(self) -> ObjectTable:
        old = self._old.objects if self._old else NO_OBJECTS
        moved = self._old is None or self._joined or self._left
        if not moved and not any(key.kind in TABLE_KINDS for key in self._changed):
            return old
        new = object_table(
            old, self._store, self._monitored, osm_namespace=self._scope.osm_namespace
        )
        self._findings["objects"] = unenforced_objects(new)
        return new

    # What is not in force.

    def _rejected(
        self,
        states: Mapping[Name, ServiceState],
        repeated: Mapping[Name, Finding],
        resolved: Resolved,
    ) -> tuple[Rejected, ...]:
        groups = (*self._findings.values(), *resolved.findings.values())
        found = {one for group in groups for one in group}
        found |= {one for state in states.values() if state.shape for one in state.shape.findings}
        found |= set(repeated.values())
        rejected = {
            Rejected(
                where=self._store.where(one.key), field=one.field, reason=one.reason, code=one.code
            )
            for one in found
        }
        return tuple(sorted(rejected | set(self._store.rejected())))


def _services_by_pod(states: Mapping[Name, ServiceState]) -> dict[Name, list[ServiceState]]:
    found: dict[Name, list[ServiceState]] = {}
    for (namespace, _), state in states.items():
        for pod in state.pods:
            found.setdefault((namespace, pod), []).append(state)
    return found
