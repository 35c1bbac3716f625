"""Objects are read or refused with one sentence that names the field."""

from __future__ import annotations

from typing import Any

import factory
import pytest

from app.objects import core, smi
from app.objects.meta import ObjectKey, ObjectKind, Rejected
from app.objects.scheme import KINDS, MAX_CHARACTERS, MAX_NODES, decode, is_mesh_kind


def refused(raw: Any) -> tuple[str, str]:
    """Field and reason of a refusal."""
    answer = decode(raw, "mesh.yaml:7")
    assert isinstance(answer, Rejected)
    assert (answer.where, answer.code) == ("mesh.yaml:7", "E3002")
    return answer.field, answer.reason


def split(weight: Any = 1, **spec: Any) -> dict[str, Any]:
    raw = factory.traffic_split("shop/s", {"v1": weight})
    raw["spec"] |= spec
    return raw


def service(**port: Any) -> dict[str, Any]:
    return factory.service("shop/web", ports=[{"port": 80, **port}])


WHOLE = "must be a whole number such as 90, not "


@pytest.mark.parametrize(
    ("raw", "field", "reason"),
    [
        pytest.param(split("90"), "spec.backends[0].weight", WHOLE + "'90'", id="weight-is-text"),
        pytest.param(split(1.5), "spec.backends[0].weight", WHOLE + "1.5", id="weight-is-broken"),
        pytest.param(split(True), "spec.backends[0].weight", WHOLE + "True", id="weight-is-truth"),
        pytest.param(
            split(-1), "spec.backends[0].weight", "must be at least 0, not -1", id="weight-below-0"
        ),
        pytest.param(
            split(10**7),
            "spec.backends[0].weight",
            "must be at most 1000000, not 10000000",
            id="weight-too-high",
        ),
        pytest.param(
            split(None), "spec.backends[0].weight", "is required: add it", id="weight-is-null"
        ),
        pytest.param(
            split(matches=[{"kind": "TCPRoute", "name": "g"}]),
            "spec.matches[0].kind",
            "must be one of 'HTTPRouteGroup', not 'TCPRoute'",
            id="split-with-matches-of-another-kind",
        ),
        pytest.param(
            split(backends="v1"), "spec.backends", "must be a list, not 'v1'", id="list-is-text"
        ),
        pytest.param(
            split(service=""), "spec.service", "must not be empty: write a name", id="empty-name"
        ),
        pytest.param(
            split(service="Shop"),
            "spec.service",
            "must be lower-case letters, digits, '-' and '.', not 'Shop'",
            id="upper-case-name",
        ),
        pytest.param(
            split(backends=[{"service": "a", "weight": 1}] * 1001),
            "spec.backends",
            "may have at most 1000 entries: remove the others",
            id="too-many-backends",
        ),
        pytest.param(
            factory.traffic_split("shop/s", {}) | {"spec": None},
            "spec",
            "is required: add it",
            id="no-spec",
        ),
        pytest.param(
            factory.traffic_split("shop/s", {}) | {"spec": 3},
            "spec",
            "must be an object with fields, not 3",
            id="spec-is-a-number",
        ),
        pytest.param(
            service(port="http"),
            "spec.ports[0].port",
            "must be a whole number, not 'http'",
            id="port-is-a-name",
        ),
        pytest.param(
            service(port=70000),
            "spec.ports[0].port",
            "must be at most 65535, not 70000",
            id="port-too-high",
        ),
        pytest.param(
            service(targetPort=0),
            "spec.ports[0].targetPort",
            "must be at least 1, not 0 (1 more field is wrong)",
            id="union-names-the-field",
        ),
        pytest.param(
            service(port="http", protocol=1),
            "spec.ports[0].port",
            "must be a whole number, not 'http' (1 more field is wrong)",
            id="counts-the-others",
        ),
        pytest.param(
            service(port="a", protocol=1, name=2),
            "spec.ports[0].name",
            "must be text, not 2: put it in quotes (2 more fields are wrong)",
            id="counts-several-others",
        ),
        pytest.param(
            factory.service("shop/web", cluster_ip="10.0.0"),
            "spec.clusterIP",
            "must be an IP address such as 10.0.0.1, not '10.0.0'",
            id="address-is-none",
        ),
        pytest.param(
            factory.pod("shop/web", spec={"hostNetwork": "perhaps"}),
            "spec.hostNetwork",
            "must be true or false, not 'perhaps'",
            id="truth-is-text",
        ),
        pytest.param(
            factory.pod("shop/web", account="../root"),
            "spec.serviceAccountName",
            "must be lower-case letters, digits, '-' and '.', not '../root'",
            id="account-is-a-path",
        ),
        pytest.param(
            factory.pod("shop/web", spec={"hostname": "a.b"}),
            "spec.hostname",
            "must be at most 63 lower-case letters, digits and '-', not 'a.b'",
            id="host-name-has-a-dot",
        ),
        pytest.param(
            factory.route_group("shop/g", {"name": "m", "methods": ["get"]}),
            "spec.matches[0].methods[0]",
            "must be one of '*', '', 'GET', 'HEAD', 'PUT', 'POST', 'DELETE', 'CONNECT', "
            "'OPTIONS', 'TRACE' or 'PATCH', not 'get'",
            id="lower-case-method",
        ),
        pytest.param(
            factory.route_group("shop/g", big="x" * 100_000),
            "spec.matches[0].pathRegex",
            f"may have at most 2048 characters, not '{'x' * 59}… (100002 characters): shorten it",
            id="pattern-of-100-kB",
        ),
        pytest.param(
            factory.raw("Pod", "Web"),
            "metadata.name",
            "must be lower-case letters, digits, '-' and '.', not 'Web'",
            id="name-of-an-object",
        ),
        pytest.param(
            {"apiVersion": "v1", "kind": "Pod"},
            "metadata",
            "must be an object with a name, not nothing",
            id="no-metadata",
        ),
        pytest.param(
            factory.raw("Pod", "a.b/web"),
            "metadata.namespace",
            "must be at most 63 lower-case letters, digits and '-', not 'a.b'",
            id="namespace-has-a-dot",
        ),
        pytest.param(
            factory.raw("TrafficTarget", "shop/t", api="access.smi-spec.io/v1alpha1"),
            "apiVersion",
            "must be access.smi-spec.io/v1alpha3 for a TrafficTarget, "
            "not 'access.smi-spec.io/v1alpha1'",
            id="old-version",
        ),
        pytest.param(
            factory.raw("TrafficSplit", "shop/t", api="v1"),
            "apiVersion",
            "must be split.smi-spec.io/v1alpha2 or split.smi-spec.io/v1alpha4 for a "
            "TrafficSplit, not 'v1'",
            id="two-versions-would-do",
        ),
        pytest.param(
            factory.raw("Depolyment", "shop/t"),
            "kind",
            "'Depolyment' is not read by the mesh; known kinds are Egress, EndpointSlice, "
            "Endpoints, ExtensionService, HTTPRouteGroup, IngressBackend, MeshConfig, "
            "MeshRootCertificate, Namespace, Pod, Retry, Secret, Service, ServiceAccount, "
            "TCPRoute, Telemetry, TrafficDeny, TrafficSplit, TrafficTarget, UpstreamTrafficSetting",
            id="unknown-kind",
        ),
        pytest.param(["a"], "", "must be an object with fields, not a list", id="a-list"),
        pytest.param(
            {"kind": {}},
            "kind",
            "an object is not read by the mesh; known kinds are " + ", ".join(sorted(KINDS)),
            id="kind-is-an-object",
        ),
    ],
)
def test_bad_object_is_refused_with_field_and_remedy(raw: Any, field: str, reason: str) -> None:
    assert refused(raw) == (field, reason)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param({"kind": "Pod", "list": [1] * (MAX_NODES + 1)}, id="values"),
        pytest.param({"kind": "Pod", "text": "x" * (MAX_CHARACTERS + 1)}, id="characters"),
        pytest.param({"kind": "Pod", "x" * (MAX_CHARACTERS + 1): 1}, id="characters-of-keys"),
    ],
)
def test_object_beyond_bounds_is_refused(raw: Any) -> None:
    reason = f"is larger than {MAX_NODES} values or {MAX_CHARACTERS} characters: split it"
    assert refused(raw) == ("", reason)


