"""What a real API server takes and refuses by our definitions."""

import json
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import kube_server
import pytest
import yaml

from app.compute.kube_client import KubeClient
from app.controller.crds import apply_crds, load_crds
from app.objects.meta import RawObject

pytestmark = pytest.mark.kube

NAMESPACE = "default"
CRDS = load_crds()
PLURALS = {crd["spec"]["names"]["kind"]: crd["spec"]["names"]["plural"] for crd in CRDS}
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

GOOD = """
apiVersion: config.openservicemesh.io/v1alpha1
kind: MeshConfig
spec:
  sidecar:
    enablePrivilegedInitContainer: true
    logLevel: "off"
    maxDataPlaneConnections: 0
    envoyWindowsImage: windows:1
    resources: {limits: {cpu: 0.5, memory: 128M}, requests: {cpu: 1}}
    configResyncInterval: 0s
  traffic:
    outboundIPRangeExclusionList: [10.0.0.0/8, 1.1.1.1/24]
    outboundPortExclusionList: [6379, 65535]
    inboundExternalAuthorization: {enable: true, address: opa.opa.svc.cluster.local, port: 9191}
  observability:
    tracing: {enable: false, port: 0, address: jaeger.osm-system.svc, endpoint: /api/v2/spans}
  certificate: {serviceCertValidityDuration: 24h, certKeyBitSize: 2048}
  featureFlags: {enableWASMStats: true, enableMulticlusterMode: false}
---
apiVersion: config.openservicemesh.io/v1alpha2
kind: MeshConfig
spec:
  sidecar:
    tlsMinProtocolVersion: TLSv1_2
    cipherSuites: [ECDHE-ECDSA-AES128-GCM-SHA256]
    localProxyMode: PodIP
    mode: native
    concurrency: 0
    drainDelay: 0s
  traffic: {networkInterfaceExclusionList: [eth1], enableCrossNamespaceEgress: true}
  observability:
    tracing: {port: 65535, provider: opentelemetry, samplingPercentage: 0.5}
    prometheusAddress: http://prometheus:9090
  certificate:
    ingressGateway:
      subjectAltNames: [gateway.example.com]
      validityDuration: 24h
      secret: {name: gateway, namespace: default}
---
apiVersion: config.openservicemesh.io/v1alpha2
kind: MeshConfig
---
apiVersion: config.openservicemesh.io/v1alpha2
kind: MeshRootCertificate
spec:
  role: active
  provider: {tresor: {ca: {secretRef: {name: osm-ca-bundle, namespace: osm-system}}}}
---
apiVersion: config.openservicemesh.io/v1alpha2
kind: MeshRootCertificate
spec:
  role: passive
  trustDomain: example.com
  spiffeEnabled: true
  provider:
    vault:
      host: vault.default.svc
      port: 8200
      role: mesh
      protocol: http
      token: {secretKeyRef: {name: vault, key: token, namespace: osm-system}}
---
apiVersion: config.openservicemesh.io/v1alpha2
kind: ExtensionService
spec: {host: collector.otel.svc, port: 4317, protocol: h2c, connectTimeout: 1s}
---
apiVersion: policy.openservicemesh.io/v1alpha1
kind: Egress
spec:
  sources: [{kind: ServiceAccount, name: shop, namespace: shop}]
  hosts: [example.com]
  ipAddresses: [999.1.1.1/99]
  ports: [{number: 443, protocol: https}]
  matches: [{apiGroup: specs.smi-spec.io/v1alpha4, kind: HTTPRouteGroup, name: get}]
---
apiVersion: policy.openservicemesh.io/v1alpha1
kind: IngressBackend
spec:
  backends:
    - name: shop
      port: {number: 8080, protocol: https}
      tls: {skipClientCertValidation: false, sniHosts: [shop.example.com]}
  sources:
    - {kind: Service, name: gateway, namespace: ingress}
    - {kind: IPRange, name: 10.0.0.0/8}
---
apiVersion: policy.openservicemesh.io/v1alpha1
kind: Retry
spec:
  source: {kind: ServiceAccount, name: shop, namespace: shop}
  destinations: [{kind: Service, name: stock, namespace: stock}]
  retryPolicy: {retryOn: 5xx, perTryTimeout: 1s, numRetries: 5, retryBackoffBaseInterval: 1s}
---
apiVersion: policy.openservicemesh.io/v1alpha1
kind: UpstreamTrafficSetting
spec:
  host: shop.shop.svc.cluster.local
  connectionSettings:
    tcp: {maxConnections: 4294967295, connectTimeout: 2s}
    http: {maxRequests: 0, maxRetries: 1}
  rateLimit:
    local:
      tcp: {connections: 1, unit: second, burst: 10}
      http:
        requests: 3
        unit: hour
        responseStatusCode: 503
        responseHeadersToAdd: [{name: x, value: "1"}]
    global:
      tcp:
        rateLimitService: {host: limits, port: 8081}
        domain: d
        descriptors: [{entries: [{key: k, value: v}]}]
      http:
        rateLimitService: {host: limits, port: 8081}
        domain: d
        failOpen: false
        descriptors:
          - entries:
              - remoteAddress: {}
              - genericKey: {value: v}
              - requestHeader: {name: h, key: k}
              - headerValueMatch: {value: v, headers: [{name: h, present: false}]}
  httpRoutes:
    - path: /books
      rateLimit:
        local: {requests: 1, unit: minute}
        global: {descriptors: [{entries: [{genericKey: {value: v}}]}]}
---
apiVersion: policy.openservicemesh.io/v1alpha1
kind: Telemetry
spec:
  selector: {app: shop}
  accessLog:
    format: "[%START_TIME%]\\n"
    openTelemetry:
      extensionService: {namespace: osm-system, name: otel}
      attributes: {team: a}
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
spec:
  destination: {kind: ServiceAccount, name: stock, namespace: shop}
  rules:
    - {kind: HTTPRouteGroup, name: get, matches: [books]}
    - {kind: TCPRoute, name: db}
    - {kind: UDPRoute, name: dns}
  sources: [{kind: ServiceAccount, name: shop, namespace: shop}]
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
spec:
  matches:
    - {name: all, pathRegex: .*, methods: ["*"]}
    - {name: books, methods: [GET, POST], headers: [{user-agent: .*}, {a: b, c: d}]}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: TCPRoute
spec: {matches: {ports: [5432]}}
---
apiVersion: split.smi-spec.io/v1alpha2
kind: TrafficSplit
spec: {service: shop, backends: [{service: shop-v1, weight: 90}, {service: shop-v2, weight: 0.5}]}
---
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
spec:
  service: shop
  matches: [{kind: HTTPRouteGroup, name: get}]
  backends: [{service: shop-v1, weight: 1}]
"""

