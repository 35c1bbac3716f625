"""One Service with its Pods and endpoints: its mesh services, their addresses and who serves them.

Typed objects come in, a :class:`ServiceState` goes out to ``refresh``. ``addresses`` joins the
services of all of them, ``join_endpoints`` their endpoints. Specification: data-plane 3.2 to 3.5,
3.7 and 5.11. Not a service of the mesh: one without selector, of type ExternalName, or whose Pods
have no sidecar.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import ip_address

from app.mesh.findings import Finding
from app.mesh.memory import Candidate, ServiceState, Shape
from app.mesh.snapshot import EndpointTable
from app.mesh.workloads import has_sidecar, identity_of, workload_of
from app.objects.core import Endpoints, EndpointSlice, Pod, Service, ServicePort, TargetRef
from app.objects.meta import ObjectKey, ObjectKind
from xds.policy.service import Endpoint, MeshService, Protocol

_APP_PROTOCOLS: Mapping[str, Protocol] = {
    **{str(protocol): protocol for protocol in Protocol},
    **dict.fromkeys(
        ("kubernetes.io/h2c", "kubernetes.io/ws", "h2c", "http2", "grpc-web", "ws"), Protocol.HTTP
    ),
    **dict.fromkeys(
        ("https", "kubernetes.io/wss", "tls", "mysql", "redis", "mongo", "postgres", "postgresql"),
        Protocol.TCP,
    ),
}
_BY_PREFIX = (Protocol.TCP_SERVER_FIRST, Protocol.HTTP, Protocol.TCP, Protocol.GRPC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backing:
    """One address behind a Service that belongs to a Pod with a sidecar."""

    ip: str
    hostname: str
    pod: Pod
    ready: bool
    draining: bool
    ports: Mapping[str, int]


def protocol_of(port: ServicePort) -> Protocol | None:
    """How the mesh treats a Service port: ``appProtocol``, else its name, else HTTP (3.3).

    None for an ``appProtocol`` the mesh does not know.
    """
    if port.app_protocol:
        return _APP_PROTOCOLS.get(port.app_protocol.lower())
    for protocol in _BY_PREFIX:
        if port.name == protocol or port.name.startswith(f"{protocol}-"):
            return protocol
    return Protocol.HTTP


@lru_cache(maxsize=65536)
def address_order(address: str) -> tuple[int, int]:
    """Sort key of addresses: IPv4 before IPv6, then by number."""
    parsed = ip_address(address)
    return parsed.version, int(parsed)


def service_state(
    service: Service,
    pods: Sequence[Pod],
    *,
    slices: Sequence[EndpointSlice],
    endpoints: Endpoints | None,
) -> ServiceState:
    """What a Service of a monitored namespace is to the mesh.

    ``pods`` are those its selector picks that have not finished; where there are ``slices``,
    ``endpoints`` is not read.
    """
    backings: list[Backing] = []
    shape: Shape | None = None
    if _is_of_mesh(service, pods):
        members = {pod.name: pod for pod in pods if has_sidecar(pod)}
        found = _from_slices(slices, members) if slices else _from_endpoints(endpoints, members)
        backings = sorted(found, key=lambda backing: address_order(backing.ip))
        shape = _shape(service, list(members.values()), backings)
    return ServiceState(
        pods=frozenset(pod.name for pod in pods),
        slices=frozenset(one.name for one in slices),
        shape=shape,
        endpoints=_endpoints(shape, backings) if shape else {},
    )


def keep_endpoints(old: ServiceState | None, new: ServiceState) -> ServiceState:
    """The new state, with the old tuple of endpoints wherever it is equal."""
    if old is None:
        return new
    return replace(
        new,
        endpoints={
            service: before if (before := old.endpoints.get(service)) == found else found
            for service, found in new.endpoints.items()
        },
    )


def join_endpoints(
    table: EndpointTable,
    old: Mapping[tuple[str, str], ServiceState],
    new: Mapping[tuple[str, str], ServiceState],
) -> EndpointTable:
    """The endpoints of all new states; ``table``, which has those of the old, where none differ.

    States are compared by object, and so are the tuples of endpoints that ``keep_endpoints`` kept.
    """
    gone: set[MeshService] = set()
    come: dict[MeshService, tuple[Endpoint, ...]] = {}
    for name in old.keys() | new.keys():
        before, after = old.get(name), new.get(name)
        if before is not after:
            gone |= before.endpoints.keys() if before else set()
            come.update(after.endpoints if after else {})
    if gone == come.keys() and all(table.by_service[one] is come[one] for one in come):
        return table
    kept = {key: found for key, found in table.by_service.items() if key not in gone}
    return EndpointTable(by_service=kept | come)


def _is_of_mesh(service: Service, pods: Sequence[Pod]) -> bool:
    if service.spec.type == "ExternalName" or not service.spec.selector:
        return False
    return not pods or any(has_sidecar(pod) for pod in pods)


def _from_slices(slices: Iterable[EndpointSlice], members: Mapping[str, Pod]) -> Iterator[Backing]:
    for one in slices:
        ports = {port.name: port.port for port in one.ports if port.port and port.protocol == "TCP"}
        for entry in one.endpoints:
            # Addresses of one entry are equivalent; the first is enough.
            for ip in filter(is_address, entry.addresses[:1]):
                pod = _pod_behind(ip, entry.target_ref, members)
                if pod is not None:
                    state = entry.conditions
                    yield Backing(
                        ip=ip,
                        hostname=entry.hostname,
                        pod=pod,
                        ready=state.is_ready,
                        draining=state.is_draining or (state.is_ready and _is_leaving(pod)),
                        ports=ports,
                    )


def _from_endpoints(found: Endpoints | None, members: Mapping[str, Pod]) -> Iterator[Backing]:
    for subset in found.subsets if found else ():
        ports = {
            port.name: port.port for port in subset.ports if port.port and port.protocol == "TCP"
        }
        entries = [(address, True) for address in subset.addresses]
        entries += [(address, False) for address in subset.not_ready_addresses]
        for address, ready in entries:
            pod = _pod_behind(address.ip, address.target_ref, members)
            if pod is not None and is_address(address.ip):
                yield Backing(
                    ip=address.ip,
                    hostname=address.hostname,
                    pod=pod,
                    ready=ready,
                    draining=ready and _is_leaving(pod),
                    ports=ports,
                )


def is_address(text: str) -> bool:
    """False for the names of an FQDN slice, for none, and with a zone, which Envoy refuses."""
    try:
        address_order(text)
    except ValueError:
        return False
    return "%" not in text


def _is_leaving(pod: Pod) -> bool:
    return pod.metadata.deletion_timestamp is not None


def _pod_behind(ip: str, ref: TargetRef, members: Mapping[str, Pod]) -> Pod | None:
    """The Pod an address belongs to; None for one the Service does not select or that has moved."""
    if ref.kind == "Pod":
        pod = members.get(ref.name)
        # A Pod made anew under an old name: the address is of the one before.
        return pod if pod and (not pod.addresses or ip in pod.addresses) else None
    return next((pod for pod in members.values() if ip in pod.addresses), None)


def _shape(service: Service, members: list[Pod], backings: Sequence[Backing]) -> Shape:
    key = ObjectKey(kind=ObjectKind.SERVICE, namespace=service.namespace, name=service.name)
    findings: list[Finding] = []
    candidates: list[Candidate] = []
    seen: set[int] = set()
    for index, port in enumerate(service.spec.ports):
        if port.protocol != "TCP":
            continue
        field = f"spec.ports[{index}]"
        protocol = protocol_of(port)
        if port.port in seen:
            findings.append(_twice(key, field, port))
        elif protocol is None:
            findings.append(_unknown_protocol(key, field, port))
        else:
            seen.add(port.port)
            builder = _PortReader(service=service, port=port, protocol=protocol, field=field)
            candidates += builder.candidates(members, backings)
    return Shape(
        key=key,
        candidates=tuple(candidates),
        identities=tuple(sorted({identity_of(pod) for pod in members})),
        created=service.metadata.creation_timestamp,
        findings=(*findings, *_mixed_targets(key, candidates)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _PortReader:
    """One port of a Service that the mesh serves."""

    service: Service
    port: ServicePort
    protocol: Protocol
    field: str

    def candidates(self, members: Sequence[Pod], backings: Sequence[Backing]) -> list[Candidate]:
        """Its mesh services: one per host name and target, the service as a whole first."""
        hostnames = {b.hostname for b in backings} if self.service.headless else set()
        found = self._of_host("", members, backings)
        for hostname in sorted(hostnames - {""}):
            own = [backing for backing in backings if backing.hostname == hostname]
            found += self._of_host(hostname, members, own)
        return found

    def _of_host(
        self, hostname: str, members: Sequence[Pod], backings: Sequence[Backing]
    ) -> list[Candidate]:
        targets = self._targets(members, backings)
        declared = self.port.target_port
        target_name = declared if isinstance(declared, str) else ""
        return [
            Candidate(
                service=MeshService(
                    namespace=self.service.namespace,
                    name=self.service.name,
                    subdomain=hostname,
                    port=self.port.port,
                    target=target,
                    protocol=self.protocol,
                ),
                addresses=self._addresses(hostname, backings),
                port_name=self.port.name,
                target_name=target_name,
                share=targets[target] if len(targets) > 1 else 1,
                field=self.field,
            )
            for target in sorted(targets)
        ]

    def _targets(self, members: Sequence[Pod], backings: Sequence[Backing]) -> dict[int, int]:
        """Ports that Pods listen on, with how many do; readiness plays no part (3.2)."""
        targets: dict[int, int] = {}
        for backing in backings:
            number = backing.ports.get(self.port.name)
            if number is not None:
                targets[number] = targets.get(number, 0) + 1
        return targets or {self._declared_target(members): 1}

    def _declared_target(self, members: Sequence[Pod]) -> int:
        target = self.port.target_port
        if isinstance(target, str):
            numbers = (pod.port_number(target) for pod in members)
            return next((number for number in numbers if number is not None), self.port.port)
        return target or self.port.port

    def _addresses(self, hostname: str, backings: Sequence[Backing]) -> tuple[str, ...]:
        """What clients dial; a headless TCP service leaves named endpoints to their own (3.4)."""
        if not self.service.headless:
            return tuple(sorted(self.service.addresses, key=address_order))
        named_elsewhere = not hostname and not self.protocol.is_http
        return tuple(dict.fromkeys(b.ip for b in backings if not (named_elsewhere and b.hostname)))


def _endpoints(
    shape: Shape, backings: Sequence[Backing]
) -> dict[MeshService, tuple[Endpoint, ...]]:
    """Endpoints per mesh service, sorted by address; not-ready ones are left out."""
    serving = [b for b in _one_family(backings) if b.ready or b.draining]
    found: dict[MeshService, tuple[Endpoint, ...]] = {}
    for candidate in shape.candidates:
        service = candidate.service
        found[service] = tuple(
            _endpoint(backing, service.target)
            for backing in serving
            if backing.ports.get(candidate.port_name) == service.target
            and service.subdomain in ("", backing.hostname)
        )
    return found


def _one_family(backings: Sequence[Backing]) -> list[Backing]:
    """One backing per address, IPv4 only where there is any: sidecars capture no IPv6 beside it."""
    unique = {(backing.ip, tuple(backing.ports.items())): backing for backing in backings}
    old = [b for b in unique.values() if address_order(b.ip)[0] == 4]  # noqa: PLR2004
    return old or list(unique.values())


def _endpoint(backing: Backing, port: int) -> Endpoint:
    return Endpoint(
        address=backing.ip,
        port=port,
        draining=backing.draining,
        pod=backing.pod.name,
        workload=workload_of(backing.pod),
        identity=identity_of(backing.pod),
    )


def _twice(key: ObjectKey, field: str, port: ServicePort) -> Finding:
    reason = f"repeats port {port.port}: remove one, the first is in force"
    return Finding(key=key, field=field, reason=reason, code="E3002")


def _unknown_protocol(key: ObjectKey, field: str, port: ServicePort) -> Finding:
    reason = (
        f"{port.app_protocol!r} is not a protocol the mesh knows, so the port is skipped: "
        "use http, grpc, tcp or tcp-server-first"
    )
    return Finding(key=key, field=f"{field}.appProtocol", reason=reason, code="E5020")


def _mixed_targets(key: ObjectKey, candidates: Sequence[Candidate]) -> list[Finding]:
    """Ports that lead to a target which another port serves as HTTP: that one wins (5.5)."""
    http = {
        (found.service.subdomain, found.service.target): found.service.port
        for found in candidates
        if found.service.protocol.is_http
    }
    lost = {}
    for found in candidates:
        target = found.service.target
        winner = http.get((found.service.subdomain, target))
        if winner is not None and not found.service.protocol.is_http:
            reason = (
                f"leads to port {target} of its Pods, which Service port {winner} serves as HTTP, "
                "so HTTP is in force: give both one protocol"
            )
            lost[found.field] = Finding(key=key, field=found.field, reason=reason, code="E5020")
    return list(lost.values())
