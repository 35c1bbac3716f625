"""Objects as the original's documentation shows them are read; what has no meaning is refused."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import factory
import pytest

from app.objects.meta import KubeObject, RawObject, Rejected
from app.objects.policy import Egress, ExtensionService, IngressBackend, Retry, Telemetry
from app.objects.root import MeshRootCertificate
from app.objects.scheme import decode
from app.objects.upstream import UpstreamTrafficSetting


def read(raw: RawObject) -> KubeObject:
    answer = decode(raw)
    assert not isinstance(answer, Rejected), str(answer)
    return answer[1]


def refused(raw: RawObject) -> tuple[str, str]:
    answer = decode(raw)
    assert isinstance(answer, Rejected)
    return answer.field, answer.reason


def test_egress_with_every_field() -> None:
    found = read(
        factory.egress(
            "curl/httpbin-80",
            sources=["curl.curl"],
            hosts=["httpbin.org", "*.example.com"],
            ports={80: "http", 443: "https"},
            matches=[
                ("specs.smi-spec.io/v1alpha4", "HTTPRouteGroup", "egress-http-route"),
                ("policy.openservicemesh.io", "UpstreamTrafficSetting", "limits"),
            ],
        )
    )
    assert isinstance(found, Egress)
    assert [(port.number, port.protocol) for port in found.spec.ports] == [
        (80, "http"),
        (443, "https"),
    ]
    assert [match.group for match in found.spec.matches] == [
        "specs.smi-spec.io",
        "policy.openservicemesh.io",
    ]


def test_ingress_backend_with_every_field() -> None:
    raw = factory.ingress_backend(
        "httpbin/httpbin", ("httpbin", 14001), protocol="https", skip=True
    )
    raw["spec"]["backends"][0]["tls"]["sniHosts"] = ["httpbin.example"]
    raw["spec"]["matches"] = [{"apiGroup": "g", "kind": "HTTPRouteGroup", "name": "m"}]
    raw["status"] = {"currentStatus": "committed", "reason": "x"}
    found = read(raw)
    assert isinstance(found, IngressBackend)
    (backend,) = found.spec.backends
    assert (backend.tls.skip_client_cert_validation, backend.tls.sni_hosts) == (
        True,
        ("httpbin.example",),
    )


def test_retry_with_every_field() -> None:
    found = read(
        factory.retry(
            "curl/retry", numRetries=5, perTryTimeout="1s", retryBackoffBaseInterval="250ms"
        )
    )
    assert isinstance(found, Retry)
    rules = found.spec.retry_policy
    assert (rules.retry_on, rules.num_retries) == ("5xx", 5)
    assert (rules.per_try_timeout, rules.retry_backoff_base_interval) == (
        timedelta(seconds=1),
        timedelta(milliseconds=250),
    )


def test_telemetry_and_its_extension_service() -> None:
    log = {
        "format": "[%START_TIME%]",
        "openTelemetry": {
            "extensionService": {"namespace": "telemetry", "name": "otel"},
            "attributes": {"a": "b"},
        },
    }
    found = read(factory.telemetry("curl/t", selector={"app": "curl"}, accessLog=log))
    collector = read(factory.extension_service("x/otel", protocol="h2c", connectTimeout="1s"))
    assert isinstance(found, Telemetry)
    assert isinstance(collector, ExtensionService)
    assert found.spec.access_log is not None
    assert found.spec.access_log.open_telemetry is not None
    assert found.spec.access_log.open_telemetry.extension_service.name == "otel"
    assert collector.spec.connect_timeout == timedelta(seconds=1)
    assert read(factory.telemetry("curl/t")).metadata.name == "t"


def test_root_of_each_provider() -> None:
    token = {"secretKeyRef": {"name": "t", "key": "k", "namespace": "n"}}
    vault = {"host": "v", "port": 8200, "role": "r", "protocol": "http", "token": token}
    manager = {"issuerName": "i", "issuerKind": "Issuer", "issuerGroup": "g"}
    for provider in ({"vault": vault}, {"certManager": manager}):
        found = read(factory.root_certificate("osm-system/r", provider=provider))
        assert isinstance(found, MeshRootCertificate)
        assert (found.spec.trust_domain, found.spec.spiffe_enabled) == ("cluster.local", False)


SERVICE = {"rateLimitService": {"host": "rls.rls", "port": 8081}, "domain": "test"}
ENTRIES: list[dict[str, Any]] = [
    {"genericKey": {"value": "v"}},
    {"remoteAddress": {}},
    {"requestHeader": {"name": "n", "key": "k"}},
    {"headerValueMatch": {"value": "v", "headers": [{"name": "n", "present": False}]}},
]


def test_upstream_traffic_setting_with_every_field() -> None:
    local = {"requests": 3, "unit": "minute", "burst": 10}
    local |= {"responseStatusCode": 503, "responseHeadersToAdd": [{"name": "a", "value": "b"}]}
    constant = {"entries": [{"key": "k", "value": "v"}]}
    found = read(
        factory.traffic_setting(
            "shop/u",
            connectionSettings={
                "tcp": {"maxConnections": 1, "connectTimeout": "1s"},
                "http": {
                    "maxRequests": 1,
                    "maxRequestsPerConnection": 1,
                    "maxPendingRequests": 1,
                    "maxRetries": 1,
                },
            },
            rateLimit={
                "local": {"tcp": {"connections": 1, "unit": "minute"}, "http": local},
                "global": {
                    "tcp": {
                        **SERVICE,
                        "descriptors": [constant],
                        "timeout": "20ms",
                        "failOpen": False,
                    },
                    "http": {
                        **SERVICE,
                        "descriptors": [{"entries": ENTRIES}],
                        "enableXRateLimitHeaders": True,
                    },
                },
            },
            httpRoutes=[
                {"path": "/a", "rateLimit": {"local": local}},
                {"path": "/b", "rateLimit": {"global": {"descriptors": [{"entries": ENTRIES}]}}},
            ],
        )
    )
    assert isinstance(found, UpstreamTrafficSetting)
    limit = found.spec.rate_limit
    assert limit is not None
    assert limit.global_ is not None
    assert limit.global_.http is not None
    assert limit.global_.http.enable_x_rate_limit_headers
    generic, _, _, match = limit.global_.http.descriptors[0].entries
    assert generic.generic_key is not None
    assert generic.generic_key.key == "generic_key"
    assert match.header_value_match is not None
    assert (match.header_value_match.key, match.header_value_match.expect_match) == (
        "header_match",
        True,
    )


def http(*entries: Any) -> RawObject:
    limit = {"http": {**SERVICE, "descriptors": [{"entries": list(entries)}]}}
    return factory.traffic_setting("shop/u", rateLimit={"global": limit})


ENTRY = "spec.rateLimit.global.http.descriptors[0].entries"
KINDS = "must have exactly one of genericKey, remoteAddress, requestHeader, headerValueMatch"
ONE = " (1 more field is wrong)"
WAYS = "must have exactly one of exact, prefix, suffix, regex, contains, present"


@pytest.mark.parametrize(
    ("raw", "field", "reason"),
    [
        pytest.param(http(), ENTRY, "must have at least 1 entry: add it", id="no-entry"),
        pytest.param(http({}), f"{ENTRY}[0]", f"{KINDS}, not nothing{ONE}", id="no-kind-of-entry"),
        pytest.param(http("x"), f"{ENTRY}[0]", f"{KINDS}, not nothing{ONE}", id="entry-is-text"),
        pytest.param(
            http({**ENTRIES[0], **ENTRIES[1]}),
            f"{ENTRY}[0]",
            f"{KINDS}, not genericKey and remoteAddress{ONE}",
            id="two-kinds-of-entry",
        ),
        pytest.param(
            http({"headerValueMatch": {"value": "v", "headers": [{"name": "n"}]}}),
            f"{ENTRY}[0].headerValueMatch.headers[0]",
            f"{WAYS}, not nothing (2 more fields are wrong)",
            id="header-without-condition",
        ),
        pytest.param(
            factory.egress("shop/e", hosts=["h"] * 1001),
            "spec.hosts",
            "may have at most 1000 entries: remove the others",
            id="too-many-hosts",
        ),
        pytest.param(
            factory.mesh_config(observability={"tracing": {"samplingPercentage": "all"}}),
            "spec.observability.tracing.samplingPercentage",
            "must be a number, not 'all'",
            id="no-number",
        ),
    ],
)
def test_object_without_meaning_is_refused_with_its_field(
    raw: RawObject, field: str, reason: str
) -> None:
    assert refused(raw) == (field, reason)