BAD = """
- kind: MeshConfig
  spec: {sidecar: {logLevel: "no"}}
  field: spec.sidecar.logLevel
- kind: MeshConfig
  spec: {sidecar: {concurrency: -1}}
  field: spec.sidecar.concurrency
- kind: MeshConfig
  spec: {sidecar: {mode: sidecar}}
  field: spec.sidecar.mode
- kind: MeshConfig
  spec: {sidecar: {tlsMinProtocolVersion: TLSv1_4}}
  field: spec.sidecar.tlsMinProtocolVersion
- kind: MeshConfig
  spec: {traffic: {outboundPortExclusionList: [0]}}
  field: "spec.traffic.outboundPortExclusionList[0]"
- kind: MeshConfig
  spec: {traffic: {outboundIPRangeInclusionList: [10.0.0.1]}}
  field: "spec.traffic.outboundIPRangeInclusionList[0]"
- kind: MeshConfig
  spec: {observability: {tracing: {port: 65536}}}
  field: spec.observability.tracing.port
- kind: MeshConfig
  spec: {observability: {tracing: {samplingPercentage: 101}}}
  field: spec.observability.tracing.samplingPercentage
- kind: MeshConfig
  spec: {certificate: {ingressGateway: {subjectAltNames: [], validityDuration: 1h}}}
  field: spec.certificate.ingressGateway.secret
- kind: MeshRootCertificate
  spec: {role: active, provider: {}}
  field: spec.provider
- kind: MeshRootCertificate
  spec: {role: chief, provider: {certManager: {issuerName: a, issuerKind: Issuer, issuerGroup: b}}}
  field: spec.role
- kind: ExtensionService
  spec: {host: "", port: 1}
  field: spec.host
- kind: Egress
  spec: {sources: [{kind: Service, name: a, namespace: b}], ports: []}
  field: "spec.sources[0].kind"
- kind: IngressBackend
  spec: {backends: [{name: a, port: {number: 70000, protocol: http}}], sources: []}
  field: "spec.backends[0].port.number"
- kind: Retry
  spec: {source: {kind: a, name: b, namespace: c}, destinations: [], retryPolicy: {}}
  field: spec.retryPolicy.retryOn
- kind: UpstreamTrafficSetting
  spec: {host: a.b, rateLimit: {local: {tcp: {connections: 0}}}}
  field: spec.rateLimit.local.tcp.connections
- kind: UpstreamTrafficSetting
  spec: {host: a.b, rateLimit: {local: {http: {requests: 1, unit: day}}}}
  field: spec.rateLimit.local.http.unit
- kind: UpstreamTrafficSetting
  spec: {host: a.b, httpRoutes: [{rateLimit: {local: {responseStatusCode: 200}}}]}
  field: "spec.httpRoutes[0].rateLimit.local.responseStatusCode"
- kind: UpstreamTrafficSetting
  spec: {host: a.b, httpRoutes: [{rateLimit: {global: {descriptors: [{entries: [{}]}]}}}]}
  field: "spec.httpRoutes[0].rateLimit.global.descriptors[0].entries[0]"
- kind: Telemetry
  spec: {accessLog: {openTelemetry: {}}}
  field: spec.accessLog.openTelemetry.extensionService
- kind: TrafficTarget
  spec: {destination: {kind: a, name: b}, rules: [{kind: Route, name: a}], sources: []}
  field: "spec.rules[0].kind"
- kind: HTTPRouteGroup
  spec: {matches: [{name: a, methods: [FETCH]}]}
  field: "spec.matches[0].methods[0]"
- kind: TCPRoute
  spec: {matches: {}}
  field: spec.matches.ports
- kind: TrafficSplit
  spec: {service: a, backends: [{service: b, weight: "1"}]}
  field: "spec.backends[0].weight"
"""
STORAGE = {
    crd["spec"]["names"]["kind"]: f"{crd['spec']['group']}/{version['name']}"
    for crd in CRDS
    for version in crd["spec"]["versions"]
    if version["storage"]
}


