"""The mesh that is measured: its objects, a source and writer in memory, and its sidecars' keys.

Services have five Pods each and run as accounts of their own; every account may call ten services.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from app.certs.builtin import CERTIFICATE_FIELD, KEY_FIELD
from app.certs.x509 import SigningRoot
from app.events import ObjectChanged, ObjectEvent, Synced
from app.objects.meta import ObjectKey, ObjectKind, RawObject, Rejected
from app.objects.patch import merge_patch
from app.objects.scheme import decode
from app.ports import CertificateRequest
from xds.policy.identity import Issuer, ProxyId, ServiceIdentity
from xds.policy.proxy import KeyPair

PODS_PER_SERVICE = 5
CALLS = 10
_SERVICES_PER_NAMESPACE = 20


@dataclass(frozen=True, kw_only=True)
class SidecarKeys:
    """One synthetic sidecar: who it is and what it shows, PEM."""

    uuid: str
    chain: str
    key: str

    def as_json(self) -> dict[str, str]:
        return asdict(self)


class MeshObjects:
    """The objects of a mesh of so many services, and edits of them."""

    def __init__(self, services: int) -> None:
        self.services = services

    def all(self) -> list[RawObject]:
        """Every object, each namespace before what is in it."""
        namespaces = sorted({self.namespace(n) for n in range(self.services)})
        found = [self.config(permissive=False)]
        for namespace in namespaces:
            labels = {"openservicemesh.io/monitored-by": "osm"}
            found.append(_raw("v1", "Namespace", "", namespace, labels=labels))
            found.append(self._routes(namespace))
        for n in range(self.services):
            found += [self._service(n), self._target(n), self.endpoints(n)]
            found += [self.pod(n, i) for i in range(PODS_PER_SERVICE)]
        return [*found, self.split(90)]

    def namespace(self, n: int) -> str:
        return f"team-{n // _SERVICES_PER_NAMESPACE:02}"

    def config(self, *, permissive: bool) -> RawObject:
        spec = {"traffic": {"enablePermissiveTrafficPolicyMode": permissive, "enableEgress": False}}
        api = "config.openservicemesh.io/v1alpha2"
        return _raw(api, "MeshConfig", "osm-system", "osm-mesh-config", spec=spec)

    def split(self, weight: int) -> RawObject:
        """Requests for the first service are shared between the first two."""
        backends = [
            {"service": self.name(0), "weight": weight},
            {"service": self.name(1), "weight": 100 - weight},
        ]
        spec = {"service": self.name(0), "backends": backends}
        return _raw(
            "split.smi-spec.io/v1alpha2", "TrafficSplit", self.namespace(0), "split", spec=spec
        )

    def endpoints(self, n: int, *, ready: int = PODS_PER_SERVICE) -> RawObject:
        """The service's Endpoints: its first Pods are ready."""
        addresses = [
            {"ip": _ip(n, i), "targetRef": {"kind": "Pod", "name": f"{self.name(n)}-{i}"}}
            for i in range(ready)
        ]
        subsets = [{"addresses": addresses, "ports": [{"name": "http", "port": 8080}]}]
        return _raw("v1", "Endpoints", self.namespace(n), self.name(n), subsets=subsets)

    def pod(self, n: int, i: int, *, restarts: int = 0) -> RawObject:
        """A Pod; restarts change nothing but its status and resourceVersion."""
        labels = {"app": self.name(n), "osm-proxy-uuid": self.proxy(n, i).uuid}
        spec = {
            "serviceAccountName": self.name(n),
            "containers": [{"name": "app", "ports": [{"name": "http", "containerPort": 8080}]}],
        }
        status = {
            "phase": "Running",
            "podIP": _ip(n, i),
            "containerStatuses": [{"name": "app", "restartCount": restarts}],
        }
        name = f"{self.name(n)}-{i}"
        found = _raw("v1", "Pod", self.namespace(n), name, labels=labels, spec=spec, status=status)
        found["metadata"] |= {
            "resourceVersion": str(restarts),
            "annotations": {"restarted": str(restarts)},
        }
        return found

    def proxy(self, n: int, i: int) -> ProxyId:
        identity = ServiceIdentity(namespace=self.namespace(n), service_account=self.name(n))
        return ProxyId(uuid=str(UUID(int=1 + n * PODS_PER_SERVICE + i)), identity=identity)

    def proxies(self) -> list[ProxyId]:
        return [self.proxy(n, i) for n in range(self.services) for i in range(PODS_PER_SERVICE)]

    def name(self, n: int) -> str:
        return f"service-{n:04}"

    def callers(self, n: int) -> list[int]:
        """Services that may call this one."""
        return sorted({(n - step) % self.services for step in range(1, CALLS + 1)} - {n})

    def _service(self, n: int) -> RawObject:
        spec = {
            "selector": {"app": self.name(n)},
            "clusterIP": f"10.96.{n // 250}.{n % 250 + 1}",
            "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
        }
        return _raw("v1", "Service", self.namespace(n), self.name(n), spec=spec)

    def _routes(self, namespace: str) -> RawObject:
        matches = [
            {"name": "read", "pathRegex": "/items.*", "methods": ["GET"]},
            {"name": "write", "pathRegex": "/items", "methods": ["POST", "PUT"]},
            {"name": "health", "pathRegex": "/health", "methods": ["GET"]},
        ]
        api = "specs.smi-spec.io/v1alpha4"
        return _raw(api, "HTTPRouteGroup", namespace, "routes", spec={"matches": matches})

    def _target(self, n: int) -> RawObject:
        spec = {
            "destination": _account(self.name(n), self.namespace(n)),
            "sources": [_account(self.name(c), self.namespace(c)) for c in self.callers(n)],
            "rules": [{"kind": "HTTPRouteGroup", "name": "routes"}],
        }
        api = "access.smi-spec.io/v1alpha3"
        return _raw(api, "TrafficTarget", self.namespace(n), self.name(n), spec=spec)


