"""What clients keep of an UpstreamTrafficSetting, and what is left out and told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import factory
import pytest

from app.mesh.policies.calls import (
    client_timeouts,
    cluster_settings,
    hash_keys,
    server_timeouts,
    wrong_calls,
)
from app.objects.upstream import UpstreamTrafficSettingSpec
from xds.policy.settings import (
    NO_TIMEOUTS,
    PLAIN_CLUSTER,
    Balancing,
    ClusterSettings,
    Connections,
    HashKey,
    OutlierDetection,
    Timeouts,
)

USUAL = OutlierDetection(
    consecutive_errors=5, interval_seconds=10, base_ejection_seconds=30, max_ejection_percent=100
)


def spec(**fields: Any) -> UpstreamTrafficSettingSpec:
    return UpstreamTrafficSettingSpec.model_validate({"host": "web", **fields})


def tcp(**fields: Any) -> UpstreamTrafficSettingSpec:
    return spec(connectionSettings={"tcp": fields})


def http(**fields: Any) -> UpstreamTrafficSettingSpec:
    return spec(connectionSettings={"http": fields})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(spec(), PLAIN_CLUSTER, id="nothing"),
        pytest.param(spec(connectionSettings={}), PLAIN_CLUSTER, id="nothing-of-connections"),
        pytest.param(
            tcp(connectTimeout="1.5s", maxConnections=0),
            ClusterSettings(
                connections=Connections(connect_timeout_seconds=1.5, max_connections=0)
            ),
            id="tcp",
        ),
        pytest.param(tcp(connectTimeout="0s"), PLAIN_CLUSTER, id="no-time-to-connect"),
        pytest.param(
            http(maxRequests=1, maxPendingRequests=2, maxRetries=3, maxRequestsPerConnection=4),
            ClusterSettings(
                connections=Connections(
                    max_requests=1,
                    max_pending_requests=2,
                    max_retries=3,
                    max_requests_per_connection=4,
                )
            ),
            id="http",
        ),
        pytest.param(http(maxRequestsPerConnection=0), PLAIN_CLUSTER, id="0-is-no-bound"),
        pytest.param(spec(outlierDetection={}), ClusterSettings(outliers=USUAL), id="ejection"),
        pytest.param(
            spec(outlierDetection={"maxEjectionPercent": 0}),
            ClusterSettings(outliers=replace(USUAL, max_ejection_percent=0)),
            id="ejection-of-nobody",
        ),
        pytest.param(
            spec(outlierDetection={"interval": "0s", "baseEjectionTime": "1ns"}),
            ClusterSettings(outliers=USUAL),
            id="ejection-without-time",
        ),
        pytest.param(
            spec(loadBalancer={"policy": "LeastRequest"}),
            ClusterSettings(balancing=Balancing.LEAST_REQUEST),
            id="balancing",
        ),
    ],
)
def test_settings_of_a_cluster(
    given: UpstreamTrafficSettingSpec, expected: ClusterSettings
) -> None:
    assert cluster_settings(given) == expected


def test_host_without_setting_is_checked_too() -> None:
    assert cluster_settings(None, health_check=True) == ClusterSettings(health_check=True)


@pytest.mark.parametrize(
    ("balancer", "keys"),
    [
        pytest.param(None, (), id="none"),
        pytest.param({"policy": "RingHash"}, (), id="nothing-to-hash"),
        pytest.param({"hashOn": [{"header": "a"}]}, (), id="policy-that-does-not-hash"),
        pytest.param(
            {"policy": "Maglev", "hashOn": [{"header": "X-User"}, {"sourceIP": True}]},
            (HashKey(header="x-user"), HashKey(source_address=True)),
            id="in-the-order-written",
        ),
        pytest.param(
            {"policy": "Maglev", "hashOn": [{"cookie": {"name": "c"}}]},
            (HashKey(cookie="c"),),
            id="cookie-of-the-application",
        ),
        pytest.param(
            {"policy": "Maglev", "hashOn": [{"cookie": {"name": "c", "ttl": "0s"}}]},
            (HashKey(cookie="c", cookie_ttl_seconds=0.0),),
            id="cookie-of-the-session",
        ),
        pytest.param(
            {"policy": "RingHash", "hashOn": [{"header": "no good"}, {"sourceIP": False}]},
            (),
            id="what-cannot-be-hashed",
        ),
    ],
)
def test_keys_of_requests(balancer: Any, keys: tuple[HashKey, ...]) -> None:
    assert hash_keys(spec(loadBalancer=balancer)) == keys


def test_times_of_clients_and_of_single_routes() -> None:
    given = spec(
        timeouts={"request": "1s", "idle": "0s"},
        httpRoutes=[
            {"path": "/b", "timeouts": {"idle": "2s"}},
            {"path": "/a", "timeouts": {"request": "3s"}},
            {"path": "/a", "timeouts": {"request": "4s"}},
            {"path": "/c"},
        ],
    )
    assert client_timeouts(given) == Timeouts(request_seconds=1)
    assert client_timeouts(spec()) == client_timeouts(None) == NO_TIMEOUTS
    assert server_timeouts(given) == (
        ("/a", Timeouts(request_seconds=3)),
        ("/b", Timeouts(idle_seconds=2)),
    )
    assert server_timeouts(None) == ()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        pytest.param(spec(), {}, id="nothing"),
        pytest.param(spec(loadBalancer={"policy": "Random"}), {}, id="balancing-without-keys"),
        pytest.param(
            tcp(connectTimeout="0s"),
            {
                "spec.connectionSettings.tcp.connectTimeout": "is no time at all: leave it out for "
                "5s, or write a longer one"
            },
            id="connect-timeout",
        ),
        pytest.param(
            spec(outlierDetection={"interval": "0s", "baseEjectionTime": "0s"}),
            {
                "spec.outlierDetection.interval": "is no time at all: leave it out for 10s, or "
                "write a longer one",
                "spec.outlierDetection.baseEjectionTime": "is no time at all: leave it out for "
                "30s, or write a longer one",
            },
            id="ejection",
        ),
        pytest.param(
            spec(loadBalancer={"policy": "Random", "hashOn": [{"sourceIP": True}]}),
            {
                "spec.loadBalancer.hashOn": "means nothing to Random: choose RingHash or Maglev, "
                "or leave it out"
            },
            id="keys-without-hash",
        ),
        pytest.param(
            spec(
                loadBalancer={
                    "policy": "Maglev",
                    "hashOn": [
                        {"header": "no good"},
                        {"cookie": {"name": "a;b"}},
                        {"sourceIP": False},
                    ],
                }
            ),
            {
                "spec.loadBalancer.hashOn[0]": "is not the name of a header: 'no good'",
                "spec.loadBalancer.hashOn[1]": "is not the name of a cookie: 'a;b'",
                "spec.loadBalancer.hashOn[2]": "says sourceIP: false, which tells nothing apart: "
                "leave it out",
            },
            id="keys-that-tell-nothing",
        ),
    ],
)
def test_what_is_left_out_is_told(given: UpstreamTrafficSettingSpec, told: dict[str, str]) -> None:
    assert dict(wrong_calls(given)) == told


@pytest.mark.parametrize(
    ("service", "told"),
    [
        pytest.param("copy", [], id="good"),
        pytest.param(
            "web",
            ["spec.mirror.service: is the host itself, so nothing is copied: name another Service"],
            id="itself",
        ),
        pytest.param(
            "gone",
            [
                (
                    "spec.mirror.service: 'gone' is not a Service of the mesh in this namespace: "
                    "create it"
                )
            ],
            id="missing",
        ),
        pytest.param(
            "other",
            ["spec.mirror.service: 'other' has none of the host's ports, so it gets no copies"],
            id="another-port",
        ),
    ],
)
def test_mirror_is_a_service_with_the_port(service: str, told: list[str]) -> None:
    found = factory.snapshot(
        factory.namespace("shop"),
        factory.service("shop/web"),
        factory.service("shop/copy"),
        factory.service("shop/other", ports={"admin": 9999}),
        factory.traffic_setting("shop/s", mirror={"service": service}),
    )
    assert [f"{one.field}: {one.reason}" for one in found.rejected] == told
