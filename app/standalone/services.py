"""Services and Pods → Endpoints, ClusterIP forwards and the zone of the mesh's DNS; pure.

Called by the kubelet after every change. A Pod that is ending is in none of the three, so nobody
new calls it; one that is not ready is known, but not called. Host names are those of data-plane
3.6.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from app.objects.core import Service, ServicePort
from app.objects.meta import RawObject, selects
from app.standalone.nat import ServiceForward
from app.standalone.rollout import is_ready

_EXTERNAL = "ExternalName"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A Pod as Services see it: it has an address, and neither ends nor has ended."""

    namespace: str
    name: str
    uid: str
    labels: Mapping[str, str]
    address: str
    ready: bool
    hostname: str
    subdomain: str
    ports: Mapping[str, int]
    """By name, as its containers declare them."""


def backends(pods: Iterable[RawObject]) -> tuple[Backend, ...]:
    """The Pods that may serve, sorted by namespace and name."""
    found = [_backend(pod) for pod in pods if _serves(pod)]
    return tuple(sorted(found, key=lambda backend: (backend.namespace, backend.name)))


def _serves(pod: RawObject) -> bool:
    status = pod.get("status") or {}
    ended = status.get("phase") in ("Succeeded", "Failed")
    return bool(status.get("podIP")) and not ended and "deletionTimestamp" not in pod["metadata"]


def _backend(pod: RawObject) -> Backend:
    metadata, spec = pod["metadata"], pod["spec"]
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    # The first container that declares a name has it, as in Kubernetes.
    ports = [
        (port["name"], int(port["containerPort"]))
        for container in reversed(containers)
        for port in reversed(container.get("ports") or ())
        if port.get("name")
    ]
    return Backend(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        labels=metadata.get("labels") or {},
        address=pod["status"]["podIP"],
        ready=is_ready(pod),
        hostname=spec.get("hostname") or "",
        subdomain=spec.get("subdomain") or "",
        ports=dict(ports),
    )


def endpoints_of(service: Service, pods: Sequence[Backend]) -> RawObject | None:
    """The Endpoints object of a Service, or None where a selector does not make them."""
    if not service.spec.selector or service.spec.type == _EXTERNAL:
        return None
    groups: dict[tuple[tuple[str, int, str], ...], list[Backend]] = {}
    for pod in pods:
        if pod.namespace == service.namespace and selects(service.spec.selector, pod.labels):
            groups.setdefault(_resolved(service, pod), []).append(pod)
    subsets = [_subset(service, ports, found) for ports, found in sorted(groups.items())]
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": service.name, "namespace": service.namespace},
        "subsets": subsets,
    }


def _resolved(service: Service, pod: Backend) -> tuple[tuple[str, int, str], ...]:
    """The Service's ports as numbers of this Pod; a name that the Pod lacks is left out."""
    found = ((port.name, _target(port, pod), port.protocol) for port in service.spec.ports)
    return tuple((name, number, protocol) for name, number, protocol in found if number)


def _target(port: ServicePort, pod: Backend) -> int:
    match port.target_port:
        case None:
            return port.port
        case int(number):
            return number
        case name:
            return pod.ports.get(name, 0)


def _subset(
    service: Service, ports: tuple[tuple[str, int, str], ...], pods: Sequence[Backend]
) -> RawObject:
    subset: RawObject = {}
    for field, ready in (("addresses", True), ("notReadyAddresses", False)):
        found = [_address(service, pod) for pod in pods if pod.ready is ready]
        if found:
            subset[field] = found
    subset["ports"] = [
        {**({"name": name} if name else {}), "port": number, "protocol": protocol}
        for name, number, protocol in ports
    ]
    return subset


def _address(service: Service, pod: Backend) -> RawObject:
    reference = {"kind": "Pod", "namespace": pod.namespace, "name": pod.name, "uid": pod.uid}
    address: RawObject = {"ip": pod.address, "targetRef": reference}
    if pod.hostname and pod.subdomain == service.name:
        address["hostname"] = pod.hostname
    return address


def forwards(services: Iterable[Service], pods: Sequence[Backend]) -> tuple[ServiceForward, ...]:
    """Every port of every ClusterIP with the ready Pods behind it."""
    found = []
    for service in services:
        chosen = [pod for pod in _chosen(service, pods) if pod.ready]
        for address in service.addresses:
            for port in service.spec.ports:
                targets = ((pod.address, _target(port, pod)) for pod in chosen)
                found.append(
                    ServiceForward(
                        address=address,
                        port=port.port,
                        protocol=port.protocol,
                        targets=tuple(target for target in targets if target[1]),
                    )
                )
    return tuple(found)


def zone(
    services: Iterable[Service],
    pods: Sequence[Backend],
    *,
    dns_suffix: str,
    control_plane: tuple[str, str, str],
) -> dict[str, tuple[str, ...]]:
    """All complete names of the mesh and their addresses.

    ``control_plane``: name, namespace and address of the Service that sidecars ask for
    configuration.
    """
    names: dict[str, tuple[str, ...]] = {}
    for service in services:
        if service.spec.type == _EXTERNAL:
            continue
        host = f"{service.name}.{service.namespace}"
        names.update(_forms(host, _dialled(service, pods), dns_suffix))
        for pod in _chosen(service, pods):
            if pod.hostname and pod.subdomain == service.name:
                names.update(_forms(f"{pod.hostname}.{host}", (pod.address,), dns_suffix))
    name, namespace, address = control_plane
    names.update(_forms(f"{name}.{namespace}", (address,), dns_suffix))
    return dict(sorted(names.items()))


def _dialled(service: Service, pods: Sequence[Backend]) -> tuple[str, ...]:
    if not service.headless:
        return service.addresses
    return tuple(pod.address for pod in _chosen(service, pods) if pod.ready)


def _chosen(service: Service, pods: Sequence[Backend]) -> list[Backend]:
    return [
        pod
        for pod in pods
        if pod.namespace == service.namespace and selects(service.spec.selector, pod.labels)
    ]


def _forms(host: str, addresses: tuple[str, ...], dns_suffix: str) -> dict[str, tuple[str, ...]]:
    """The complete forms of ``<host>.<ns>``; a resolver's search list leads the others there."""
    top = dns_suffix.partition(".")[0]
    return {f"{host}.svc.{dns_suffix}": addresses, f"{host}.svc.{top}": addresses}
