"""Short builders of raw objects with sane defaults, and of snapshots made from them.

Objects are named ``<namespace>/<name>``. Builders return plain dicts, as YAML files and the API
server do; ``store`` and ``snapshot`` take any number of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import NAMESPACE_DNS, uuid5

from app.events import ObjectChanged
from app.mesh.refresh import MeshScope, refresh
from app.mesh.snapshot import MeshSnapshot
from app.mesh.store import ObjectStore
from app.objects.meta import RawObject, Rejected
from app.objects.scheme import decode
from xds.policy.identity import Issuers, ServiceIdentity

MESH = "osm"
Ports = Mapping[str, int] | Sequence[Mapping[str, Any]]


def raw(kind: str, path: str, *, api: str = "v1", **fields: Any) -> RawObject:
    """An object; ``path`` is ``<namespace>/<name>`` or a name; ``meta`` is more metadata."""
    namespace, _, name = path.rpartition("/")
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    metadata |= fields.pop("meta", None) or {}
    given = {key: value for key, value in fields.items() if value is not None}
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **given}


def created(second: int) -> dict[str, Any]:
    """Metadata of an object that was created so many seconds into an hour."""
    return {"creationTimestamp": f"2026-01-01T00:{second // 60:02}:{second % 60:02}Z"}


def namespace(name: str, *, monitored: bool = True, **meta: Any) -> RawObject:
    """A namespace of the mesh, or outside it."""
    labels = {"openservicemesh.io/monitored-by": MESH} if monitored else {}
    labels |= meta.pop("labels", {})
    return raw("Namespace", name, meta={"labels": labels, **meta})


def uuid_of(path: str) -> str:
    """The sidecar UUID that ``pod`` gives to the Pod of that path."""
    return str(uuid5(NAMESPACE_DNS, path))


def pod(
    path: str,
    *,
    account: str = "",
    labels: Mapping[str, str] | None = None,
    ip: str | None = None,
    ports: Mapping[str, int] | None = None,
    sidecar: bool = True,
    **more: Any,
) -> RawObject:
    """A running Pod with a sidecar, labelled ``app: <name>`` unless told otherwise.

    ``more``: ``meta`` (merged into metadata), ``spec`` and ``phase``.
    """
    _, _, name = path.rpartition("/")
    tags = dict(labels if labels is not None else {"app": name})
    if sidecar:
        tags["osm-proxy-uuid"] = uuid_of(path)
    container = {
        "name": "app",
        "ports": [{"name": n, "containerPort": p} for n, p in (ports or {}).items()],
    }
    spec = {
        "serviceAccountName": account or name,
        "containers": [container],
        **more.get("spec", {}),
    }
    status = {"phase": more.get("phase", "Running")} | ({"podIP": ip} if ip else {})
    return raw("Pod", path, meta={"labels": tags, **more.get("meta", {})}, spec=spec, status=status)


def owned_by(kind: str, name: str) -> dict[str, Any]:
    """Metadata of an object that a controller made."""
    return {"ownerReferences": [{"kind": kind, "name": name, "uid": "u", "controller": True}]}


def service(
    path: str,
    *,
    ports: Ports | None = None,
    selector: Mapping[str, str] | None = None,
    cluster_ip: str = "",
    **more: Any,
) -> RawObject:
    """A Service selecting ``app: <name>`` on port 80 named ``http`` with target 8080.

    ``ports`` maps names to numbers, or is written as in Kubernetes. The default address is derived
    from the path; ``cluster_ip="None"`` makes it headless. ``more``: ``meta`` and ``spec``.
    """
    _, _, name = path.rpartition("/")
    spec = {
        "selector": {"app": name} if selector is None else dict(selector),
        "clusterIP": cluster_ip or address_of(path),
        "ports": _service_ports(ports),
        **more.get("spec", {}),
    }
    return raw("Service", path, meta=more.get("meta"), spec=spec)


def _service_ports(ports: Ports | None) -> list[dict[str, Any]]:
    if ports is None:
        return [{"name": "http", "port": 80, "targetPort": 8080}]
    if isinstance(ports, Mapping):
        return [{"name": name, "port": number} for name, number in ports.items()]
    return [dict(port) for port in ports]


def address_of(path: str) -> str:
    """The ClusterIP that ``service`` gives to a Service of that path."""
    digest = uuid5(NAMESPACE_DNS, path).bytes
    return f"10.96.{digest[0]}.{digest[1]}"


def endpoints(
    path: str,
    ready: Mapping[str, str] | Iterable[str] = (),
    *,
    ports: Mapping[str, int] | None = None,
    not_ready: Mapping[str, str] | Iterable[str] = (),
    hostnames: bool = False,
) -> RawObject:
    """Endpoints of one subset: Pod name → address, or bare addresses without a Pod.

    ``hostnames`` gives every address the name of its Pod, as a StatefulSet's have.
    """
    subset = {
        "addresses": _addresses(ready, hostnames=hostnames),
        "notReadyAddresses": _addresses(not_ready, hostnames=hostnames),
        "ports": [{"name": n, "port": p} for n, p in (ports or {"http": 8080}).items()],
    }
    return raw("Endpoints", path, subsets=[subset])


def _addresses(
    given: Mapping[str, str] | Iterable[str], *, hostnames: bool
) -> list[dict[str, Any]]:
    if not isinstance(given, Mapping):
        return [{"ip": ip} for ip in given]
    named = [{"ip": ip, "targetRef": {"kind": "Pod", "name": name}} for name, ip in given.items()]
    return [{**a, "hostname": a["targetRef"]["name"]} for a in named] if hostnames else named


def endpoint(ip: str, *, pod: str = "", hostname: str = "", **conditions: bool) -> dict[str, Any]:
    """One endpoint of a slice; conditions are ``ready``, ``serving`` and ``terminating``."""
    found: dict[str, Any] = {"addresses": [ip], "conditions": conditions}
    if pod:
        found["targetRef"] = {"kind": "Pod", "name": pod}
    return found | ({"hostname": hostname} if hostname else {})


def endpoint_slice(
    path: str,
    service: str,
    members: Iterable[dict[str, Any]] = (),
    *,
    ports: Mapping[str, int] | None = None,
    address_type: str = "IPv4",
) -> RawObject:
    """A slice of the Service of that name in the slice's namespace."""
    return raw(
        "EndpointSlice",
        path,
        api="discovery.k8s.io/v1",
        meta={"labels": {"kubernetes.io/service-name": service}},
        addressType=address_type,
        endpoints=list(members),
        ports=[{"name": n, "port": p} for n, p in (ports or {"http": 8080}).items()],
    )


