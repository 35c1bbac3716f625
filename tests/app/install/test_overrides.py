"""Values of an installation: names, types, and words about those without effect."""

from __future__ import annotations

from typing import Any

import pytest

from app.errors import SettingError
from app.install.overrides import known_names, overrides_of, parse_values


@pytest.mark.parametrize(
    ("text", "values"),
    [
        pytest.param("osm.image.tag=12", {"image": {"tag": "12"}}, id="number-as-a-text"),
        pytest.param("osm.enableEgress=false", {"enable_egress": False}, id="switch"),
        pytest.param(
            "osm.outboundPortExclusionList={6379,7070}",
            {"outbound_port_exclusion_list": [6379, 7070]},
            id="list-of-ports",
        ),
        pytest.param(
            "osm.outboundIPRangeExclusionList={10.0.0.0/8}",
            {"outbound_ip_range_exclusion_list": ["10.0.0.0/8"]},
            id="name-with-an-abbreviation",
        ),
        pytest.param(
            "osm.featureFlags.enableWASMStats=false",
            {"feature_flags": {"enable_wasm_stats": False}},
            id="flag-with-an-abbreviation",
        ),
        pytest.param(
            "osm.osmController.tolerations[0].key=a",
            {"osm_controller": {"tolerations": [{"key": "a"}]}},
            id="raw-part-of-a-pod",
        ),
        pytest.param("osm.trustDomain=null", {}, id="null-is-the-default"),
    ],
)
def test_values_have_types(text: str, values: dict[str, Any]) -> None:
    parsed = parse_values([text])
    assert parsed.warnings == ()
    assert parsed.values.osm.model_dump(exclude_unset=True) == values


def test_flags_are_over_texts() -> None:
    parsed = parse_values(["osm.meshName=one,osm.enableEgress=true"], mesh_name="two")
    assert parsed.tree == {"osm": {"meshName": "two", "enableEgress": True}}
    assert parsed.values.osm.mesh_name == "two"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        pytest.param(
            "osm.fluentBit.name=x,osm.enableFluentbit=true",
            ["osm.enableFluentbit", "osm.fluentBit"],
            id="fluent-bit",
        ),
        pytest.param(
            "osm.injector.replicaCount=2,osm.injector.webhookTimeoutSeconds=5",
            ["osm.injector.replicaCount"],
            id="a-deployment-that-is-gone",
        ),
        pytest.param("osm.sidecarWindowsImage=x", ["osm.sidecarWindowsImage"], id="windows"),
        pytest.param("contour.enabled=true", ["contour"], id="contour"),
        pytest.param("osm.enableEgress=true", [], id="what-has-an-effect"),
    ],
)
def test_what_has_no_effect_is_told(text: str, names: list[str]) -> None:
    found = [warning.partition(" has no effect: ") for warning in parse_values([text]).warnings]
    assert [name for name, _, _ in found] == names
    assert all(why for _, _, why in found)


def test_the_root_of_old_values_is_told() -> None:
    parsed = parse_values(["OpenServiceMesh.enableEgress=false"])
    assert parsed.values.osm.enable_egress is False
    assert parsed.warnings == (
        "values below OpenServiceMesh are below osm now; write osm.enableEgress",
    )


def test_a_warning_is_told_once() -> None:
    first = parse_values(["osm.curlImage=x"])
    assert overrides_of(first.tree, first.warnings).warnings == first.warnings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "osm.enableEgres=true",
            "osm.enableEgres: there is no such value; did you mean osm.enableEgress?",
            id="nearly-a-name",
        ),
        pytest.param("zzzzzzzz=1", "zzzzzzzz: there is no such value", id="no-name-is-near"),
        pytest.param(
            "osm.meshName=A_b",
            "osm.meshName: must be at most 63 lower-case letters, digits and '-', not 'A_b'",
            id="mesh-name",
        ),
        pytest.param(
            "osm.osmController.replicaCount=12",
            "osm.osmController.replicaCount: Input should be less than or equal to 10, not 12",
            id="too-many-replicas",
        ),
        pytest.param(
            "osm.outboundPortExclusionList={1,70000}",
            "osm.outboundPortExclusionList[1]: Input should be less than or equal to 65535, "
            "not 70000",
            id="item-of-a-list",
        ),
        pytest.param(
            "osm.certificateProvider.kind=vault",
            "osm.certificateProvider.kind: must be tresor in this release, not vault",
            id="provider-of-a-later-release",
        ),
        pytest.param(
            "osm.certificateProvider.serviceCertValidityDuration=1y",
            "osm.certificateProvider.serviceCertValidityDuration: must be a duration such as 24h "
            "or 90s, not '1y'",
            id="duration",
        ),
        pytest.param(
            "osm.webhookConfigNamePrefix=A",
            "osm.webhookConfigNamePrefix: must be lower-case letters, digits, '-' and '.', not 'A'",
            id="name",
        ),
        pytest.param(
            "osm=3",
            "osm: Input should be a valid dictionary or instance of OsmValues, not 3",
            id="tree-replaced",
        ),
    ],
)
def test_a_value_that_will_not_do_is_named(text: str, message: str) -> None:
    with pytest.raises(SettingError) as raised:
        parse_values([text])
    assert str(raised.value) == f"--set {message}"


def test_values_of_the_original_are_known() -> None:
    assert {
        "osm.image.digest.osmCRDs",
        "osm.vault",
        "osm.osmController.autoScale.cpu.targetAverageUtilization",
        "osm.outboundIPRangeInclusionList",
        "osm.featureFlags.enableSPIFFE",
        "smi.validateTrafficTarget",
    } <= set(known_names())
