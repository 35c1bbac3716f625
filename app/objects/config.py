"""MeshConfig: the settings of a running mesh, with their effective defaults.

Fields hold what is in force, not what was written: an empty value is its default, a bound is
applied. A value that has the right type but no sense (a duration or network that cannot be parsed)
falls back to its default and is listed in ``MeshConfig.problems``; a value of a wrong type rejects
the object. A mesh without the object behaves as ``MeshConfigSpec()``.
Source: kubernetes-surface 1.1 and 1.2.
"""

from __future__ import annotations

import copy
from contextlib import suppress
from datetime import timedelta
from ipaddress import IPv4Network
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from app.objects.core import PortNumber
from app.objects.meta import (
    KubeModel,
    KubeObject,
    Problem,
    field_path,
    shown,
    soft_error,
)

LogLevel = Literal["trace", "debug", "info", "warning", "warn", "error", "critical", "off"]
TlsVersion = Literal["TLS_AUTO", "TLSv1_0", "TLSv1_1", "TLSv1_2", "TLSv1_3"]

MIN_VALIDITY = timedelta(minutes=10)
MAX_DRAIN_DELAY = timedelta(seconds=60)
MIN_RESYNC = timedelta(seconds=30)
_SOFT = frozenset({"duration", "network"})
_UNITS = {
    "ns": timedelta(microseconds=0.001),
    "us": timedelta(microseconds=1),
    "µs": timedelta(microseconds=1),
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
}


def parse_duration(text: str) -> timedelta | None:
    """The duration written as Go writes it (``1h30m``, ``500ms``, ``0``), or None."""
    if text == "0":
        return timedelta(0)
    total, rest = timedelta(0), text
    while rest:
        number = rest[: _span(rest, "0123456789.")]
        rest = rest[len(number) :]
        unit = rest[: len(rest) - len(rest.lstrip("nuµmsh"))]
        unit = next(
            (known for known in ("ms", "us", "µs", "ns", "h", "m", "s") if unit.startswith(known)),
            "",
        )
        if not unit or not number.strip(".") or number.count(".") > 1:
            return None
        try:
            total += float(number) * _UNITS[unit]
        except OverflowError:
            return None
        rest = rest[len(unit) :]
    return total if text else None


def _span(text: str, characters: str) -> int:
    return len(text) - len(text.lstrip(characters))