def test_object_that_contains_itself_is_refused() -> None:
    loop: dict[str, Any] = {"kind": "Pod"}
    loop["self"] = [loop, loop]
    assert refused(loop)[1].startswith("is larger than")


@pytest.mark.parametrize(
    ("raw", "where"),
    [
        pytest.param(split("x"), "TrafficSplit shop/s", id="namespaced"),
        pytest.param(
            factory.raw("Gadget", "shop/s"), "Gadget shop/s", id="unknown-kind-by-its-words"
        ),
        pytest.param({"metadata": 3}, "object", id="nothing-known"),
        pytest.param(4, "object", id="no-object-at-all"),
        pytest.param({"l": [0] * (MAX_NODES + 1)}, "object", id="too-large"),
    ],
)
def test_refusal_without_a_place_names_the_object(raw: Any, where: str) -> None:
    answer = decode(raw)
    assert isinstance(answer, Rejected)
    assert answer.where == where


def test_object_is_read_with_its_key_and_without_what_nobody_reads() -> None:
    raw = factory.service("shop/web", selector={"app": "web"}, cluster_ip="10.96.0.1")
    raw["metadata"] |= {"resourceVersion": "7", "managedFields": [{}]}
    raw["status"] = {"loadBalancer": {}}
    key, view = decode(raw)
    assert key == ObjectKey(kind=ObjectKind.SERVICE, namespace="shop", name="web")
    assert isinstance(view, core.Service)
    assert view.model_dump(exclude_defaults=True) == {
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "cluster_ip": "10.96.0.1",
            "selector": {"app": "web"},
            "ports": ({"name": "http", "port": 80, "target_port": 8080},),
        },
    }


