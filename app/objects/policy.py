"""Egress, IngressBackend, Retry, Telemetry and the ExtensionService that Telemetry names.

Raw objects come in through ``scheme.decode``; views go to the snapshot and to ``app/validate``.
Types, bounds and what must be there are checked here; what one field means for another, and all
that has a message of its own, in ``app/validate``.
Source: kubernetes-surface 1.4 to 1.7 and 1.9.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from app.objects.config import Duration
from app.objects.core import PortNumber
from app.objects.meta import (
    KubeModel,
    KubeObject,
    Label,
    RequiredName,
    StringMap,
)

MAX_ENTRIES = 1000
"""Entries of any list of a policy object."""

Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=0, le=2**32 - 1)]
Bounded = Field(max_length=MAX_ENTRIES)


class PolicyRef(KubeModel):
    """An object a policy names in its own namespace; ``api_group`` may have a version."""

    api_group: str
    kind: str
    name: RequiredName

    @property
    def group(self) -> str:
        """The group without a version: the original's YAML has one, Kubernetes' custom has none."""
        return self.api_group.partition("/")[0]


class NamedSubject(KubeModel):
    """An account, or what else ``kind`` says, by name and namespace."""

    kind: str
    name: RequiredName
    namespace: Label


# Egress


class EgressPort(KubeModel):
    """A destination port and what is spoken there."""

    number: PortNumber
    protocol: Text


class EgressSpec(KubeModel):
    """Who may leave the mesh, and where to."""

    sources: Annotated[tuple[NamedSubject, ...], Bounded]
    hosts: Annotated[tuple[str, ...], Bounded] = ()
    ip_addresses: Annotated[tuple[str, ...], Bounded] = ()
    ports: Annotated[tuple[EgressPort, ...], Bounded]
    matches: Annotated[tuple[PolicyRef, ...], Bounded] = ()


class Egress(KubeObject):
    """Lets accounts reach destinations outside the mesh; counts where all may not anyway."""

    spec: EgressSpec


# IngressBackend


class BackendPort(KubeModel):
    """The port that the backend's Pods listen on, and what a gateway speaks to it."""

    number: PortNumber
    protocol: str


class BackendTls(KubeModel):
    """How the backend meets a gateway that speaks TLS."""

    skip_client_cert_validation: bool = False
    sni_hosts: Annotated[tuple[str, ...], Bounded] = ()


class IngressTarget(KubeModel):
    """A Service of the object's namespace that gateways may reach."""

    name: RequiredName
    port: BackendPort
    tls: BackendTls = Field(default_factory=BackendTls)


class IngressSource(KubeModel):
    """A client: a Service, a principal of a certificate, or a range of addresses."""

    kind: str
    name: str = ""
    namespace: str = ""


class IngressBackendSpec(KubeModel):
    """Which Services take traffic from outside, and from whom."""

    backends: Annotated[tuple[IngressTarget, ...], Bounded]
    sources: Annotated[tuple[IngressSource, ...], Bounded]
    matches: Annotated[tuple[PolicyRef, ...], Bounded] = ()


class IngressBackend(KubeObject):
    """Lets gateways into the mesh."""

    spec: IngressBackendSpec


# Retry


class RetryRules(KubeModel):
    """When and how often a request is tried again."""

    retry_on: str = ""
    per_try_timeout: Duration | None = None
    num_retries: Count | None = None
    retry_backoff_base_interval: Duration | None = None


class RetrySpec(KubeModel):
    """Who tries again, and towards whom."""

    source: NamedSubject
    destinations: Annotated[tuple[NamedSubject, ...], Bounded]
    retry_policy: RetryRules


class Retry(KubeObject):
    """Requests of an account that are tried again."""

    spec: RetrySpec


# Telemetry


class ExtensionRef(KubeModel):
    """The ExtensionService that another object names."""

    namespace: RequiredName
    name: RequiredName


class OpenTelemetryLog(KubeModel):
    """Access logs that are sent to a collector."""

    extension_service: ExtensionRef
    attributes: StringMap = Field(default_factory=dict)


class AccessLog(KubeModel):
    """How access logs look and where they go."""

    format: str = ""
    """Empty: the built-in format."""
    open_telemetry: OpenTelemetryLog | None = None


class TelemetrySpec(KubeModel):
    """What the selected Pods tell; without a selector all of the namespace."""

    selector: StringMap = Field(default_factory=dict)
    access_log: AccessLog | None = None


class Telemetry(KubeObject):
    """Access logs of Pods."""

    spec: TelemetrySpec = Field(default_factory=TelemetrySpec)


class ExtensionServiceSpec(KubeModel):
    """Where a service beside the mesh listens."""

    host: Text
    port: PortNumber
    protocol: str = ""
    connect_timeout: Duration | None = None


class ExtensionService(KubeObject):
    """A service that proxies talk to themselves, such as a collector of access logs."""

    spec: ExtensionServiceSpec
