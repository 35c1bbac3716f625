"""The typed values of an installation, under the names that users of the original know.

A field that nobody set is None where the manifests hold its default: that YAML is the one place of
defaults. ``app.install.overrides`` makes them of what a user wrote, ``app.install.render`` puts
them into the manifests. Specification: kubernetes-surface 6.4.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from app.objects.config import parse_duration
from app.objects.meta import is_label, is_name, shown, soft_error


@dataclass(frozen=True, slots=True)
class NotUsed:
    """Marks a value of the original that is accepted and has no effect here."""

    why: str


def _duration(value: Any) -> Any:
    if isinstance(value, str) and parse_duration(value) is None:
        raise soft_error("duration", f"must be a duration such as 24h or 90s, not {shown(value)}")
    return value


def _label(value: Any) -> Any:
    if not is_label(value):
        rule = "must be at most 63 lower-case letters, digits and '-'"
        raise soft_error("label", f"{rule}, not {shown(value)}")
    return value


def _name(value: Any) -> Any:
    if not is_name(value):
        rule = "must be lower-case letters, digits, '-' and '.'"
        raise soft_error("name", f"{rule}, not {shown(value)}")
    return value


def _or_nothing(value: Any) -> Any:
    return value if value == "" else _name(value)


def _provider(value: Any) -> Any:
    if value in ("vault", "cert-manager"):
        raise soft_error("provider", f"must be tresor in this release, not {value}")
    return value


def _retention(value: Any) -> Any:
    if isinstance(value, str) and not _RETENTION.fullmatch(value):
        raise soft_error("retention", f"must be a time such as 15d or 12h, not {shown(value)}")
    return value


_RETENTION = re.compile(r"([0-9]+(y|w|d|h|m|s|ms))+", re.ASCII)
Label = Annotated[str, BeforeValidator(_label)]
Name = Annotated[str, BeforeValidator(_name)]
OptionalName = Annotated[str, BeforeValidator(_or_nothing)]
Duration = Annotated[str, BeforeValidator(_duration)]
RetentionTime = Annotated[str, BeforeValidator(_retention)]
Port = Annotated[int, Field(ge=1, le=65535)]
Percentage = Annotated[int, Field(ge=1, le=100)]
Replicas = Annotated[int, Field(ge=1, le=10)]
Raw = dict[str, Any]
OneImage = Annotated[Any, NotUsed("one image does all that the original's images did")]
OneProcess = Annotated[Any, NotUsed("it is one process now; osm.osmController counts for all")]
Windows = Annotated[Any, NotUsed("nodes with Windows are not supported")]
Fluentbit = Annotated[
    Any, NotUsed("Fluent Bit is not shipped; collect the logs of standard output")
]
Contour = Annotated[Any, NotUsed("Contour is not shipped; any gateway can use an IngressBackend")]
Unneeded = Annotated[Any, NotUsed("nothing of it is left to configure")]


class ValuesModel(BaseModel):
    """Base: frozen, camelCase outside, an unknown name is an error, numbers may stand for texts."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        coerce_numbers_to_str=True,
    )


class ImageNames(ValuesModel):
    """Names below the registry; the controller's is that of the one image."""

    osm_controller: str | None = None
    osm_sidecar_init: str | None = None
    osm_injector: OneImage = None
    osm_bootstrap: OneImage = None
    osm_crds: OneImage = Field(None, alias="osmCRDs")
    osm_preinstall: OneImage = None
    osm_healthcheck: OneImage = None


class Image(ValuesModel):
    """Where the images of the control plane come from; a digest counts when the tag is empty."""

    registry: str | None = None
    tag: str | None = None
    pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    name: ImageNames = ImageNames()
    digest: ImageNames = ImageNames()


class Quantities(ValuesModel):
    """CPU and memory, such as ``500m`` and ``256M``."""

    cpu: str | None = None
    memory: str | None = None


class Resources(ValuesModel):
    """What the controller asks for, and its bounds."""

    requests: Quantities = Quantities()
    limits: Quantities = Quantities()


class Target(ValuesModel):
    """Share of the request at which replicas are added."""

    target_average_utilization: Percentage | None = None


class AutoScale(ValuesModel):
    """A HorizontalPodAutoscaler for the controller."""

    enable: bool = False
    min_replicas: Replicas | None = None
    max_replicas: Replicas | None = None
    cpu: Target = Target()
    memory: Target = Target()


class Controller(ValuesModel):
    """The Deployment osm-controller."""

    replica_count: Replicas | None = None
    resource: Resources = Resources()
    pod_labels: dict[str, str] = Field(default_factory=dict)
    enable_pod_disruption_budget: bool = False
    auto_scale: AutoScale = AutoScale()
    affinity: Raw | None = None
    node_selector: dict[str, str] | None = None
    tolerations: list[Raw] | None = None


class Injector(ValuesModel):
    """What is left of the original's second Deployment: its webhook's timeout."""

    webhook_timeout_seconds: Annotated[int, Field(ge=1, le=30)] | None = None
    replica_count: OneProcess = None
    resource: OneProcess = None
    pod_labels: OneProcess = None
    enable_pod_disruption_budget: OneProcess = None
    auto_scale: OneProcess = None
    node_selector: OneProcess = None
    affinity: OneProcess = None
    tolerations: OneProcess = None


