"""Whom sidecars ask about requests, as MeshConfig says."""

from __future__ import annotations

from typing import Any

import factory
import pytest

from app.mesh.policies.authorization import external_authorization
from app.objects.config import MeshConfigSpec
from xds.policy.limits import ExternalAuthorization

WHERE = {"enable": True, "address": "authz.out", "port": 9000}


def config(**fields: Any) -> MeshConfigSpec:
    traffic = {"inboundExternalAuthorization": fields}
    return MeshConfigSpec.model_validate({"traffic": traffic})


def asked(**fields: Any) -> ExternalAuthorization:
    usual = {
        "host": "authz.out",
        "port": 9000,
        "stat_prefix": "inboundExtAuthz",
        "timeout_seconds": 1.0,
        "allow_on_failure": False,
    }
    return ExternalAuthorization(**{**usual, **fields})


@pytest.mark.parametrize(
    ("fields", "read"),
    [
        pytest.param({}, None, id="off"),
        pytest.param({**WHERE, "enable": False}, None, id="written-and-off"),
        pytest.param(WHERE, asked(), id="defaults"),
        pytest.param(
            {**WHERE, "statPrefix": "s", "timeout": "250ms", "failureModeAllow": True},
            asked(stat_prefix="s", timeout_seconds=0.25, allow_on_failure=True),
            id="all",
        ),
        pytest.param({**WHERE, "timeout": "0s"}, asked(), id="no-time"),
        pytest.param({**WHERE, "address": "a b"}, asked(host=""), id="no-host"),
        pytest.param({**WHERE, "port": 0}, asked(host="", port=0), id="no-port"),
    ],
)
def test_settings_say_whom_to_ask(
    fields: dict[str, Any], read: ExternalAuthorization | None
) -> None:
    assert external_authorization(config(**fields)) == read


def test_what_is_wrong_is_a_finding() -> None:
    traffic = {"inboundExternalAuthorization": {**WHERE, "port": 0}}
    found = factory.snapshot(factory.mesh_config(traffic=traffic)).rejected
    assert [one.field for one in found] == ["spec.traffic.inboundExternalAuthorization.port"]
