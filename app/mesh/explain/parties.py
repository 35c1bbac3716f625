"""Who calls and who is called: names as users write them, to Pods, accounts and services.

What is not of the mesh is looked for in the store, so that the answer can say what is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Protocol

from app.errors import NotFoundError
from app.mesh.explain.answer import Question, Walk
from app.mesh.profiles import profile_of
from app.mesh.snapshot import MeshPod, MeshSnapshot, ServiceView
from app.mesh.table import T
from app.mesh.workloads import has_sidecar, identity_of, workload_of
from app.objects.core import Pod, Service, ServiceAccount
from app.objects.meta import ObjectKey, ObjectKind
from xds.policy.identity import ServiceIdentity
from xds.policy.proxy import ProxyProfile
from xds.policy.service import Workload

_MOST_NAMES = 5


class Objects(Protocol):
    """All objects that the mesh has heard of, of whatever namespace."""

    def get(self, model: type[T], namespace: str, name: str) -> T | None:
        """The object of that name, or None."""
        ...

    def all(self, model: type[T], namespace: str) -> Iterator[T]:
        """Objects of a kind in a namespace, in no order."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Who calls."""

    identity: ServiceIdentity
    profile: ProxyProfile | None
    """None: it has no sidecar."""
    address: str = ""
    """Of one Pod of it without sidecar; empty: not known."""

    def __str__(self) -> str:
        return str(self.identity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Who is called: a port of a Service."""

    key: ObjectKey
    port: int
    views: tuple[ServiceView, ...]
    """Of the port, one per target; empty: it is not of the mesh."""
    service: Service | None
    """As written; None for what is known by its views alone."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """What a client dials."""
        if self.views:
            return tuple(address for view in self.views for address in view.addresses)
        return self.service.addresses if self.service else ()


def find_client(
    snapshot: MeshSnapshot, objects: Objects, namespace: str, name: str, walk: Walk
) -> Client:
    """The workload of that name; raise ``NotFoundError`` where there is none."""
    pods = pods_named(snapshot, namespace, name)
    if pods:
        return _meshed(pods, walk)
    bare = _bare_pods(objects, namespace, name)
    if bare:
        return _without_sidecar(snapshot, bare[0], walk)
    if name in _accounts(snapshot, objects, namespace):
        identity = ServiceIdentity(namespace=namespace, service_account=name)
        key = ObjectKey(kind=ObjectKind.SERVICE_ACCOUNT, namespace=namespace, name=name)
        walk.unknown("identity", f"no Pod runs as {identity} now; one would be treated so", key)
        nobody = Workload(namespace=namespace, kind="unknown", name="unknown")
        profile = ProxyProfile(identity=identity, services=(), scrape=False, workload=nobody)
        return Client(identity=identity, profile=profile)
    known = _workload_names(snapshot, objects, namespace)
    raise NotFoundError(f"there is no workload {namespace}/{name}{_near(name, known)}")


def find_target(snapshot: MeshSnapshot, objects: Objects, question: Question, walk: Walk) -> Target:
    """The port that ``to`` means, ``<namespace>/<name>``; raise ``NotFoundError``."""
    namespace, _, name = question.to.partition("/")
    views = _views(snapshot, namespace, name)
    written = objects.get(Service, namespace, name.rpartition(".")[2])
    if not views and written is None:
        pods = pods_named(snapshot, namespace, name)
        parents = sorted({service.parent for pod in pods for service in pod.services})
        if not parents:
            known = _service_names(snapshot, objects, namespace)
            raise NotFoundError(f"there is no Service {namespace}/{name}{_near(name, known)}")
        found = next((p for p in parents if _has_port(snapshot, p, question.port)), parents[0])
        walk.ok("destination", f"{name} is asked as {found}, the Service that it stands behind")
        views, written = snapshot.services.by_parent[found], None
        name = found.partition("/")[2]
    ports = sorted({view.service.port for view in views})
    if not ports and written is not None:
        ports = sorted({port.port for port in written.spec.ports})
    port = question.port if question.port is not None else _only(ports, question.to)
    return Target(
        key=ObjectKey(kind=ObjectKind.SERVICE, namespace=namespace, name=name),
        port=port,
        views=tuple(view for view in views if view.service.port == port),
        service=written,
    )


def pods_named(snapshot: MeshSnapshot, namespace: str, name: str) -> list[MeshPod]:
    """Pods of the mesh with that name, else of that controller, else of that account; sorted."""
    pods = sorted(
        (pod for pod in snapshot.workloads.pods.values() if pod.namespace == namespace),
        key=lambda pod: pod.name,
    )
    return (
        [pod for pod in pods if pod.name == name]
        or [pod for pod in pods if pod.workload.name == name]
        or [pod for pod in pods if pod.identity.service_account == name]
    )


def pod_key(namespace: str, name: str) -> ObjectKey:
    """The key of a Pod."""
    return ObjectKey(kind=ObjectKind.POD, namespace=namespace, name=name)


def namespace_key(name: str) -> ObjectKey:
    """The key of a namespace."""
    return ObjectKey(kind=ObjectKind.NAMESPACE, name=name)


def _meshed(pods: list[MeshPod], walk: Walk) -> Client:
    pod = pods[0]
    others = len({one.identity for one in pods}) - 1
    more = f"; {others} more accounts run Pods of that name" if others else ""
    key = pod_key(pod.namespace, pod.name)
    walk.ok("identity", f"Pod {key.path} runs as {pod.identity}{more}", key)
    walk.ok("namespace", f"{pod.namespace} is in the mesh", namespace_key(pod.namespace))
    walk.ok("injection", "it has a sidecar, which takes its traffic", key)
    return Client(identity=pod.identity, profile=profile_of(pod))


def _without_sidecar(snapshot: MeshSnapshot, pod: Pod, walk: Walk) -> Client:
    key, identity = pod_key(pod.namespace, pod.name), identity_of(pod)
    walk.ok("identity", f"Pod {key.path} runs as {identity}", key)
    place = namespace_key(pod.namespace)
    if pod.namespace in snapshot.workloads.namespaces:
        walk.ok("namespace", f"{pod.namespace} is in the mesh", place)
    else:
        walk.failed("namespace", f"{pod.namespace} is not in the mesh", place)
    why = "it shares the network of its host" if pod.spec.host_network else "it was not injected"
    if has_sidecar(pod):
        why = "the sidecar it has is not of this mesh, or its Pod is no longer served"
    walk.failed("injection", f"no sidecar takes its traffic: {why}", key)
    address = min(pod.addresses, default="")
    return Client(identity=identity, profile=None, address=address)


def _bare_pods(objects: Objects, namespace: str, name: str) -> list[Pod]:
    return sorted(
        (
            pod
            for pod in objects.all(Pod, namespace)
            if name in (pod.name, workload_of(pod).name, pod.service_account) and not pod.finished
        ),
        key=lambda pod: (pod.name != name, pod.name),
    )


def _views(snapshot: MeshSnapshot, namespace: str, name: str) -> tuple[ServiceView, ...]:
    """Of a Service, or of one host of a headless one (``web-0.web``)."""
    parent = f"{namespace}/{name.rpartition('.')[2]}"
    found = snapshot.services.by_parent.get(parent, ())
    if "." in name:
        return tuple(view for view in found if view.service.host == name)
    return tuple(view for view in found if not view.service.subdomain)


def _has_port(snapshot: MeshSnapshot, parent: str, port: int | None) -> bool:
    views = snapshot.services.by_parent.get(parent, ())
    return port is None or any(view.service.port == port for view in views)


def _only(ports: list[int], to: str) -> int:
    if len(ports) == 1:
        return ports[0]
    if not ports:
        raise NotFoundError(f"Service {to} has no port")
    listed = ", ".join(map(str, ports))
    raise NotFoundError(f"{to} has several ports, say which is called: port={listed}")


def _accounts(snapshot: MeshSnapshot, objects: Objects, namespace: str) -> set[str]:
    known = set(snapshot.objects.accounts.get(namespace, ()))
    return known | {one.name for one in objects.all(ServiceAccount, namespace)}


def _workload_names(snapshot: MeshSnapshot, objects: Objects, namespace: str) -> set[str]:
    found = _accounts(snapshot, objects, namespace)
    for pod in objects.all(Pod, namespace):
        found |= {pod.name, workload_of(pod).name, pod.service_account}
    return found - {"unknown"}


def _service_names(snapshot: MeshSnapshot, objects: Objects, namespace: str) -> set[str]:
    found = {one.name for one in objects.all(Service, namespace)}
    mine = (view.service for view in snapshot.services.views)
    return found | {service.name for service in mine if service.namespace == namespace}


def _near(name: str, known: Iterable[str]) -> str:
    ordered = sorted(known)
    near = get_close_matches(name, ordered, n=_MOST_NAMES, cutoff=0.5)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    if not ordered:
        return ": the namespace has none, or does not exist"
    more = ", …" if len(ordered) > _MOST_NAMES else ""
    return f"; there are {', '.join(ordered[:_MOST_NAMES])}{more}"
