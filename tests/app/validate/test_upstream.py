"""UpstreamTrafficSetting: hosts, status codes, patterns."""

from __future__ import annotations

from typing import Any

import factory
import pytest
from judged import reasons, warnings

from app.objects.meta import RawObject

WORLD = (
    factory.namespace("shop"),
    factory.service("shop/web"),
    factory.pod("shop/web", ip="10.0.0.1", ports={"http": 8080}),
    factory.endpoints("shop/web", {"web": "10.0.0.1"}),
    factory.route_group("shop/g", all="/.*"),
)
HTTP = {"requests": 1, "unit": "second"}
TIME = "must lie between 1ms and 24h: write such a time, or leave it out"
SERVICE = {"rateLimitService": {"host": "rls.out", "port": 8081}, "domain": "d"}


def setting(**spec: Any) -> RawObject:
    return factory.traffic_setting("shop/u", **spec)


def local(status: int) -> dict[str, Any]:
    return {**HTTP, "responseStatusCode": status}


def header(regex: str) -> list[dict[str, Any]]:
    """Descriptors of one entry that looks at one header."""
    match = {"value": "v", "headers": [{"name": "x", "regex": regex}]}
    return [{"entries": [{"remoteAddress": {}}, {"headerValueMatch": match}]}]


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(setting(), id="nothing-set"),
        pytest.param(setting(host="example.com"), id="host-of-an-egress"),
        pytest.param(setting(connectionSettings={"tcp": {"connectTimeout": "1s"}}), id="timeout"),
        pytest.param(setting(connectionSettings={"http": {"maxRequests": 1}}), id="http"),
        pytest.param(
            setting(
                timeouts={"request": "1s", "idle": "1m"},
                outlierDetection={"consecutiveErrors": 1, "maxEjectionPercent": 0},
                loadBalancer={"policy": "Maglev", "hashOn": [{"header": "x-user"}]},
                mirror={"service": "web", "percentage": 0.1},
                httpRoutes=[{"path": ".*", "timeouts": {"request": "1s"}}],
            ),
            id="calls",
        ),
        pytest.param(
            setting(
                rateLimit={
                    "local": {"tcp": {"connections": 1, "unit": "hour"}, "http": local(0)},
                    "global": {
                        "tcp": {
                            **SERVICE,
                            "descriptors": [{"entries": [{"key": "a", "value": "b"}]}],
                        },
                        "http": {
                            **SERVICE,
                            "descriptors": header("a"),
                            "responseStatusCode": 599 - 88,
                        },
                    },
                },
                httpRoutes=[
                    {"path": "/.*"},
                    {
                        "path": "/.*",
                        "rateLimit": {"local": local(511), "global": {"descriptors": header("a")}},
                    },
                ],
            ),
            id="all-limits",
        ),
    ],
)
def test_good_object_is_taken_without_a_word(raw: RawObject) -> None:
    assert (reasons(raw, *WORLD), warnings(raw, *WORLD)) == ({}, {})


CODE = "is not a status code that Envoy can answer: write one such as 429"


