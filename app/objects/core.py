"""Objects of Kubernetes itself: Namespace, Pod, Service, Endpoints, EndpointSlice and the like.

Raw objects come in through ``scheme.decode``; read-only views with only the fields the mesh reads
go out, to ``app/mesh``. So a change of anything else (status conditions, images, environment)
compares equal. A Secret's content is never kept.
Source: data-plane 3; the Kubernetes API reference, core/v1 and discovery.k8s.io/v1.
"""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from app.objects.meta import (
    SERVICE_NAME_LABEL,
    KubeModel,
    KubeObject,
    Label,
    Name,
    StringMap,
    shown,
    soft_error,
)

PortNumber = Annotated[int, Field(ge=1, le=65535)]
_FINISHED = frozenset({"Succeeded", "Failed"})
_HEADLESS = frozenset({"", "None"})


def _address(value: Any) -> Any:
    """An address in its one canonical form; Envoy refuses whole resources for a wrong one."""
    if isinstance(value, str):
        if value in _HEADLESS:
            return value
        with suppress(ValueError):
            found = ip_address(value)
            # A zone (fe80::1%eth0) has no meaning beyond one machine.
            if "%" not in value:
                return str(found)
    rule = "must be an IP address such as 10.0.0.1"
    raise soft_error("address", f"{rule}, not {shown(value)}")


Address = Annotated[str, BeforeValidator(_address)]
"""An IP address; empty or ``None`` where Kubernetes has none."""


class Namespace(KubeObject):
    """Whether it is of the mesh is told by its labels and annotations."""


class ServiceAccount(KubeObject):
    """Who a Pod runs as; known by its name alone."""


class Secret(KubeObject):
    """That a Secret exists, and its labels and annotations; never what is in it."""


class ContainerPort(KubeModel):
    """A port a container declares; the name is what a Service's ``targetPort`` may refer to."""

    name: str = ""
    container_port: PortNumber
    protocol: str = "TCP"


class Container(KubeModel):
    """A container of a Pod: its declared ports."""

    name: str = ""
    ports: tuple[ContainerPort, ...] = ()


class PodSpec(KubeModel):
    """What a Pod was asked to be."""

    service_account_name: Name = ""
    host_network: bool = False
    hostname: Label = ""
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()


class PodAddress(KubeModel):
    """One address of a Pod."""

    ip: Address = ""


class PodStatus(KubeModel):
    """What a Pod is now."""

    phase: str = ""
    pod_ip: Address = Field("", alias="podIP")
    pod_ips: tuple[PodAddress, ...] = Field((), alias="podIPs")


class Pod(KubeObject):
    """One workload: containers that share an account, labels and an address."""

    spec: PodSpec = Field(default_factory=PodSpec)
    status: PodStatus = Field(default_factory=PodStatus)

    @property
    def service_account(self) -> str:
        """The account it runs as; Kubernetes fills in ``default``."""
        return self.spec.service_account_name or "default"

    @property
    def finished(self) -> bool:
        """True when its containers have ended for good."""
        return self.status.phase in _FINISHED

    @property
    def host(self) -> str:
        """The host name its endpoints carry where it has one: the spec's, else its own name."""
        return self.spec.hostname or self.name

    @property
    def addresses(self) -> frozenset[str]:
        """All its addresses; empty until it has one."""
        found = {address.ip for address in self.status.pod_ips} | {self.status.pod_ip}
        return frozenset(found - _HEADLESS)

    def port_number(self, name: str) -> int | None:
        """The number of the TCP port of that name, the first where several have it."""
        for container in (*self.spec.containers, *self.spec.init_containers):
            for port in container.ports:
                if port.name == name and port.protocol == "TCP":
                    return port.container_port
        return None


class ServicePort(KubeModel):
    """One port of a Service; ``target_port`` None means the same number."""

    name: str = ""
    port: PortNumber
    target_port: PortNumber | str | None = None
    protocol: str = "TCP"
    app_protocol: str = ""


class ServiceSpec(KubeModel):
    """What a Service offers, and which Pods are behind it."""

    type: str = "ClusterIP"
    cluster_ip: Address = Field("", alias="clusterIP")
    cluster_ips: tuple[Address, ...] = Field((), alias="clusterIPs")
    selector: StringMap = Field(default_factory=dict)
    ports: tuple[ServicePort, ...] = ()


class Service(KubeObject):
    """A name and an address for Pods that a selector picks."""

    spec: ServiceSpec = Field(default_factory=ServiceSpec)

    @property
    def headless(self) -> bool:
        """True when clients dial the Pods themselves: it has no address of its own."""
        return self.spec.cluster_ip in _HEADLESS

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its own addresses, unique, as written; empty when headless."""
        if self.headless:
            return ()
        given = dict.fromkeys((self.spec.cluster_ip, *self.spec.cluster_ips))
        return tuple(address for address in given if address not in _HEADLESS)


class TargetRef(KubeModel):
    """The object behind an address."""

    kind: str = ""
    name: str = ""


class EndpointAddress(KubeModel):
    """One address of an Endpoints object."""

    ip: Address
    hostname: Label = ""
    target_ref: TargetRef = Field(default_factory=TargetRef)


class EndpointPort(KubeModel):
    """A port behind a Service port of the same name; ``port`` None means any."""

    name: str = ""
    port: PortNumber | None = None
    protocol: str = "TCP"


class EndpointSubset(KubeModel):
    """Addresses that serve the same ports."""

    addresses: tuple[EndpointAddress, ...] = ()
    not_ready_addresses: tuple[EndpointAddress, ...] = ()
    ports: tuple[EndpointPort, ...] = ()


class Endpoints(KubeObject):
    """What serves the Service of the same name; superseded by EndpointSlices."""

    subsets: tuple[EndpointSubset, ...] = ()


class EndpointConditions(KubeModel):
    """State of one endpoint; None means unknown, which counts as ready and as not terminating."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None

    @property
    def is_ready(self) -> bool:
        """True when new connections may go there."""
        return self.ready is not False

    @property
    def is_draining(self) -> bool:
        """True when it terminates but still serves: what is open may finish."""
        return bool(self.terminating) and self.serving is not False


class SliceEndpoint(KubeModel):
    """One endpoint of a slice: equivalent addresses of one workload."""

    addresses: tuple[str, ...] = ()
    hostname: Label = ""
    conditions: EndpointConditions = Field(default_factory=EndpointConditions)
    target_ref: TargetRef = Field(default_factory=TargetRef)


class EndpointSlice(KubeObject):
    """A part of what serves one Service, which a label names."""

    endpoints: tuple[SliceEndpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()

    @property
    def service(self) -> str:
        """Name of the Service it belongs to, in its own namespace; empty: it belongs to none."""
        return self.metadata.labels.get(SERVICE_NAME_LABEL, "")