@pytest.fixture(scope="module")
def kinds(kube: kube_server.KubeServer) -> kube_server.KubeServer:
    """The server with our definitions."""
    apply_crds(KubeClient.from_kubeconfig(kube.kubeconfig()), CRDS, version="2.0.0")
    return kube


def path(raw: RawObject, name: str = "") -> str:
    plural = PLURALS[raw["kind"]]
    return f"/apis/{raw['apiVersion']}/namespaces/{NAMESPACE}/{plural}/{name}".rstrip("/")


def named(raw: RawObject, name: str = "example") -> RawObject:
    return {**raw, "metadata": {"name": name, **raw.get("metadata", {})}}


@pytest.fixture
def stored(kinds: kube_server.KubeServer) -> Any:
    """Creates objects that are gone after the test."""
    created: list[str] = []

    def create(raw: RawObject) -> Any:
        answer = kinds.call("POST", path(raw), named(raw))
        created.append(path(raw, "example"))
        return answer

    yield create
    for one in created:
        kinds.call("DELETE", one)


def identifier(raw: RawObject) -> str:
    return f"{raw['kind']}-{raw['apiVersion'].rpartition('/')[2]}"


def test_server_finds_nothing_wrong_with_the_definitions(kinds: kube_server.KubeServer) -> None:
    for crd in CRDS:
        found = kinds.call("GET", f"{DEFINITIONS}/{crd['metadata']['name']}")
        conditions = {one["type"]: one["status"] for one in found["status"]["conditions"]}
        assert conditions == {"NamesAccepted": "True", "Established": "True"}, crd["metadata"]
        # What it would fill in is written out, so that an equal definition is never written again.
        assert found["spec"] == crd["spec"]