@pytest.mark.parametrize(
    ("raw", "field", "reason"),
    [
        pytest.param(
            setting(host="web"),
            "spec.host",
            "must be a fully qualified name such as web.shop.svc.cluster.local, not 'web': "
            "write it in full",
            id="host",
        ),
        pytest.param(
            setting(host=""),
            "spec.host",
            "must be a fully qualified name such as web.shop.svc.cluster.local, not '': "
            "write it in full",
            id="no-host",
        ),
        pytest.param(
            setting(rateLimit={"local": {"http": local(418)}}),
            "spec.rateLimit.local.http.responseStatusCode",
            f"418 {CODE}",
            id="local-status",
        ),
        pytest.param(
            setting(rateLimit={"global": {"http": {**SERVICE, "responseStatusCode": 200}}}),
            "spec.rateLimit.global.http.responseStatusCode",
            f"200 {CODE}",
            id="global-status",
        ),
        pytest.param(
            setting(httpRoutes=[{"path": "/.*", "rateLimit": {"local": local(509)}}]),
            "spec.httpRoutes[0].rateLimit.local.responseStatusCode",
            f"509 {CODE}",
            id="status-of-a-route",
        ),
        pytest.param(
            setting(rateLimit={"global": {"http": {**SERVICE, "domain": ""}}}),
            "spec.rateLimit.global.http.domain",
            "is empty: write the domain that the service has limits for",
            id="no-domain",
        ),
        pytest.param(
            setting(rateLimit={"global": {"http": {**SERVICE, "timeout": "0s"}}}),
            "spec.rateLimit.global.http.timeout",
            TIME,
            id="no-time-to-answer",
        ),
        pytest.param(
            setting(
                rateLimit={
                    "local": {
                        "http": {**HTTP, "responseHeadersToAdd": [{"name": ":a", "value": "b"}]}
                    }
                }
            ),
            "spec.rateLimit.local.http.responseHeadersToAdd[0].name",
            "is not the name of a header to answer with: ':a'",
            id="name-of-no-header",
        ),
        pytest.param(
            setting(fault={"delay": {"duration": "0s"}}),
            "spec.fault.delay.duration",
            TIME,
            id="delay-of-no-time",
        ),
        pytest.param(
            setting(fault={"abort": {"status": 199}}),
            "spec.fault.abort.status",
            "must be at least 200, not 199",
            id="abort-with-no-status",
        ),
        pytest.param(
            setting(httpRoutes=[{"path": "/.*", "fault": {"abort": {"status": 600}}}]),
            "spec.httpRoutes[0].fault.abort.status",
            "must be at most 599, not 600",
            id="abort-of-a-route-with-no-status",
        ),
        pytest.param(
            setting(fault={"delay": {"duration": "1s", "percentage": 101}}),
            "spec.fault.delay.percentage",
            "must be at most 100.0, not 101",
            id="more-than-all",
        ),
        pytest.param(
            setting(rateLimit={"local": {"tcp": {"connections": 1}}}),
            "spec.rateLimit.local.tcp.unit",
            "is required: add it",
            id="tcp-without-unit",
        ),
        pytest.param(
            setting(outlierDetection={"consecutiveErrors": 0}),
            "spec.outlierDetection.consecutiveErrors",
            "must be at least 1, not 0",
            id="ejection-of-everybody",
        ),
        pytest.param(
            setting(loadBalancer={"policy": "Fastest"}),
            "spec.loadBalancer.policy",
            "must be one of 'RoundRobin', 'LeastRequest', 'Random', 'RingHash' or 'Maglev', "
            "not 'Fastest'",
            id="unknown-balancing",
        ),
        pytest.param(
            setting(loadBalancer={"hashOn": [{"header": "a", "sourceIP": True}]}),
            "spec.loadBalancer.hashOn[0]",
            "must have exactly one of header, cookie, sourceIP, not header and sourceIP",
            id="two-keys-in-one",
        ),
        pytest.param(
            setting(mirror={"service": "web", "percentage": 101}),
            "spec.mirror.percentage",
            "must be at most 100.0, not 101",
            id="more-than-all",
        ),
        pytest.param(
            setting(rateLimit={"local": {"tcp": {"unit": "hour"}}}),
            "spec.rateLimit.local.tcp.connections",
            "is required: add it",
            id="tcp-without-connections",
        ),
        pytest.param(
            setting(connectionSettings={"tcp": {"connectTimeout": "soon"}}),
            "spec.connectionSettings.tcp.connectTimeout",
            "is not a duration such as 24h or 90s: 'soon'",
            id="duration",
        ),
    ],
)
def test_object_is_refused_with_field_value_and_remedy(
    raw: RawObject, field: str, reason: str
) -> None:
    assert reasons(raw, *WORLD) == {field: reason}
    assert reasons(raw) == {field: reason}


@pytest.mark.parametrize("status", [*range(400, 418), 421, 422, 423, 424, 426, 428, 429, 431])
def test_status_that_envoy_knows_is_taken(status: int) -> None:
    assert reasons(setting(rateLimit={"local": {"http": local(status)}})) == {}