class MemorySource:
    """Implements ``ObjectSource``: what is put is what there is."""

    def __init__(self, objects: Iterable[RawObject]) -> None:
        self._objects = list(objects)
        self._post: Callable[[ObjectEvent], None] = lambda _: None

    def start(self, post: Callable[[ObjectEvent], None], kinds: Iterable[ObjectKind]) -> None:
        self._post = post
        self.put(*self._objects)
        self._objects.clear()
        post(Synced(kinds=frozenset(kinds)))

    def stop(self) -> None:
        self._post = lambda _: None

    def put(self, *objects: RawObject) -> None:
        """The objects have this content now."""
        for raw in objects:
            found = decode(raw, "")
            if isinstance(found, Rejected):
                raise TypeError(str(found))
            key, view = found
            self._post(ObjectChanged(key=key, object=view, where=str(key)))


class MemoryWriter:
    """Implements ``ObjectWriter`` with a dictionary."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._objects: dict[ObjectKey, RawObject] = {}

    def read(self, key: ObjectKey) -> RawObject | None:
        with self._lock:
            return self._objects.get(key)

    def create(self, raw: RawObject) -> None:
        self.replace(raw)

    def replace(self, raw: RawObject) -> None:
        metadata = raw["metadata"]
        key = ObjectKey(
            kind=ObjectKind(raw["kind"]),
            namespace=metadata.get("namespace", ""),
            name=metadata["name"],
        )
        with self._lock:
            self._objects[key] = raw

    def patch(self, key: ObjectKey, patch: RawObject) -> None:
        with self._lock:
            self._objects[key] = merge_patch(self._objects[key], patch)

    def patch_status(self, key: ObjectKey, status: RawObject) -> None:
        self.patch(key, {"status": status})

    def delete(self, key: ObjectKey) -> None:
        with self._lock:
            self._objects.pop(key, None)


def sidecar_keys(secret: RawObject, proxies: Iterable[ProxyId]) -> tuple[str, list[SidecarKeys]]:
    """The mesh's root and a certificate for each proxy, signed by it."""
    now = datetime.now(UTC)
    contents = {name: base64.b64decode(text) for name, text in secret["data"].items()}
    pair = KeyPair(certificate_chain=contents[CERTIFICATE_FIELD], private_key=contents[KEY_FIELD])
    root = SigningRoot.parse(pair, now=now, where="benchmark")
    found = []
    for proxy in proxies:
        request = CertificateRequest(
            common_name=None,
            dns_names=(Issuer().proxy_dns_name(proxy),),
            lifetime=timedelta(days=1),
        )
        issued = root.issue(request, now=now).key_pair
        found.append(
            SidecarKeys(
                uuid=proxy.uuid,
                chain=issued.certificate_chain.decode(),
                key=issued.private_key.decode(),
            )
        )
    return pair.certificate_chain.decode(), found


def _raw(
    api: str,
    kind: str,
    namespace: str,
    name: str,
    *,
    labels: dict[str, str] | None = None,
    **fields: Any,
) -> RawObject:
    metadata: dict[str, Any] = {"name": name, "labels": labels or {}}
    if namespace:
        metadata["namespace"] = namespace
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **fields}


def _account(name: str, namespace: str) -> dict[str, str]:
    return {"kind": "ServiceAccount", "name": name, "namespace": namespace}


def _ip(n: int, i: int) -> str:
    return f"10.{1 + n // 250}.{n % 250}.{i + 1}"