@pytest.mark.parametrize(
    "raw", [pytest.param(raw, id=identifier(raw)) for raw in yaml.safe_load_all(GOOD)]
)
def test_object_as_the_original_takes_it_is_taken_whole(
    kinds: kube_server.KubeServer, raw: RawObject
) -> None:
    try:
        answer = kinds.call("POST", f"{path(raw)}?dryRun=All", named(raw))
    except urllib.error.HTTPError as error:
        pytest.fail(json.loads(error.read())["message"])
    assert lost(raw.get("spec"), answer.get("spec")) == []


def lost(written: Any, kept: Any, where: str = "spec") -> list[str]:
    """Paths of what was written and is not there."""
    if isinstance(written, dict) and isinstance(kept, dict):
        return [
            found
            for name, value in written.items()
            for found in lost(value, kept.get(name, "(gone)"), f"{where}.{name}")
        ]
    return [] if written == kept else [where]


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=f"{case['kind']}-{case['field']}") for case in yaml.safe_load(BAD)],
)
def test_wrong_object_is_refused_and_its_field_named(
    kinds: kube_server.KubeServer, case: dict[str, Any]
) -> None:
    raw = {"apiVersion": STORAGE[case["kind"]], "kind": case["kind"], "spec": case["spec"]}
    with pytest.raises(urllib.error.HTTPError) as refusal:
        kinds.call("POST", f"{path(raw)}?dryRun=All", named(raw))
    status = json.loads(refusal.value.read())
    assert (status["code"], status["reason"]) == (422, "Invalid")
    # Servers before 1.22 leave positions out.
    assert re.sub(r"\[\d+\]", "", case["field"]) in re.sub(r"\[\d+\]", "", status["message"])


def test_unknown_fields_are_dropped(stored: Callable[[RawObject], Any]) -> None:
    answer = stored(
        {
            "apiVersion": "specs.smi-spec.io/v1alpha4",
            "kind": "TCPRoute",
            "spec": {"matches": {"ports": [1], "port": 2}, "match": 3},
        }
    )
    assert answer["spec"] == {"matches": {"ports": [1]}}


def test_defaults_are_filled_in(stored: Callable[[RawObject], Any]) -> None:
    answer = stored(
        {
            "apiVersion": "config.openservicemesh.io/v1alpha2",
            "kind": "MeshConfig",
            "spec": {"sidecar": {}, "traffic": {"inboundExternalAuthorization": {}}},
        }
    )
    assert answer["spec"] == {
        "sidecar": {
            "tlsMinProtocolVersion": "TLSv1_2",
            "tlsMaxProtocolVersion": "TLSv1_3",
            "localProxyMode": "Localhost",
            "mode": "auto",
            "concurrency": 2,
            "drainDelay": "5s",
        },
        "traffic": {
            "inboundExternalAuthorization": {"statPrefix": "inboundExtAuthz", "timeout": "1s"},
            "enableCrossNamespaceEgress": False,
        },
    }