class CertificateProvider(ValuesModel):
    """Who signs, and for how long."""

    kind: Annotated[Literal["tresor"], BeforeValidator(_provider)] = "tresor"
    service_cert_validity_duration: Duration | None = None
    cert_key_bit_size: Annotated[int, Field(ge=2048, le=4096)] | None = None


class AddOn(ValuesModel):
    """What Prometheus, Grafana and Jaeger have in common: their image, and where they may run."""

    image: str | None = None
    affinity: Raw | None = None
    node_selector: dict[str, str] | None = None
    tolerations: list[Raw] | None = None


class Retention(ValuesModel):
    """How long Prometheus keeps what it has read."""

    time: RetentionTime | None = None


class Prometheus(AddOn):
    """The Deployment osm-prometheus."""

    port: Port | None = None
    retention: Retention = Retention()
    resources: Resources = Resources()


class Grafana(AddOn):
    """The Deployment osm-grafana; panels as pictures need a second container."""

    port: Port | None = None
    enable_remote_rendering: bool = False
    renderer_image: str = "grafana/grafana-image-renderer:3.12.5"


class Tracing(AddOn):
    """Where proxies send their spans; the inherited values, and the port, are Jaeger's too."""

    enable: bool | None = None
    address: str | None = None
    port: Port | None = None
    endpoint: str | None = None
    provider: Literal["zipkin", "opentelemetry"] | None = None
    sampling_percentage: Annotated[float, Field(ge=0, le=100)] | None = None


class Sidecar(ValuesModel):
    """Layout of the sidecar container."""

    mode: Literal["auto", "native", "container"] | None = None
    concurrency: Annotated[int, Field(ge=0)] | None = None
    drain_delay: Duration | None = None


class FeatureFlags(ValuesModel):
    """Switches of the MeshConfig; SPIFFE is one of the MeshRootCertificate."""

    enable_wasm_stats: bool | None = Field(None, alias="enableWASMStats")
    enable_egress_policy: bool | None = None
    enable_async_proxy_service_mapping: bool | None = None
    enable_ingress_backend_policy: bool | None = None
    enable_envoy_active_health_checks: bool | None = None
    enable_snapshot_cache_mode: bool | None = None
    enable_retry_policy: bool | None = None
    enable_mesh_root_certificate: bool | None = None
    enable_spiffe: bool = Field(default=False, alias="enableSPIFFE")


class ValidatorWebhook(ValuesModel):
    """The ValidatingWebhookConfiguration."""

    webhook_configuration_name: OptionalName = ""


class OsmValues(ValuesModel):
    """Everything below ``osm.``."""

    mesh_name: Label = "osm"
    enforce_single_mesh: bool = True
    osm_namespace: OptionalName = ""
    trust_domain: Name | None = None
    ca_bundle_secret_name: Name | None = None
    certificate_provider: CertificateProvider = CertificateProvider()
    webhook_config_name_prefix: Name = "osm-webhook"
    validator_webhook: ValidatorWebhook = ValidatorWebhook()
    enable_reconciler: bool | None = None

    image: Image = Image()
    image_pull_secrets: list[Raw] | None = None
    sidecar_image: str | None = None
    osm_controller: Controller = Controller()
    injector: Injector = Injector()
    control_plane_tolerations: list[Raw] | None = None

    controller_log_level: (
        Literal["debug", "info", "warn", "error", "fatal", "panic", "disabled", "trace"] | None
    ) = None
    envoy_log_level: (
        Literal["trace", "debug", "info", "warning", "warn", "error", "critical", "off"] | None
    ) = None
    enable_debug_server: bool | None = None
    enable_permissive_traffic_policy: bool | None = None
    enable_egress: bool | None = None
    enable_cross_namespace_egress: bool | None = None
    enable_privileged_init_container: bool | None = None
    local_proxy_mode: Literal["Localhost", "PodIP"] | None = None
    max_data_plane_connections: Annotated[int, Field(ge=0)] | None = None
    config_resync_interval: Duration | None = None
    outbound_ip_range_exclusion_list: list[str] | None = Field(
        None, alias="outboundIPRangeExclusionList"
    )
    outbound_ip_range_inclusion_list: list[str] | None = Field(
        None, alias="outboundIPRangeInclusionList"
    )
    outbound_port_exclusion_list: list[Port] | None = None
    inbound_port_exclusion_list: list[Port] | None = None
    network_interface_exclusion_list: list[str] | None = None
    sidecar: Sidecar = Sidecar()
    tracing: Tracing = Tracing()
    prometheus_address: str | None = None
    feature_flags: FeatureFlags = FeatureFlags()

    deploy_prometheus: bool = False
    deploy_grafana: bool = False
    deploy_jaeger: bool = False
    prometheus: Prometheus = Prometheus()
    grafana: Grafana = Grafana()

    sidecar_windows_image: Windows = None
    curl_image: Unneeded = None
    osm_bootstrap: OneProcess = None
    preinstall: Unneeded = None
    cleanup: Unneeded = None
    vault: Unneeded = None
    certmanager: Unneeded = None
    enable_fluentbit: Fluentbit = None
    fluent_bit: Fluentbit = None


class Smi(ValuesModel):
    """What the validating webhook looks at."""

    validate_traffic_target: bool | None = None


class Values(ValuesModel):
    """All values of an installation."""

    osm: OsmValues = OsmValues()
    smi: Smi = Smi()
    contour: Contour = None