def account(path: str) -> RawObject:
    """A ServiceAccount."""
    return raw("ServiceAccount", path)


def mesh_config(**spec: Any) -> RawObject:
    """The mesh's MeshConfig with the given sections, keys as in YAML."""
    return raw(
        "MeshConfig",
        "osm-system/osm-mesh-config",
        api="config.openservicemesh.io/v1alpha2",
        spec=spec,
    )


def permissive(*, on: bool = True, egress: bool = False) -> RawObject:
    """MeshConfig that turns permissive mode and mesh-wide egress on or off."""
    return mesh_config(traffic={"enablePermissiveTrafficPolicyMode": on, "enableEgress": egress})


def traffic_target(
    path: str,
    *,
    to: str,
    sources: Iterable[str] = (),
    groups: Iterable[str] | Mapping[str, Sequence[str]] = (),
    tcp: Iterable[str] = (),
    meta: Mapping[str, Any] | None = None,
) -> RawObject:
    """Lets ``<account>.<namespace>`` sources call the account ``to`` of the target's namespace.

    ``groups`` names HTTPRouteGroups, or maps them to names of matches; ``tcp`` names TCPRoutes.
    """
    own, _, _ = path.rpartition("/")
    chosen = groups if isinstance(groups, Mapping) else dict.fromkeys(groups, ())
    rules: list[dict[str, Any]] = [
        {"kind": "HTTPRouteGroup", "name": name, **({"matches": list(m)} if m else {})}
        for name, m in chosen.items()
    ]
    rules += [{"kind": "TCPRoute", "name": name} for name in tcp]
    spec = {
        "destination": {"kind": "ServiceAccount", "name": to, "namespace": own},
        "sources": [_subject(source) for source in sources],
        "rules": rules,
    }
    return raw("TrafficTarget", path, api="access.smi-spec.io/v1alpha3", meta=meta, spec=spec)


def _subject(identity: str) -> dict[str, str]:
    parsed = ServiceIdentity.parse(identity)
    return {
        "kind": "ServiceAccount",
        "name": parsed.service_account,
        "namespace": parsed.namespace,
    }


def route_group(path: str, *matches: Mapping[str, Any], **paths: str) -> RawObject:
    """An HTTPRouteGroup of matches as in YAML and of ``name="path regex"``."""
    spec = [dict(match) for match in matches]
    spec += [{"name": name, "pathRegex": regex} for name, regex in paths.items()]
    return raw("HTTPRouteGroup", path, api="specs.smi-spec.io/v1alpha4", spec={"matches": spec})


def tcp_route(path: str, *ports: int) -> RawObject:
    """A TCPRoute of ports that Pods listen on; none means every port."""
    return raw(
        "TCPRoute",
        path,
        api="specs.smi-spec.io/v1alpha4",
        spec={"matches": {"ports": list(ports)}},
    )


