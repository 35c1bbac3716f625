"""What a sidecar's start-up document is made of: who it is, where its control plane is, its probes.

Injection writes these values, ``xds.builders.bootstrap`` turns them into Envoy's Bootstrap
(kubernetes-surface 3.7 and 4, data-plane 5.2). Unlike a policy, a bootstrap belongs to one Pod.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from xds.policy.identity import ProxyId
from xds.policy.proxy import TlsParameters


class ProbeType(StrEnum):
    """The three probes of a container, each with a listener of its own."""

    LIVENESS = "liveness"
    READINESS = "readiness"
    STARTUP = "startup"

    @property
    def port(self) -> int:
        """The sidecar's port that answers probes of the type."""
        return _PROBE_PORTS[self]


_PROBE_PORTS = {ProbeType.LIVENESS: 15901, ProbeType.READINESS: 15902, ProbeType.STARTUP: 15903}


class ProbeCheck(StrEnum):
    """How the sidecar finds out what to answer."""

    HTTP = "http"
    """The request goes to the container in plain text."""
    HTTPS = "https"
    """The connection goes to the container; TLS ends there."""
    TCP = "tcp"
    """200 while the port accepts connections, else 503; Envoy tries it periodically."""
    GRPC = "grpc"
    """The health check call goes to the container over HTTP/2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One probe of one container, as its author wrote it; the sidecar answers it.

    ``path`` is percent-encoded and without a query, which stays in the request; only HTTP has one.
    """

    container: str
    type: ProbeType
    check: ProbeCheck
    port: int
    path: str = "/"
    timeout_seconds: int = 1
    period_seconds: int = 10

    @property
    def moved_path(self) -> str:
        """The path by which the kubelet asks the sidecar: exact, unique per container and type."""
        return f"/osm-{self.type}-probe/{self.container}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdsServer:
    """Where a sidecar finds its control plane, and how it recognises it."""

    host: str
    """A DNS name, or an IPv4 address on a machine without cluster DNS."""
    port: int = 15128
    server_name: str
    """Sent as SNI."""
    certificate_names: tuple[str, ...]
    """DNS names, one of which its certificate must carry; two while the trust domain changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapSpec:
    """All that a sidecar must know before the control plane speaks to it."""

    proxy: ProxyId
    pod_name: str
    """For display only; a generateName where the name is not known yet."""
    product_version: str
    ads: AdsServer
    tls: TlsParameters
    probes: tuple[Probe, ...] = ()
    waits_for_config: bool
    """True: no port opens before the first configuration came (native layout)."""
    drain_delay: timedelta
    """How long ``/osm-drain`` takes to answer; 0 answers at once."""
