"""Whose fields become ours when an object is applied for the first time."""

from __future__ import annotations

from typing import Any

import factory
import pytest

from app.install.adopt import adopted_fields
from app.objects.meta import RawObject


def entry(manager: str, operation: str = "Update", **fields: Any) -> RawObject:
    return {
        "apiVersion": "v1",
        "fieldsType": "FieldsV1",
        "fieldsV1": {f"f:{name}": value for name, value in fields.items()},
        "manager": manager,
        "operation": operation,
        "time": "2026-01-01T00:00:00Z",
    }


def service(*entries: RawObject) -> RawObject:
    return factory.raw("Service", "ns/name", meta={"managedFields": list(entries)})


def test_fields_of_installers_are_united() -> None:
    helm = entry("helm", spec={"f:a": {}, "f:list": {"k:1": {"f:x": {}}}})
    kubectl = entry("kubectl-edit", spec={"f:b": {}, "f:list": {"k:1": {"f:y": {}}}})
    status = entry("kube-controller-manager", status={"f:replicas": {}})
    united = {"f:a": {}, "f:b": {}, "f:list": {"k:1": {"f:x": {}, "f:y": {}}}}
    assert adopted_fields(service(helm, status, kubectl)) == [
        entry("osm", "Apply", spec=united),
        status,
    ]


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([], id="nobody-wrote-it"),
        pytest.param(
            [entry("osm", "Apply", spec={}), entry("kubectl-edit", spec={"f:a": {}})],
            id="we-applied-it-before",
        ),
        pytest.param([entry("kube-controller-manager", spec={"f:replicas": {}})], id="controller"),
        pytest.param([entry("kubelet", status={"f:phase": {}})], id="status"),
        pytest.param([{**entry("x", spec={}), "subresource": "scale"}], id="subresource"),
    ],
)
def test_what_needs_no_change_stays(entries: list[RawObject]) -> None:
    assert adopted_fields(service(*entries)) is None


def test_what_we_wrote_otherwise_than_by_applying_is_adopted() -> None:
    assert adopted_fields(service(entry("osm", spec={"f:a": {}}))) == [
        entry("osm", "Apply", spec={"f:a": {}})
    ]
