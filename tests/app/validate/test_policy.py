"""Egress, IngressBackend, Retry, Telemetry: what is refused and what is told, row by row."""

from __future__ import annotations

from typing import Any

import factory
import pytest
from judged import judge, reasons, warnings

from app.objects.meta import RawObject

WORLD = (
    factory.namespace("shop"),
    factory.mesh_config(
        featureFlags={"enableIngressBackendPolicy": True, "enableRetryPolicy": True}
    ),
    factory.account("shop/web"),
    factory.service("shop/web"),
    factory.pod("shop/web", ip="10.0.0.1", ports={"http": 8080}),
    factory.endpoints("shop/web", {"web": "10.0.0.1"}),
    factory.service("shop/idle"),
    factory.route_group("shop/g", all="/.*"),
    factory.traffic_setting("shop/limits"),
    factory.extension_service("shop/collector"),
)
ROUTES, POLICY = "specs.smi-spec.io/v1alpha4", "policy.openservicemesh.io/v1alpha1"


def way_out(*matches: tuple[str, str, str], **more: Any) -> RawObject:
    raw = factory.egress("shop/e", matches=matches)
    raw["spec"] |= more
    return raw


def way_in(*sources: dict[str, str], protocol: str = "http", **more: Any) -> RawObject:
    return factory.ingress_backend("shop/i", protocol=protocol, sources=sources, **more)


RANGE = {"kind": "IPRange", "name": "10.0.0.0/8"}
GATEWAY = {"kind": "AuthenticatedPrincipal", "name": "gateway.out.cluster.local"}
MATCH = "spec.matches[0]"
SOURCE = "spec.sources[0]"
BACKEND = "spec.backends[0]"


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(way_out((ROUTES, "HTTPRouteGroup", "g")), id="egress-route"),
        pytest.param(
            way_out(
                ("specs.smi-spec.io", "HTTPRouteGroup", "g"),
                ("policy.openservicemesh.io", "UpstreamTrafficSetting", "limits"),
            ),
            id="egress-bare-groups",
        ),
        pytest.param(way_out(ipAddresses=["10.0.0.0/8"], hosts=[]), id="egress-range"),
        pytest.param(way_in(RANGE), id="ingress-range"),
        pytest.param(way_in(GATEWAY, protocol="HTTPS"), id="ingress-upper-case"),
        pytest.param(way_in(RANGE, protocol="https", skip=True), id="ingress-skips-validation"),
        pytest.param(
            way_in({"kind": "Service", "name": "web", "namespace": "shop"}), id="ingress-service"
        ),
        pytest.param(
            factory.ingress_backend("shop/i", ("web", 8080)) | {"status": {"x": 1}},
            id="ingress-default",
        ),
        pytest.param(factory.retry("shop/r", to={"name": "web"}), id="retry"),
        pytest.param(
            factory.telemetry(
                "shop/t",
                accessLog={
                    "format": '{"a": "%X%"}',
                    "openTelemetry": {
                        "extensionService": {"namespace": "shop", "name": "collector"}
                    },
                },
            ),
            id="telemetry",
        ),
        pytest.param(factory.telemetry("shop/t", accessLog={"format": "plain"}), id="text-format"),
        pytest.param(factory.extension_service("shop/x"), id="extension-service"),
    ],
)
def test_good_object_is_taken_without_a_word(raw: RawObject) -> None:
    assert (reasons(raw, *WORLD), warnings(raw, *WORLD)) == ({}, {})