def _duration(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value
    found = parse_duration(value) if isinstance(value, str) else None
    if found is None:
        raise soft_error("duration", f"is not a duration such as 24h or 90s: {shown(value)}")
    return found


Duration = Annotated[timedelta, BeforeValidator(_duration)]
"""A length of time as Go writes it."""


def _validity(value: Any) -> Any:
    return max(_duration(value), MIN_VALIDITY)


def _drain_delay(value: Any) -> Any:
    found = _duration(value)
    if found > MAX_DRAIN_DELAY:
        raise soft_error("duration", f"must lie between 0s and 60s, not {shown(value)}")
    return found


def _resync(value: Any) -> Any:
    found = _duration(value)
    if timedelta(0) < found < MIN_RESYNC:
        raise soft_error("duration", f"must be 0s (off) or at least 30s, not {shown(value)}")
    return found


def _key_bits(value: Any) -> Any:
    """Bits outside 2048 to 4096 mean 2048 (kubernetes-surface 1.1)."""
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    return value if 2048 <= value <= 4096 else 2048  # noqa: PLR2004


def _network(value: Any) -> Any:
    if isinstance(value, str):
        with suppress(ValueError):
            return str(IPv4Network(value, strict=False))
    raise soft_error("network", f"is not an IPv4 network such as 10.0.0.0/8: {shown(value)}")


def _log_level(value: Any) -> Any:
    """YAML 1.1 reads a bare ``off`` as false; empty means the default."""
    if value is False:
        return "off"
    return "error" if value == "" else value


def _or(default: str) -> BeforeValidator:
    """An empty text means the default."""
    return BeforeValidator(lambda value: default if value == "" else value)


Networks = tuple[Annotated[str, BeforeValidator(_network)], ...]


class ContainerResources(KubeModel):
    """Quantities for the sidecar container, as written."""

    limits: dict[str, str | int | float] = Field(default_factory=dict)
    requests: dict[str, str | int | float] = Field(default_factory=dict)


class SidecarConfig(KubeModel):
    """How sidecars look. Most of it applies to Pods injected afterwards."""

    enable_privileged_init_container: bool = False
    log_level: Annotated[LogLevel, BeforeValidator(_log_level)] = "error"
    max_data_plane_connections: Annotated[int, Field(ge=0)] = 0
    """0: no bound."""
    envoy_image: str = ""
    """Empty: that of the process settings."""
    envoy_windows_image: str = ""
    """Not used: no sidecar runs on Windows."""
    init_container_image: str = ""
    """Empty: that of the process settings."""
    resources: ContainerResources = Field(default_factory=ContainerResources)
    config_resync_interval: Annotated[timedelta, BeforeValidator(_resync)] = timedelta(0)
    """Zero: off."""
    tls_min_protocol_version: Annotated[TlsVersion, _or("TLSv1_2")] = "TLSv1_2"
    tls_max_protocol_version: Annotated[TlsVersion, _or("TLSv1_3")] = "TLSv1_3"
    cipher_suites: tuple[str, ...] = ()
    ecdh_curves: tuple[str, ...] = ()
    local_proxy_mode: Annotated[Literal["Localhost", "PodIP"], _or("Localhost")] = "Localhost"
    mode: Annotated[Literal["auto", "native", "container"], _or("auto")] = "auto"
    concurrency: Annotated[int, Field(ge=0)] = 2
    """Envoy's worker threads; 0: one per hardware thread."""
    drain_delay: Annotated[timedelta, BeforeValidator(_drain_delay)] = timedelta(seconds=5)
    """Zero: no preStop hook."""


class ExternalAuthorization(KubeModel):
    """The gRPC server that inbound HTTP requests are shown to."""

    enable: bool = False
    address: str = ""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    stat_prefix: Annotated[str, _or("inboundExtAuthz")] = "inboundExtAuthz"
    timeout: Duration = timedelta(seconds=1)
    failure_mode_allow: bool = False


class TrafficConfig(KubeModel):
    """What traffic the mesh lets through and what it leaves alone."""

    enable_egress: bool = False
    enable_permissive_traffic_policy_mode: bool = False
    outbound_ip_range_exclusion_list: Networks = Field((), alias="outboundIPRangeExclusionList")
    outbound_ip_range_inclusion_list: Networks = Field((), alias="outboundIPRangeInclusionList")
    outbound_port_exclusion_list: tuple[PortNumber, ...] = ()
    inbound_port_exclusion_list: tuple[PortNumber, ...] = ()
    network_interface_exclusion_list: tuple[str, ...] = ()
    inbound_external_authorization: ExternalAuthorization = Field(
        default_factory=ExternalAuthorization
    )
    enable_cross_namespace_egress: bool = False


class TracingConfig(KubeModel):
    """Where proxies send spans; empty values have defaults that depend on the namespace."""

    enable: bool = False
    address: str = ""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    endpoint: str = ""
    provider: Annotated[Literal["zipkin", "opentelemetry"], _or("zipkin")] = "zipkin"
    sampling_percentage: Annotated[float, Field(ge=0, le=100)] = 100.0


class ObservabilityConfig(KubeModel):
    """What the control plane and the proxies tell about themselves."""

    osm_log_level: Annotated[str, _or("info")] = "info"
    enable_debug_server: bool = False
    tracing: TracingConfig = Field(default_factory=TracingConfig)
    prometheus_address: str = ""


class SecretRef(KubeModel):
    """A Secret by name; the validation tells when a part is empty."""

    name: str = ""
    namespace: str = ""


class GatewayCertificate(KubeModel):
    """The client certificate that a north-south gateway asks for."""

    subject_alt_names: tuple[str, ...] = ()
    validity_duration: Annotated[timedelta, BeforeValidator(_validity)] = timedelta(hours=24)
    secret: SecretRef = Field(default_factory=SecretRef)

    @property
    def is_complete(self) -> bool:
        """True when it says for whom and where."""
        return all((*self.subject_alt_names, self.secret.name, self.secret.namespace)) and bool(
            self.subject_alt_names
        )


class CertificateConfig(KubeModel):
    """What workload certificates look like."""

    service_cert_validity_duration: Annotated[timedelta, BeforeValidator(_validity)] = timedelta(
        hours=24
    )
    """At least ten minutes."""
    cert_key_bit_size: Annotated[int, BeforeValidator(_key_bits)] | None = None
    """None: ECDSA P-256 keys; else RSA keys of 2048 to 4096 bits."""
    ingress_gateway: GatewayCertificate | None = None


class FeatureFlags(KubeModel):
    """Features that are off unless asked for."""

    enable_wasm_stats: bool = Field(default=False, alias="enableWASMStats")
    """Count requests with the labels of both workloads."""
    enable_egress_policy: bool = False
    """Not used: Egress objects count regardless."""
    enable_multicluster_mode: bool = False
    """Not used."""
    enable_snapshot_cache_mode: bool = False
    """Not used."""
    enable_async_proxy_service_mapping: bool = False
    """Not used."""
    enable_ingress_backend_policy: bool = False
    enable_envoy_active_health_checks: bool = False
    enable_retry_policy: bool = False
    enable_mesh_root_certificate: bool = False


class MeshConfigSpec(KubeModel):
    """The settings in force; ``MeshConfigSpec()`` where the object is missing."""

    sidecar: SidecarConfig = Field(default_factory=SidecarConfig)
    traffic: TrafficConfig = Field(default_factory=TrafficConfig)
    observability: ObservabilityConfig = Field(default_factory=ObservabilityConfig)
    certificate: CertificateConfig = Field(default_factory=CertificateConfig)
    feature_flags: FeatureFlags = Field(default_factory=FeatureFlags)


def not_enforced(spec: MeshConfigSpec) -> tuple[Problem, ...]:
    """What is asked for and read, but does nothing in this release; by field."""
    asked = {
        "observability.tracing": spec.observability.tracing.enable,
        "featureFlags.enableMeshRootCertificate": spec.feature_flags.enable_mesh_root_certificate,
    }
    reason = "is read, but this release does not enforce it yet"
    return tuple(
        Problem(field=f"spec.{field}", reason=reason)
        for field, is_asked in asked.items()
        if is_asked
    )


def incomplete(spec: MeshConfigSpec) -> tuple[Problem, ...]:
    """What is asked for without all that is needed for it; by field."""
    gateway = spec.certificate.ingress_gateway
    if gateway is None or gateway.is_complete:
        return ()
    reason = (
        "must have subjectAltNames, none of them empty, secret.name and secret.namespace: "
        "no certificate is issued until then"
    )
    return (Problem(field="spec.certificate.ingressGateway", reason=reason),)


class MeshConfig(KubeObject):
    """The object; v1alpha1 has the same shape with fewer fields."""

    spec: MeshConfigSpec = Field(default_factory=MeshConfigSpec)
    problems: tuple[Problem, ...] = ()
    """Fields that are not in force, and why; computed, never read from the object."""

    @model_validator(mode="before")
    @classmethod
    def _take_out_nonsense(cls, raw: dict[str, Any]) -> dict[str, Any]:
        spec = raw.get("spec")
        spec, problems = _sensible(spec) if isinstance(spec, dict) else (spec, ())
        return {**raw, "spec": spec, "problems": problems}


def _sensible(raw: dict[str, Any]) -> tuple[dict[str, Any], tuple[Problem, ...]]:
    """The settings without the values that make no sense, and what was taken out."""
    try:
        MeshConfigSpec.model_validate(raw)
    except ValidationError as error:
        soft = [found for found in error.errors() if found["type"] in _SOFT]
    else:
        return raw, ()
    kept = copy.deepcopy(raw)
    # From the back, so that positions in lists stay true.
    for found in sorted(
        soft, key=lambda found: [str(part).zfill(6) for part in found["loc"]], reverse=True
    ):
        _remove(kept, found["loc"])
    problems = [
        Problem(field=field_path(("spec", *found["loc"])), reason=found["msg"]) for found in soft
    ]
    return kept, tuple(problems)


def _remove(raw: Any, path: tuple[int | str, ...]) -> None:
    for part in path[:-1]:
        raw = raw[part]
    del raw[path[-1]]