@pytest.mark.parametrize(
    ("path", "kind", "namespace"),
    [
        pytest.param("web", "Pod", "default", id="as-kubectl-does"),
        pytest.param("shop/web", "Pod", "shop", id="as-written"),
        pytest.param("shop/shop", "Namespace", "", id="none-for-a-namespace"),
    ],
)
def test_namespace_of_an_object(path: str, kind: str, namespace: str) -> None:
    key, view = decode(factory.raw(kind, path))
    assert (key.namespace, view.namespace) == (namespace, namespace)


def test_decoding_leaves_the_raw_object_as_it_was() -> None:
    raw = factory.raw("Pod", "web")
    decode(raw)
    assert raw == factory.raw("Pod", "web")


@pytest.mark.parametrize(
    "api",
    [
        pytest.param("split.smi-spec.io/v1alpha2", id="served"),
        pytest.param("split.smi-spec.io/v1alpha4", id="tolerated-without-matches"),
    ],
)
def test_split_versions(api: str) -> None:
    _, view = decode(split(2.0, matches=[]) | {"apiVersion": api})
    assert isinstance(view, smi.TrafficSplit)
    assert view.spec == smi.TrafficSplitSpec(
        service="s", backends=(smi.SplitBackend(service="v1", weight=2),)
    )


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"a": "1", "b": "2"}, id="one-map"),
        pytest.param([{"a": "1", "b": "2"}], id="a-list-with-one-map"),
    ],
)
def test_headers_of_a_match_are_a_list_of_maps_or_one_map(headers: Any) -> None:
    _, view = decode(factory.route_group("shop/g", {"name": "m", "headers": headers}))
    assert isinstance(view, smi.HTTPRouteGroup)
    assert view.spec.matches[0].headers == ({"a": "1", "b": "2"},)


def test_secret_keeps_nothing_of_its_content() -> None:
    _, view = decode(factory.raw("Secret", "shop/s", data={"k": "c2VjcmV0"}, stringData={"k": "x"}))
    assert "c2VjcmV0" not in repr(view)
    assert set(view.model_dump()) == {"metadata"}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param({"kind": "Pod"}, True, id="read"),
        pytest.param({"kind": "TrafficSplit", "apiVersion": "x"}, True, id="in-any-version"),
        pytest.param({"kind": "Deployment"}, False, id="not-read"),
        pytest.param({"kind": []}, False, id="kind-is-a-list"),
        pytest.param(None, False, id="no-object"),
    ],
)
def test_mesh_kinds(raw: Any, expected: bool) -> None:
    assert is_mesh_kind(raw) is expected


def test_rejection_reads_as_one_line() -> None:
    answer = decode(split("x"), "mesh.yaml:7")
    assert str(answer) == f"mesh.yaml:7: spec.backends[0].weight: {WHOLE}'x' (E3002)"
    assert str(Rejected(where="a", reason="b", code="E1")) == "a: b (E1)"