@pytest.mark.parametrize(
    ("raw", "field", "reason"),
    [
        pytest.param(
            setting(host="web.pay.svc.cluster.local"),
            "spec.host",
            "is in namespace 'pay', but counts there only if the object is there too: move it",
            id="foreign-host",
        ),
        pytest.param(
            setting(host="Gone.shop.svc"),
            "spec.host",
            "there is no Service 'shop/gone' in the mesh: create it",
            id="missing-service",
        ),
        pytest.param(
            setting(connectionSettings={"tcp": {"connectTimeout": "0s"}}),
            "spec.connectionSettings.tcp.connectTimeout",
            "is no time at all: leave it out for 5s, or write a longer one",
            id="no-time",
        ),
        pytest.param(
            setting(mirror={"service": "gone"}),
            "spec.mirror.service",
            "there is no Service 'shop/gone' in the mesh: create it",
            id="mirror-is-missing",
        ),
        pytest.param(
            setting(httpRoutes=[{"path": "/a"}]),
            "spec.httpRoutes[0].path",
            "'/a' is the pathRegex of no HTTPRouteGroup here: repeat one",
            id="path-of-no-route",
        ),
        pytest.param(
            setting(
                rateLimit={"global": {"http": SERVICE}},
                httpRoutes=[
                    {"path": "/.*", "rateLimit": {"global": {"descriptors": header("(")}}},
                ],
            ),
            "spec.httpRoutes[0].rateLimit.global.descriptors[0].entries[1].headerValueMatch"
            ".headers[0].regex",
            "is not a pattern RE2 can compile: missing ): (",
            id="header-of-a-route",
        ),
        pytest.param(
            setting(rateLimit={"global": {"http": {**SERVICE, "descriptors": header("(")}}}),
            "spec.rateLimit.global.http.descriptors[0].entries[1].headerValueMatch"
            ".headers[0].regex",
            "is not a pattern RE2 can compile: missing ): (",
            id="header",
        ),
        pytest.param(
            setting(
                httpRoutes=[
                    {"path": "/.*", "rateLimit": {"global": {"descriptors": header("a")}}},
                ]
            ),
            "spec.httpRoutes[0].rateLimit.global",
            "asks nobody: say in spec.rateLimit.global.http which service counts",
            id="descriptors-that-nobody-counts",
        ),
    ],
)
def test_object_is_taken_with_a_warning(raw: RawObject, field: str, reason: str) -> None:
    assert reasons(raw, *WORLD) == {}
    assert warnings(raw, *WORLD) == {field: reason}


def test_path_that_does_not_compile_is_told_without_a_snapshot_too() -> None:
    raw = setting(httpRoutes=[{"path": "("}])
    expected = {"spec.httpRoutes[0].path": "is not a pattern RE2 can compile: missing ): ("}
    assert warnings(raw) == expected


def test_header_condition_on_presence_has_no_pattern() -> None:
    match = {"value": "v", "headers": [{"name": "x", "present": True}]}
    descriptors = [{"entries": [{"headerValueMatch": match}]}]
    raw = setting(rateLimit={"global": {"http": {**SERVICE, "descriptors": descriptors}}})
    assert warnings(raw, *WORLD) == {}


def test_second_setting_of_a_host_is_refused_by_the_names_of_both() -> None:
    first = factory.traffic_setting("shop/a", host="web.shop.svc.cluster.local")
    assert reasons(setting(host="WEB.shop.svc.cluster.local"), *WORLD, first) == {
        "spec.host": "'WEB.shop.svc.cluster.local' is the host of UpstreamTrafficSetting shop/a "
        "already, so shop/u conflicts with it: keep one"
    }
    assert list(reasons(setting(host="web.shop"), *WORLD, first)) == ["spec.host"]
    assert reasons(setting(host="other.out"), *WORLD, first) == {}
    assert reasons(first, *WORLD, first) == {}
