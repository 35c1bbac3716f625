"""Which objects are in the snapshot's table, and what a change of them touches: nothing else."""

from __future__ import annotations

from typing import Any

import factory
import pytest

from app.events import ObjectDeleted
from app.mesh.catalog.compile import Catalog
from app.mesh.refresh import LiveMesh, MeshScope
from app.objects.policy import Egress, ExtensionService
from xds.policy.identity import Issuers

WORLD = (factory.namespace("shop"), factory.service("shop/web"), factory.account("shop/web"))
POLICY_PARTS = ("config", "issuers", "services", "rules", "endpoints", "workloads")


@pytest.mark.parametrize(
    ("obj", "kept"),
    [
        pytest.param(factory.egress("shop/e"), True, id="in-the-mesh"),
        pytest.param(factory.egress("out/e"), False, id="outside-the-mesh"),
        pytest.param(factory.egress("osm-system/e"), False, id="egress-of-the-control-plane"),
        pytest.param(factory.telemetry("osm-system/t"), True, id="telemetry-of-all"),
        pytest.param(factory.root_certificate("osm-system/r"), True, id="root"),
        pytest.param(factory.root_certificate("shop/r"), False, id="root-elsewhere"),
        pytest.param(factory.extension_service("out/x"), True, id="extension-anywhere"),
        pytest.param(factory.traffic_split("shop/s", {"web": 1}), True, id="split"),
        pytest.param(factory.permissive(), False, id="mesh-config-is-a-part-of-its-own"),
    ],
)
def test_table_has_what_counts(obj: dict[str, Any], kept: bool) -> None:
    key = factory.changed(obj).key
    assert (key in factory.snapshot(*WORLD, obj).objects.by_key) is kept


def test_objects_are_found_by_name_and_by_place() -> None:
    table = factory.snapshot(*WORLD, factory.egress("shop/b"), factory.egress("shop/a")).objects
    assert [one.name for one in table.all(Egress, "shop")] == ["a", "b"]
    assert table.get(Egress, "shop", "a") is table.all(Egress, "shop")[0]
    assert (table.get(Egress, "shop", "c"), table.all(ExtensionService, "shop")) == (None, ())
    assert table.accounts == {"shop": frozenset({"web"})}


@pytest.mark.parametrize(
    "obj",
    [
        pytest.param(factory.telemetry("shop/o"), id="telemetry"),
        pytest.param(factory.extension_service("shop/o"), id="extension-service"),
        pytest.param(factory.root_certificate("osm-system/o"), id="root-certificate"),
    ],
)
def test_policy_object_is_told_of_as_not_enforced_and_changes_no_policy(
    obj: dict[str, Any],
) -> None:
    mesh = LiveMesh(MeshScope(), Issuers())
    before = mesh.refresh([factory.changed(one) for one in WORLD])
    event = factory.changed(obj)
    after = mesh.refresh([event])
    assert all(getattr(before, part) is getattr(after, part) for part in POLICY_PARTS)
    assert Catalog(before).serves(after)
    sentence = f"is read, but this release does not enforce {event.key.kind} objects yet"
    assert [(one.where, one.reason, one.code) for one in after.rejected] == [
        (str(event.key), sentence, "E2012")
    ]
    assert mesh.refresh([event]) is after
    assert mesh.refresh([ObjectDeleted(key=event.key)]).rejected == ()


@pytest.mark.parametrize(
    "obj",
    [
        pytest.param(factory.account("shop/spare"), id="account"),
        pytest.param(factory.tcp_route("shop/r", 1), id="route-nobody-names"),
    ],
)
def test_object_that_only_validation_reads_makes_a_table_and_nothing_else(
    obj: dict[str, Any],
) -> None:
    mesh = LiveMesh(MeshScope(), Issuers())
    before = mesh.refresh([factory.changed(one) for one in WORLD])
    after = mesh.refresh([factory.changed(obj)])
    assert after.objects is not before.objects
    same = (*POLICY_PARTS, "rejected")
    assert [part for part in same if getattr(before, part) is not getattr(after, part)] == []


def test_objects_leave_and_join_with_their_namespace() -> None:
    mesh = LiveMesh(MeshScope(), Issuers())
    start = [factory.changed(one) for one in (*WORLD, factory.egress("shop/e"))]
    before = mesh.refresh(start)
    away = mesh.refresh([ObjectDeleted(key=start[0].key)])
    assert (dict(away.objects.by_key), dict(away.objects.accounts), away.rejected) == ({}, {}, ())
    back = mesh.refresh([start[0]])
    assert (back.objects.by_key, back.rejected) == (before.objects.by_key, before.rejected)