@pytest.mark.parametrize(
    ("raw", "field", "reason"),
    [
        pytest.param(
            way_out((ROUTES, "TCPRoute", "g")),
            f"{MATCH}.kind",
            "of match 'g' must be HTTPRouteGroup, not 'TCPRoute': correct it",
            id="egress-routes-of-another-kind",
        ),
        pytest.param(
            way_out((POLICY, "Retry", "g")),
            f"{MATCH}.kind",
            "of match 'g' must be UpstreamTrafficSetting, not 'Retry': correct it",
            id="egress-policy-of-another-kind",
        ),
        pytest.param(
            way_out(("v1", "Service", "g")),
            f"{MATCH}.apiGroup",
            f"must be {ROUTES} or {POLICY}, not 'v1': correct it",
            id="egress-another-group",
        ),
        pytest.param(
            way_out(("specs.smi-spec.io/v9", "HTTPRouteGroup", "g")),
            f"{MATCH}.apiGroup",
            f"must be {ROUTES} or {POLICY}, not 'specs.smi-spec.io/v9': correct it",
            id="egress-another-version",
        ),
        pytest.param(
            way_out(*[(POLICY, "UpstreamTrafficSetting", "limits")] * 2),
            "spec.matches",
            "names 2 of kind UpstreamTrafficSetting: keep one",
            id="egress-two-settings",
        ),
        pytest.param(
            factory.ingress_backend("shop/i", ("web", 8080), ("web", 8080)),
            "spec.backends[1]",
            "duplicate backend 'web' with port 8080, first at spec.backends[0]: remove one",
            id="ingress-duplicate",
        ),
        pytest.param(
            way_in(RANGE, protocol="tcp"),
            f"{BACKEND}.port.protocol",
            "must be http or https, not 'tcp': correct it",
            id="ingress-protocol",
        ),
        pytest.param(
            way_in(RANGE, protocol="https"),
            BACKEND,
            "backend 'web' speaks https with client certificates, so spec.sources needs at least "
            "one AuthenticatedPrincipal: add it, or set tls.skipClientCertValidation",
            id="ingress-nobody-named",
        ),
        pytest.param(
            way_in({"kind": "Service", "namespace": "shop"}),
            f"{SOURCE}.name",
            "is required for kind Service: name the Service",
            id="ingress-service-without-name",
        ),
        pytest.param(
            way_in({"kind": "Service", "name": "web"}),
            f"{SOURCE}.namespace",
            "is required for kind Service: name that of the Service",
            id="ingress-service-without-namespace",
        ),
        pytest.param(
            way_in({"kind": "AuthenticatedPrincipal", "name": ""}),
            f"{SOURCE}.name",
            "is required for kind AuthenticatedPrincipal: name a principal",
            id="ingress-principal-without-name",
        ),
        pytest.param(
            way_in({"kind": "IPRange", "name": "10.0.0.1"}),
            f"{SOURCE}.name",
            "must be an IPv4 network such as 10.0.0.0/8 for kind IPRange, not '10.0.0.1': "
            "correct it",
            id="ingress-address",
        ),
        pytest.param(
            way_in({"kind": "IPRange", "name": "300.0.0.1/8"}),
            f"{SOURCE}.name",
            "must be an IPv4 network such as 10.0.0.0/8 for kind IPRange, not '300.0.0.1/8': "
            "correct it",
            id="ingress-no-address",
        ),
        pytest.param(
            way_in({"kind": "Pod", "name": "p"}),
            f"{SOURCE}.kind",
            "must be one of Service, AuthenticatedPrincipal, IPRange, not 'Pod': correct it",
            id="ingress-kind-of-source",
        ),
        pytest.param(
            way_out(ports=[{"number": 0, "protocol": "http"}]),
            "spec.ports[0].number",
            "must be at least 1, not 0",
            id="what-cannot-be-read",
        ),
    ],
)
def test_object_is_refused_with_field_value_and_remedy(
    raw: RawObject, field: str, reason: str
) -> None:
    assert reasons(raw, *WORLD) == {field: reason}
    assert reasons(raw) == {field: reason}


def test_second_object_for_a_backend_is_refused_by_the_names_of_both() -> None:
    first = factory.ingress_backend("shop/a", ("web", 8080), ("web", 81), ("web", 82))
    second = factory.ingress_backend("shop/b", ("web", 82), ("web", 8080))
    elsewhere = factory.ingress_backend("pay/b", ("web", 8080))
    world = (*WORLD, factory.namespace("pay"), first)
    assert reasons(second, *world) == {
        "spec.backends": "IngressBackend shop/b conflicts with shop/a over web:8080, web:82: "
        "keep these in one of them"
    }
    assert reasons(elsewhere, *world) == {}
    assert reasons(first, *world) == {}


