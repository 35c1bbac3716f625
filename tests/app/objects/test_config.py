"""MeshConfig: what was written becomes what is in force."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import factory
import pytest

from app.objects.config import (
    CertificateConfig,
    MeshConfig,
    MeshConfigSpec,
    SidecarConfig,
    TrafficConfig,
    parse_duration,
)
from app.objects.meta import Problem, Rejected
from app.objects.scheme import decode


def config(**spec: Any) -> MeshConfig:
    answer = decode(factory.mesh_config(**spec))
    assert not isinstance(answer, Rejected), str(answer)
    assert isinstance(answer[1], MeshConfig)
    return answer[1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("24h", timedelta(hours=24), id="hours"),
        pytest.param("1h30m5s", timedelta(hours=1, minutes=30, seconds=5), id="several-units"),
        pytest.param("1.5m", timedelta(seconds=90), id="fraction"),
        pytest.param("250ms", timedelta(milliseconds=250), id="milliseconds"),
        pytest.param("5us", timedelta(microseconds=5), id="microseconds"),
        pytest.param("0", timedelta(0), id="zero-needs-no-unit"),
        pytest.param("0s", timedelta(0), id="zero"),
        pytest.param("5", None, id="no-unit"),
        pytest.param("h", None, id="no-number"),
        pytest.param(".h", None, id="only-a-point"),
        pytest.param("1.2.3h", None, id="two-points"),
        pytest.param("1d", None, id="unknown-unit"),
        pytest.param("-1h", None, id="negative"),
        pytest.param("1h ", None, id="trailing-blank"),
        pytest.param("", None, id="empty"),
        pytest.param("9" * 400 + "h", None, id="beyond-all-time"),
        pytest.param("9999999999999h", None, id="beyond-a-timedelta"),
    ],
)
def test_duration(text: str, expected: timedelta | None) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param({}, MeshConfigSpec(), id="empty"),
        pytest.param(
            {"sidecar": None, "traffic": {}, "featureFlags": {"enableLaterOnes": True}},
            MeshConfigSpec(),
            id="null-and-later-fields",
        ),
        pytest.param(
            {
                "sidecar": {
                    "logLevel": "",
                    "tlsMinProtocolVersion": "",
                    "tlsMaxProtocolVersion": "",
                    "localProxyMode": "",
                    "mode": "",
                },
                "observability": {"osmLogLevel": ""},
            },
            MeshConfigSpec(),
            id="empty-texts-mean-the-default",
        ),
        pytest.param(
            {"sidecar": {"logLevel": False}},
            MeshConfigSpec(sidecar=SidecarConfig(log_level="off")),
            id="yaml-reads-a-bare-off-as-false",
        ),
        pytest.param(
            {
                "traffic": {
                    "enableEgress": True,
                    "outboundIPRangeExclusionList": ["10.1.2.3/8"],
                    "outboundPortExclusionList": [6379],
                }
            },
            MeshConfigSpec(
                traffic=TrafficConfig(
                    enable_egress=True,
                    outbound_ip_range_exclusion_list=("10.0.0.0/8",),
                    outbound_port_exclusion_list=(6379,),
                )
            ),
            id="networks-are-rounded",
        ),
        pytest.param(
            {"certificate": {"serviceCertValidityDuration": "1m", "certKeyBitSize": 1024}},
            MeshConfigSpec(
                certificate=CertificateConfig(
                    service_cert_validity_duration=timedelta(minutes=10), cert_key_bit_size=2048
                )
            ),
            id="bounds-are-applied",
        ),
        pytest.param(
            {"certificate": {"certKeyBitSize": 3072}},
            MeshConfigSpec(certificate=CertificateConfig(cert_key_bit_size=3072)),
            id="bits-mean-rsa",
        ),
        pytest.param(
            {"sidecar": {"configResyncInterval": "0s", "drainDelay": "60s"}},
            MeshConfigSpec(sidecar=SidecarConfig(drain_delay=timedelta(seconds=60))),
            id="edges-of-bounds",
        ),
    ],
)
def test_settings_in_force(spec: dict[str, Any], expected: MeshConfigSpec) -> None:
    found = config(**spec)
    assert (found.spec, found.problems) == (expected, ())


def test_effective_defaults() -> None:
    assert MeshConfigSpec().model_dump() == {
        "sidecar": {
            "enable_privileged_init_container": False,
            "log_level": "error",
            "max_data_plane_connections": 0,
            "envoy_image": "",
            "envoy_windows_image": "",
            "init_container_image": "",
            "resources": {"limits": {}, "requests": {}},
            "config_resync_interval": timedelta(0),
            "tls_min_protocol_version": "TLSv1_2",
            "tls_max_protocol_version": "TLSv1_3",
            "cipher_suites": (),
            "ecdh_curves": (),
            "local_proxy_mode": "Localhost",
            "mode": "auto",
            "concurrency": 2,
            "drain_delay": timedelta(seconds=5),
        },
        "traffic": {
            "enable_egress": False,
            "enable_permissive_traffic_policy_mode": False,
            "outbound_ip_range_exclusion_list": (),
            "outbound_ip_range_inclusion_list": (),
            "outbound_port_exclusion_list": (),
            "inbound_port_exclusion_list": (),
            "network_interface_exclusion_list": (),
            "inbound_external_authorization": {
                "enable": False,
                "address": "",
                "port": 0,
                "stat_prefix": "inboundExtAuthz",
                "timeout": timedelta(seconds=1),
                "failure_mode_allow": False,
            },
            "enable_cross_namespace_egress": False,
        },
        "observability": {
            "osm_log_level": "info",
            "enable_debug_server": False,
            "tracing": {
                "enable": False,
                "address": "",
                "port": 0,
                "endpoint": "",
                "provider": "zipkin",
                "sampling_percentage": 100.0,
            },
            "prometheus_address": "",
        },
        "certificate": {
            "service_cert_validity_duration": timedelta(hours=24),
            "cert_key_bit_size": None,
            "ingress_gateway": None,
        },
        "feature_flags": {
            "enable_wasm_stats": False,
            "enable_egress_policy": False,
            "enable_multicluster_mode": False,
            "enable_snapshot_cache_mode": False,
            "enable_async_proxy_service_mapping": False,
            "enable_ingress_backend_policy": False,
            "enable_envoy_active_health_checks": False,
            "enable_retry_policy": False,
            "enable_mesh_root_certificate": False,
        },
    }


def test_value_without_sense_falls_back_and_is_a_problem() -> None:
    found = config(
        sidecar={"drainDelay": "90s", "configResyncInterval": "5s"},
        traffic={"outboundIPRangeExclusionList": ["10.0.0.0/8", "x", "1.2.3.4/99", 8]},
        certificate={"serviceCertValidityDuration": "soon"},
    )
    traffic = TrafficConfig(outbound_ip_range_exclusion_list=("10.0.0.0/8",))
    assert found.spec == MeshConfigSpec(traffic=traffic)
    network = "is not an IPv4 network such as 10.0.0.0/8: "
    assert found.problems == (
        Problem(
            field="spec.sidecar.configResyncInterval",
            reason="must be 0s (off) or at least 30s, not '5s'",
        ),
        Problem(field="spec.sidecar.drainDelay", reason="must lie between 0s and 60s, not '90s'"),
        Problem(field="spec.traffic.outboundIPRangeExclusionList[1]", reason=f"{network}'x'"),
        Problem(
            field="spec.traffic.outboundIPRangeExclusionList[2]", reason=f"{network}'1.2.3.4/99'"
        ),
        Problem(field="spec.traffic.outboundIPRangeExclusionList[3]", reason=f"{network}8"),
        Problem(
            field="spec.certificate.serviceCertValidityDuration",
            reason="is not a duration such as 24h or 90s: 'soon'",
        ),
    )


@pytest.mark.parametrize(
    ("spec", "field", "reason"),
    [
        pytest.param(
            {"traffic": {"enableEgress": "perhaps"}, "sidecar": {"drainDelay": "x"}},
            "spec.traffic.enableEgress",
            "must be true or false, not 'perhaps'",
            id="wrong-type",
        ),
        pytest.param(
            {"sidecar": {"mode": "sidecar"}},
            "spec.sidecar.mode",
            "must be one of 'auto', 'native' or 'container', not 'sidecar'",
            id="unknown-word",
        ),
        pytest.param(
            {"certificate": {"certKeyBitSize": "many"}},
            "spec.certificate.certKeyBitSize",
            "must be a whole number, not 'many'",
            id="bits-are-no-number",
        ),
    ],
)
def test_value_of_a_wrong_type_rejects_the_object(
    spec: dict[str, Any], field: str, reason: str
) -> None:
    answer = decode(factory.mesh_config(**spec), "c.yaml:1")
    assert answer == Rejected(where="c.yaml:1", field=field, reason=reason, code="E3002")


def test_problems_cannot_be_written_into_the_object() -> None:
    raw = factory.mesh_config() | {"problems": [{"field": "a", "reason": "b"}]}
    answer = decode(raw)
    assert not isinstance(answer, Rejected)
    assert isinstance(answer[1], MeshConfig)
    assert answer[1].problems == ()


def test_older_version_is_read() -> None:
    raw = factory.permissive() | {"apiVersion": "config.openservicemesh.io/v1alpha1"}
    answer = decode(raw)
    assert not isinstance(answer, Rejected)
    assert answer[1] == config(
        traffic={"enablePermissiveTrafficPolicyMode": True, "enableEgress": False}
    )


def test_config_without_spec_is_all_defaults() -> None:
    raw = factory.mesh_config()
    del raw["spec"]
    answer = decode(raw)
    assert not isinstance(answer, Rejected)
    assert isinstance(answer[1], MeshConfig)
    assert answer[1].spec == MeshConfigSpec()