def traffic_split(
    path: str,
    weights: Mapping[str, Any],
    *,
    root: str = "",
    meta: Mapping[str, Any] | None = None,
) -> RawObject:
    """A TrafficSplit on the root, by default the Service of the split's own name."""
    backends = [{"service": name, "weight": weight} for name, weight in weights.items()]
    spec = {"service": root or path.rpartition("/")[2], "backends": backends}
    return raw("TrafficSplit", path, api="split.smi-spec.io/v1alpha2", meta=meta, spec=spec)


POLICY = "policy.openservicemesh.io/v1alpha1"
CONFIG = "config.openservicemesh.io/v1alpha2"


def egress(
    path: str,
    *,
    sources: Iterable[str] = ("web.shop",),
    hosts: Iterable[str] = ("example.com",),
    ports: Mapping[int, str] | None = None,
    matches: Iterable[tuple[str, str, str]] = (),
) -> RawObject:
    """Lets ``<account>.<namespace>`` sources out to port 443 with https, unless told otherwise.

    ``matches`` are apiGroup, kind and name.
    """
    spec = {
        "sources": [_subject(source) for source in sources],
        "hosts": list(hosts),
        "ports": [{"number": n, "protocol": p} for n, p in (ports or {443: "https"}).items()],
        "matches": [{"apiGroup": g, "kind": k, "name": n} for g, k, n in matches],
    }
    return raw("Egress", path, api=POLICY, spec=spec)


def ingress_backend(
    path: str,
    *backends: tuple[str, int],
    protocol: str = "http",
    sources: Iterable[Mapping[str, str]] = ({"kind": "IPRange", "name": "10.0.0.0/8"},),
    skip: bool | None = None,
) -> RawObject:
    """Lets sources in to Services by name and target port, by default ``web`` on 8080."""
    tls = {} if skip is None else {"tls": {"skipClientCertValidation": skip}}
    targets = [
        {"name": name, "port": {"number": number, "protocol": protocol}, **tls}
        for name, number in backends or (("web", 8080),)
    ]
    return raw(
        "IngressBackend", path, api=POLICY, spec={"backends": targets, "sources": list(sources)}
    )


def retry(
    path: str, *, to: Mapping[str, str] | None = None, source: str = "web", **rules: Any
) -> RawObject:
    """Requests of the account of the object's namespace to one Service are tried again."""
    namespace, _, _ = path.rpartition("/")
    spec = {
        "source": {"kind": "ServiceAccount", "name": source, "namespace": namespace},
        "destinations": [{"kind": "Service", "name": "pay", "namespace": namespace, **(to or {})}],
        "retryPolicy": {"retryOn": "5xx", "perTryTimeout": "1s", "numRetries": 2, **rules},
    }
    return raw("Retry", path, api=POLICY, spec=spec)


def traffic_setting(
    path: str,
    *,
    host: str = "web.shop.svc.cluster.local",
    meta: Mapping[str, Any] | None = None,
    **spec: Any,
) -> RawObject:
    """An UpstreamTrafficSetting of the host."""
    return raw("UpstreamTrafficSetting", path, api=POLICY, meta=meta, spec={"host": host, **spec})


def telemetry(path: str, **spec: Any) -> RawObject:
    """A Telemetry of the whole namespace, unless it has a ``selector``."""
    return raw("Telemetry", path, api=POLICY, spec=spec)


def extension_service(path: str, **spec: Any) -> RawObject:
    """An ExtensionService."""
    fields = {"host": "collector.out.svc.cluster.local", "port": 4317, **spec}
    return raw("ExtensionService", path, api=CONFIG, spec=fields)


def root_certificate(path: str, *, role: str = "active", **spec: Any) -> RawObject:
    """A MeshRootCertificate of the built-in CA, with the preset's trust domain."""
    ca = {"secretRef": {"name": "osm-ca-bundle", "namespace": "osm-system"}}
    fields = {"provider": {"tresor": {"ca": ca}}, "role": role, **spec}
    return raw("MeshRootCertificate", path, api=CONFIG, spec=fields)


def changed(obj: RawObject, where: str = "") -> ObjectChanged:
    """The event that an object has this content now; a refused object is a failure of the test."""
    decoded = decode(obj, where)
    assert not isinstance(decoded, Rejected), str(decoded)
    key, view = decoded
    return ObjectChanged(key=key, object=view, where=where or str(key))


def store(*objects: RawObject) -> ObjectStore:
    """A store that holds the objects."""
    found = ObjectStore()
    for obj in objects:
        found.apply(changed(obj))
    return found


def snapshot(*objects: RawObject, issuers: Issuers | None = None) -> MeshSnapshot:
    """The snapshot of a mesh made of the objects."""
    progress = refresh(store(*objects), None, scope=MeshScope(), issuers=issuers or Issuers())
    return progress.snapshot