def test_mesh_config_that_is_edited_in_its_old_version_loses_nothing(
    kinds: kube_server.KubeServer, stored: Callable[[RawObject], Any]
) -> None:
    new = [raw for raw in yaml.safe_load_all(GOOD) if raw["kind"] == "MeshConfig"][1]
    before = stored(new)["spec"]
    old = path({**new, "apiVersion": "config.openservicemesh.io/v1alpha1"}, "example")
    edited = kinds.call("GET", old)
    edited["spec"]["traffic"]["enableEgress"] = True
    kinds.call("PUT", old, edited)
    after = kinds.call("GET", path(new, "example"))["spec"]
    assert after == {**before, "traffic": {**before["traffic"], "enableEgress": True}}


def test_split_with_matches_keeps_them_in_both_versions(
    kinds: kube_server.KubeServer, stored: Callable[[RawObject], Any]
) -> None:
    split = next(
        raw for raw in yaml.safe_load_all(GOOD) if raw["apiVersion"] == "split.smi-spec.io/v1alpha4"
    )
    stored(split)
    other = {**split, "apiVersion": "split.smi-spec.io/v1alpha2"}
    assert kinds.call("GET", path(other, "example"))["spec"] == split["spec"]


def test_status_is_written_apart_from_the_spec(
    kinds: kube_server.KubeServer, stored: Callable[[RawObject], Any]
) -> None:
    for raw in yaml.safe_load_all(GOOD):
        if raw["kind"] in ("IngressBackend", "UpstreamTrafficSetting", "Telemetry"):
            spec = stored(raw)["spec"]
            status = {"currentStatus": "committed", "reason": "in force"}
            kinds.call("PATCH", path(raw, "example") + "/status", {"spec": {}, "status": status})
            found = kinds.call("GET", path(raw, "example"))
            assert (found["status"], found["spec"]) == (status, spec), raw["kind"]


def test_status_of_a_root_keeps_what_only_others_know(
    kinds: kube_server.KubeServer, stored: Callable[[RawObject], Any]
) -> None:
    root = next(raw for raw in yaml.safe_load_all(GOOD) if raw["kind"] == "MeshRootCertificate")
    stored(root)
    status = {"state": "new", "other": {"a": 1}, "componentStatuses": {"sidecar": "issuing"}}
    kinds.call("PATCH", path(root, "example") + "/status", {"status": status})
    assert kinds.call("GET", path(root, "example"))["status"] == status


def test_columns_show_what_matters(
    kinds: kube_server.KubeServer, stored: Callable[[RawObject], Any]
) -> None:
    wanted = {"TrafficSplit": "shop", "MeshRootCertificate": "active"}
    for kind, value in wanted.items():
        raw = next(raw for raw in yaml.safe_load_all(GOOD) if raw["kind"] == kind)
        stored(raw)
        table = _ask(kinds, path(raw, "example"), "application/json;as=Table;v=v1;g=meta.k8s.io")[1]
        assert table["rows"][0]["cells"][:2] == ["example", value]
        assert table["columnDefinitions"][-1]["name"] == "Age"


def test_old_mesh_config_is_served_with_a_warning(
    kinds: kube_server.KubeServer, stored: Callable[[RawObject], Any]
) -> None:
    old = {"apiVersion": "config.openservicemesh.io/v1alpha1", "kind": "MeshConfig", "spec": {}}
    stored(old)
    warning, _ = _ask(kinds, path(old, "example"), "application/json")
    assert "v1alpha1 MeshConfig is deprecated" in warning


def _ask(kube: kube_server.KubeServer, where: str, accept: str) -> tuple[str, Any]:
    """The server's warning and its answer in the wanted form."""
    request = urllib.request.Request(
        f"{kube.url}{where}",
        headers={"Authorization": f"Bearer {kube_server.ADMIN_TOKEN}", "Accept": accept},
    )
    context = ssl.create_default_context(cafile=str(kube.ca_file))
    with urllib.request.urlopen(request, context=context, timeout=20) as answer:
        return answer.headers.get("Warning", ""), json.loads(answer.read())
