"""Mesh services and their endpoints: the destinations a policy speaks of.

Specification: data-plane 3.1 and 3.6. A mesh service is one port of one Service (per host name
where the Service is headless).
"""

from __future__ import annotations

import typing
from dataclasses import dataclass
from enum import StrEnum

from xds.policy.identity import ServiceIdentity


class Protocol(StrEnum):
    """How the mesh treats a port's traffic; gRPC is HTTP in all but name."""

    HTTP = "http"
    GRPC = "grpc"
    TCP = "tcp"
    TCP_SERVER_FIRST = "tcp-server-first"

    @property
    def is_http(self) -> bool:
        """True when requests, not only connections, are routed and authorised."""
        return self in (Protocol.HTTP, Protocol.GRPC)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class MeshService:
    """One port of one Service; ``target`` is the port its pods listen on, never 0."""

    namespace: str
    name: str
    subdomain: str = ""
    """Host name of one endpoint of a headless Service (StatefulSet pod); else empty."""
    port: int
    target: int
    protocol: Protocol

    @property
    def host(self) -> str:
        """``<name>`` or ``<subdomain>.<name>``."""
        return f"{self.subdomain}.{self.name}" if self.subdomain else self.name

    @property
    def full_name(self) -> str:
        """``<namespace>/<host>``."""
        return f"{self.namespace}/{self.host}"

    @property
    def parent(self) -> str:
        """``<namespace>/<name>``: what the members of one StatefulSet have in common."""
        return f"{self.namespace}/{self.name}"

    def fqdn(self, dns_suffix: str = "cluster.local") -> str:
        """Fully qualified name, also the SNI of the mesh's own TLS."""
        return f"{self.host}.{self.namespace}.svc.{dns_suffix}"

    def host_names(self, *, local: bool, dns_suffix: str = "cluster.local") -> tuple[str, ...]:
        """Host headers that mean this service, each without and with its port.

        ``local`` adds the short name, which only clients of the same namespace (and servers) use.
        """
        qualified = f"{self.host}.{self.namespace}"
        zone = dns_suffix.partition(".")[0]
        names = [qualified, f"{qualified}.svc", f"{qualified}.svc.{zone}", self.fqdn(dns_suffix)]
        unique = dict.fromkeys([self.host, *names] if local else names)
        return tuple(form for name in unique for form in (name, f"{name}:{self.port}"))


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Workload:
    """The controller object behind a Pod, as request metrics label it (data-plane 5.8)."""

    namespace: str
    kind: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Endpoint:
    """One workload that serves a mesh service; sorted by address, then port."""

    address: str
    port: int
    draining: bool = False
    """True while it terminates: existing requests finish, no new ones come."""
    pod: str
    workload: Workload
    identity: ServiceIdentity


class EndpointReader(typing.Protocol):
    """Where builders look endpoints up; the answer is the same object while nothing changed."""

    def endpoints(
        self, service: MeshService, identities: tuple[ServiceIdentity, ...] | None
    ) -> tuple[Endpoint, ...]:
        """Endpoints of the service whose workload runs as one of the identities; None means all."""
        ...