@pytest.mark.parametrize(
    ("raw", "field", "reason"),
    [
        pytest.param(
            way_out((ROUTES, "HTTPRouteGroup", "gone")),
            f"{MATCH}.name",
            "there is no HTTPRouteGroup 'gone' in this namespace: create it",
            id="egress-missing-group",
        ),
        pytest.param(
            way_out((POLICY, "UpstreamTrafficSetting", "gone")),
            f"{MATCH}.name",
            "there is no UpstreamTrafficSetting 'gone' in this namespace: create it",
            id="egress-missing-setting",
        ),
        pytest.param(
            way_out(sources=[{"kind": "User", "name": "web", "namespace": "shop"}]),
            f"{SOURCE}.kind",
            "must be ServiceAccount, not 'User': this one is ignored",
            id="egress-source-kind",
        ),
        pytest.param(
            way_out(sources=[{"kind": "ServiceAccount", "name": "gone", "namespace": "shop"}]),
            f"{SOURCE}.name",
            "there is no ServiceAccount 'shop/gone': create it",
            id="egress-missing-account",
        ),
        pytest.param(
            way_out(sources=[{"kind": "ServiceAccount", "name": "web", "namespace": "out"}]),
            f"{SOURCE}.namespace",
            "'out' is not the namespace of the Egress: this source is ignored unless "
            "traffic.enableCrossNamespaceEgress of the MeshConfig is true",
            id="egress-foreign-source",
        ),
        pytest.param(
            way_out(ports=[{"number": 1, "protocol": "udp"}]),
            "spec.ports[0].protocol",
            "must be one of http, https, tcp, tcp-server-first, not 'udp': this port is ignored",
            id="egress-protocol",
        ),
        pytest.param(
            way_out(ports=[{"number": 1, "protocol": "TCP"}]),
            "spec.ports[0].protocol",
            "tcp has no host names, so all destinations are open: name ipAddresses",
            id="egress-tcp-with-hosts",
        ),
        pytest.param(
            way_out(ipAddresses=["10.0.0.0/8", "10.0.0.1"]),
            "spec.ipAddresses[1]",
            "must be an IPv4 network such as 10.0.0.0/8, not '10.0.0.1': it is ignored",
            id="egress-address",
        ),
        pytest.param(
            way_out(hosts=["API.test", "https://a"]),
            "spec.hosts[1]",
            "must be a host such as api.example.com or *.example.com, not 'https://a': "
            "it is ignored",
            id="egress-host",
        ),
        pytest.param(
            way_out(hosts=["*"]),
            "spec.hosts[0]",
            "is any host: http and https ports are open to all, whatever else is named",
            id="egress-any-host",
        ),
        pytest.param(
            way_out(hosts=["a.test", "A.test"]),
            "spec.hosts[1]",
            "'a.test' is at spec.hosts[0], too: remove it",
            id="egress-host-twice",
        ),
        pytest.param(
            way_out(ports=[{"number": 1, "protocol": p} for p in ("http", "HTTP")]),
            "spec.ports[1]",
            "'1 http' is at spec.ports[0], too: remove it",
            id="egress-port-twice",
        ),
        pytest.param(
            way_out(
                hosts=["a.test"],
                ipAddresses=["10.0.0.0/8"],
                ports=[{"number": 1, "protocol": "http"}],
            ),
            "spec.ports[0].protocol",
            "http goes by hosts alone: ipAddresses do not narrow this port",
            id="egress-http-with-addresses",
        ),
        pytest.param(
            factory.ingress_backend("shop/i", ("gone", 8080)),
            f"{BACKEND}.name",
            "there is no Service 'shop/gone' in the mesh: create it",
            id="ingress-missing-service",
        ),
        pytest.param(
            factory.ingress_backend("shop/i", ("idle", 8080)),
            f"{BACKEND}.name",
            "Service 'shop/idle' has no ready endpoint with a sidecar: check its Pods",
            id="ingress-without-endpoints",
        ),
        pytest.param(
            factory.ingress_backend("shop/i", ("web", 80)),
            f"{BACKEND}.port.number",
            "80 is no target port of Service 'web', whose Pods listen on 8080",
            id="ingress-port-of-the-service",
        ),
        pytest.param(
            way_in({"kind": "Service", "name": "gone", "namespace": "shop"}),
            f"{SOURCE}.name",
            "there is no Service 'shop/gone' in the mesh: create it",
            id="ingress-missing-source",
        ),
        pytest.param(
            way_in({"kind": "Service", "name": "nginx", "namespace": "out"}),
            f"{SOURCE}.namespace",
            "'out' is not monitored by the mesh, so its endpoints are not seen: add it, or name "
            "an IPRange",
            id="ingress-source-outside",
        ),
        pytest.param(
            factory.retry("shop/r", to={"kind": "ServiceAccount"}),
            "spec.destinations[0].kind",
            "must be Service, not 'ServiceAccount': this destination is ignored",
            id="retry-destination-kind",
        ),
        pytest.param(
            factory.retry("shop/r", to={"name": "web"}, retryOn="5xx, 4xx"),
            "spec.retryPolicy.retryOn",
            "'4xx' is not a condition that Envoy knows, so it means nothing: correct it",
            id="retry-on-nonsense",
        ),
        pytest.param(
            factory.retry("shop/r", to={"name": "web"}, retryOn=" "),
            "spec.retryPolicy.retryOn",
            "is empty, so nothing is tried again: write 5xx",
            id="retry-on-nothing",
        ),
        pytest.param(
            factory.retry("shop/r", to={"name": "gone"}),
            "spec.destinations[0].name",
            "there is no Service 'shop/gone' in the mesh: create it",
            id="retry-missing-service",
        ),
        pytest.param(
            factory.retry("shop/r", to={"name": "web"}, perTryTimeout="5 s"),
            "spec.retryPolicy.perTryTimeout",
            "is not a duration such as 24h or 90s: '5 s'; the object is not in force",
            id="retry-duration",
        ),
        pytest.param(
            factory.telemetry("shop/t", accessLog={"format": " {oops"}),
            "spec.accessLog.format",
            "begins with { but is not valid JSON: correct it, or begin a text otherwise",
            id="telemetry-json",
        ),
        pytest.param(
            factory.telemetry("shop/t", accessLog={"format": "{" * 100_000}),
            "spec.accessLog.format",
            "begins with { but is not valid JSON: correct it, or begin a text otherwise",
            id="telemetry-abyss",
        ),
        pytest.param(
            factory.telemetry(
                "shop/t",
                accessLog={
                    "openTelemetry": {"extensionService": {"namespace": "shop", "name": "gone"}}
                },
            ),
            "spec.accessLog.openTelemetry.extensionService",
            "there is no ExtensionService 'shop/gone': create it",
            id="telemetry-collector",
        ),
        pytest.param(
            factory.extension_service("shop/x", connectTimeout="soon"),
            "spec.connectTimeout",
            "is not a duration such as 24h or 90s: 'soon'; the object is not in force",
            id="extension-duration",
        ),
    ],
)
def test_object_is_taken_with_a_warning(raw: RawObject, field: str, reason: str) -> None:
    assert judge(raw, *WORLD).allowed
    assert warnings(raw, *WORLD) == {field: reason}


