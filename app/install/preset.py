"""What a new mesh starts with: the preset MeshConfig and MeshRootCertificate.

The preset of the manifests and the values come in; their JSON goes out, with the values over what
the manifests say. Pure; called by ``app.install.render``.
Specification: kubernetes-surface 1.1, 6.4.
"""

from __future__ import annotations

from typing import Any

from pydantic.alias_generators import to_camel

from app.install.addons import prometheus_url
from app.install.values import OsmValues, Tracing, Values, ValuesModel
from app.objects.patch import merge_patch

_TRACING_PORT = 9411
_TRACING_PATH = "/api/v2/spans"


def preset_mesh_config(base: dict[str, Any], values: Values, namespace: str) -> dict[str, Any]:
    """The preset's spec with the values over it; what nobody set stays as it is."""
    osm = values.osm
    provider = osm.certificate_provider
    given = {
        "sidecar": {
            "enablePrivilegedInitContainer": osm.enable_privileged_init_container,
            "logLevel": osm.envoy_log_level,
            "maxDataPlaneConnections": osm.max_data_plane_connections,
            "configResyncInterval": osm.config_resync_interval,
            "localProxyMode": osm.local_proxy_mode,
            **_fields(osm.sidecar),
        },
        "traffic": {
            "enableEgress": osm.enable_egress,
            "enablePermissiveTrafficPolicyMode": osm.enable_permissive_traffic_policy,
            "enableCrossNamespaceEgress": osm.enable_cross_namespace_egress,
            "outboundIPRangeExclusionList": osm.outbound_ip_range_exclusion_list,
            "outboundIPRangeInclusionList": osm.outbound_ip_range_inclusion_list,
            "outboundPortExclusionList": osm.outbound_port_exclusion_list,
            "inboundPortExclusionList": osm.inbound_port_exclusion_list,
            "networkInterfaceExclusionList": osm.network_interface_exclusion_list,
        },
        "observability": {
            "enableDebugServer": osm.enable_debug_server,
            "osmLogLevel": osm.controller_log_level,
            "prometheusAddress": _prometheus_address(osm, namespace),
            "tracing": _tracing(osm.tracing, namespace),
        },
        "certificate": {
            "serviceCertValidityDuration": provider.service_cert_validity_duration,
            "certKeyBitSize": provider.cert_key_bit_size,
        },
        "featureFlags": {
            name: value for name, value in _fields(osm.feature_flags).items() if name != _SPIFFE
        },
    }
    merged: dict[str, Any] = merge_patch(base, _without_nothing(given))
    return merged


def preset_root_certificate(
    values: Values, *, namespace: str, secret: str, trust_domain: str
) -> dict[str, Any] | None:
    """The first MeshRootCertificate's spec; None where certificates follow the process options."""
    flags = values.osm.feature_flags
    if not flags.enable_mesh_root_certificate:
        return None
    return {
        "provider": {"tresor": {"ca": {"secretRef": {"name": secret, "namespace": namespace}}}},
        "trustDomain": trust_domain,
        "role": "active",
        "spiffeEnabled": flags.enable_spiffe,
    }


_SPIFFE = "enableSPIFFE"


def _prometheus_address(osm: OsmValues, namespace: str) -> str | None:
    if osm.prometheus_address is None and osm.deploy_prometheus:
        return prometheus_url(osm, namespace)
    return osm.prometheus_address


def _tracing(tracing: Tracing, namespace: str) -> dict[str, Any]:
    if not tracing.enable:
        return {"enable": tracing.enable}
    return {
        "enable": True,
        "address": tracing.address or f"jaeger.{namespace}.svc.cluster.local",
        "port": tracing.port or _TRACING_PORT,
        "endpoint": tracing.endpoint or _TRACING_PATH,
        "provider": tracing.provider,
        "samplingPercentage": tracing.sampling_percentage,
    }


def _fields(model: ValuesModel) -> dict[str, Any]:
    return {
        field.alias or to_camel(name): getattr(model, name)
        for name, field in type(model).model_fields.items()
    }


def _without_nothing(tree: Any) -> Any:
    """A merge patch would take None for a removal."""
    if not isinstance(tree, dict):
        return tree
    kept = {key: _without_nothing(value) for key, value in tree.items() if value is not None}
    return {key: value for key, value in kept.items() if value != {}}
