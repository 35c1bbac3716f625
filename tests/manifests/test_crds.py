"""What every definition has in common, and that it knows every field that the mesh reads."""

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from app.controller.crds import load_crds
from app.objects.meta import RawObject
from app.objects.scheme import KINDS

CRDS = {crd["spec"]["names"]["kind"]: crd for crd in load_crds()}
COMPUTED = {"metadata", "problems"}
"""Fields of views that are not in the schema: of every object, or made when it is read."""


def versions(kind: str) -> dict[str, RawObject]:
    return {version["name"]: version for version in CRDS[kind]["spec"]["versions"]}


SERVED = [
    pytest.param(kind, version, id=f"{kind}-{name}")
    for kind in sorted(CRDS)
    for name, version in versions(kind).items()
    if version["served"]
]


@pytest.mark.parametrize(
    ("kind", "short", "served", "storage", "listed", "columns", "has_status"),
    [
        ("MeshConfig", "meshconfig", "v1alpha2 v1alpha1", "v1alpha2", "", "", False),
        ("MeshRootCertificate", "mrc", "v1alpha2", "v1alpha2", "", "Role Age", True),
        ("ExtensionService", "extsvc", "v1alpha2", "v1alpha2", "", "", False),
        ("Egress", "egress", "v1alpha1", "v1alpha1", "", "", False),
        ("IngressBackend", "ingressbackend", "v1alpha1", "v1alpha1", "", "Status Age", True),
        ("Retry", "retry", "v1alpha1", "v1alpha1", "", "", False),
        (
            "UpstreamTrafficSetting",
            "upstreamtrafficsetting",
            "v1alpha1",
            "v1alpha1",
            "",
            "Status Age",
            True,
        ),
        ("Telemetry", "telemetry", "v1alpha1", "v1alpha1", "", "Status Age", True),
        ("TrafficDeny", "td", "v1alpha1", "v1alpha1", "", "Destination Age", False),
        ("TrafficTarget", "tt", "v1alpha3", "v1alpha3", "v1alpha2 v1alpha1", "", False),
        ("HTTPRouteGroup", "htr", "v1alpha4", "v1alpha4", "v1alpha3 v1alpha2 v1alpha1", "", False),
        ("TCPRoute", "tr", "v1alpha4", "v1alpha4", "v1alpha3 v1alpha2 v1alpha1", "", False),
        (
            "TrafficSplit",
            "ts",
            "v1alpha4 v1alpha2",
            "v1alpha2",
            "v1alpha3",
            "Service Age",
            False,
        ),
    ],
)
def test_kind_is_defined_as_the_original_defines_it(
    kind: str,
    short: str,
    served: str,
    storage: str,
    listed: str,
    columns: str,
    has_status: bool,
) -> None:
    crd, found = CRDS[kind], versions(kind)
    names = crd["spec"]["names"]
    assert crd["metadata"] == {
        "name": f"{names['plural']}.{crd['spec']['group']}",
        "labels": {"app.kubernetes.io/name": "openservicemesh.io"},
    }
    assert (crd["spec"]["scope"], crd["spec"]["conversion"]) == ("Namespaced", {"strategy": "None"})
    assert (names["shortNames"], names["listKind"]) == ([short], f"{kind}List")
    assert [name for name, one in found.items() if one["served"]] == served.split()
    assert [name for name, one in found.items() if one["storage"]] == [storage]
    assert [name for name, one in found.items() if not one["served"]] == listed.split()
    for version in (one for one in found.values() if one["served"]):
        shown = [column["name"] for column in version.get("additionalPrinterColumns", ())]
        assert shown == columns.split()
        assert ("status" in version.get("subresources", {})) is has_status


def test_old_mesh_config_is_deprecated() -> None:
    old = versions("MeshConfig")["v1alpha1"]
    assert old["deprecated"] is True
    assert "use config.openservicemesh.io/v1alpha2" in old["deprecationWarning"]


@pytest.mark.parametrize("kind", ["MeshConfig", "TrafficSplit"])
def test_versions_served_together_have_the_same_fields(kind: str) -> None:
    first, second = [
        version["schema"]["openAPIV3Schema"]["properties"]
        for version in versions(kind).values()
        if version["served"]
    ]
    assert first == second


# Schemas


def nodes(schema: RawObject, path: str = "") -> Iterator[tuple[str, RawObject]]:
    """Every schema below this one, with its path."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key], f"{path}[]")


@pytest.mark.parametrize(("kind", "version"), SERVED)
def test_schema_describes_itself_and_needs_no_new_server(kind: str, version: RawObject) -> None:
    schema = version["schema"]["openAPIV3Schema"]
    found = dict(nodes(schema))
    assert "spec" in schema["properties"]
    for path, node in found.items():
        assert node["type"] in {"object", "array", "string", "integer", "number", "boolean"}, path
        assert "x-kubernetes-validations" not in node, path
        assert all(isinstance(value, str) for value in node.get("enum", ())), path
    undescribed = {
        path
        for path, node in found.items()
        if not path.endswith("[]") and "description" not in node and "enum" not in node
    }
    assert {path for path in undescribed if ".status." not in path} == set()


def fields(model: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    for name, field in model.model_fields.items():
        if name not in COMPUTED:
            yield field.alias or name, field.annotation


def parts(annotation: Any) -> Iterator[Any]:
    """The classes and literals that an annotation is made of, with ``[]`` before those in lists."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from parts(inner[0])
    elif origin in (Union, types.UnionType):
        for one in inner:
            yield from parts(one)
    elif origin is tuple:
        yield from (("[]", part) for one in inner if one is not ... for part in parts(one))
    else:
        yield annotation


def missing(model: type[BaseModel], schema: RawObject, path: str = "") -> Iterator[str]:
    """Fields of the model that the schema has not, and enums that the model does not take."""
    for name, annotation in fields(model):
        child = schema.get("properties", {}).get(name)
        if child is None:
            yield f"{path}.{name}"
            continue
        for part in parts(annotation):
            yield from _mismatch(part, child, f"{path}.{name}")


def _mismatch(part: Any, schema: RawObject, path: str) -> Iterator[str]:
    if isinstance(part, tuple):
        yield from _mismatch(part[1], schema.get("items", {}), f"{path}[]")
    elif isinstance(part, type) and issubclass(part, BaseModel):
        yield from missing(part, schema, path)
    elif get_origin(part) is Literal and not set(schema.get("enum", ())) <= set(get_args(part)):
        yield f"{path}: {schema.get('enum')}"


@pytest.mark.parametrize(("kind", "version"), SERVED)
def test_every_field_that_the_mesh_reads_is_in_the_schema(kind: str, version: RawObject) -> None:
    """Otherwise the API server would drop it before we see it."""
    api_version = f"{CRDS[kind]['spec']['group']}/{version['name']}"
    assert api_version in KINDS[kind].api_versions
    assert list(missing(KINDS[kind].model, version["schema"]["openAPIV3Schema"])) == []


def test_field_that_the_schema_lacks_is_found() -> None:
    schema = versions("TrafficSplit")["v1alpha2"]["schema"]["openAPIV3Schema"]
    spec = {**schema["properties"]["spec"], "properties": {"backends": {"type": "array"}}}
    broken = {**schema, "properties": {"spec": spec}}
    assert list(missing(KINDS["TrafficSplit"].model, broken)) == [
        ".spec.service",
        ".spec.backends[].service",
        ".spec.backends[].weight",
        ".spec.matches",
    ]