def test_matches_of_an_ingress_are_looked_for() -> None:
    raw = way_in(RANGE)
    raw["spec"]["matches"] = [{"apiGroup": ROUTES, "kind": "HTTPRouteGroup", "name": "gone"}]
    assert list(warnings(raw, *WORLD)) == [f"{MATCH}.name"]


def test_retry_of_another_namespace_is_ignored() -> None:
    raw = factory.retry("shop/r", to={"name": "web"})
    raw["spec"]["source"] |= {"kind": "User", "namespace": "out"}
    assert warnings(raw, *WORLD) == {
        "spec.source.kind": "must be ServiceAccount, not 'User': this one is ignored",
        "spec.source.namespace": "must be 'shop', that of the Retry, not 'out': the object is "
        "ignored",
    }


@pytest.mark.parametrize(
    ("config", "raw", "reason"),
    [
        pytest.param(
            {"traffic": {"enableEgress": True}},
            way_out(),
            "has no effect while traffic.enableEgress of the MeshConfig is true: all destinations "
            "are open",
            id="egress",
        ),
        pytest.param(
            {},
            way_in(RANGE),
            "has no effect until featureFlags.enableIngressBackendPolicy of the MeshConfig is true",
            id="ingress-backend",
        ),
        pytest.param(
            {},
            factory.retry("shop/r", to={"name": "web"}),
            "has no effect until featureFlags.enableRetryPolicy of the MeshConfig is true",
            id="retry",
        ),
    ],
)
def test_object_that_a_setting_makes_useless_is_told(
    config: dict[str, Any], raw: RawObject, reason: str
) -> None:
    assert warnings(raw, *WORLD, factory.mesh_config(**config)) == {"spec": reason}


def test_foreign_source_counts_where_the_mesh_allows_it() -> None:
    opened = factory.mesh_config(traffic={"enableCrossNamespaceEgress": True})
    raw = way_out(sources=[{"kind": "ServiceAccount", "name": "web", "namespace": "out"}])
    assert warnings(raw, *WORLD, opened) == {}


def test_second_telemetry_for_all_pods_is_told() -> None:
    world = (*WORLD, factory.telemetry("shop/a"), factory.telemetry("shop/b", selector={"a": "b"}))
    assert warnings(factory.telemetry("shop/t"), *world) == {
        "spec.selector": "is missing, as in Telemetry 'a', so both are for all Pods of the "
        "namespace and the oldest wins: add a selector to one"
    }
    assert warnings(factory.telemetry("shop/t", selector={"a": "b"}), *world) == {}
    assert warnings(factory.telemetry("shop/a"), *world) == {}


def test_without_a_snapshot_nothing_is_called_missing() -> None:
    for raw in (
        way_out((ROUTES, "HTTPRouteGroup", "gone")),
        factory.ingress_backend("shop/i", ("gone", 1)),
        factory.retry("shop/r"),
        factory.traffic_setting("shop/u", host="gone.shop.svc.cluster.local"),
        factory.mesh_config(),
    ):
        assert warnings(raw) == {}
