"""Which objects are judged at all, and what an edit of an old one may leave as it was."""

from __future__ import annotations

import factory
import pytest
from judged import judge, reasons, warnings

from app.objects.meta import ObjectKind, RawObject
from app.validate.check import VALIDATED
from app.validate.verdict import MAX_CHARACTERS, MAX_REMARKS, Remark, refuse, verdict, warn

BAD = factory.ingress_backend("shop/i", protocol="tcp")
WORSE = factory.ingress_backend("shop/i", protocol="udp")


def labelled(raw: RawObject, **meta: object) -> RawObject:
    return {**raw, "metadata": {**raw["metadata"], "labels": {"a": "b"}, **meta}}


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        pytest.param(factory.pod("shop/p"), "'v1', kind 'Pod'", id="core-kind"),
        pytest.param(BAD | {"apiVersion": "v9"}, "'v9', kind 'IngressBackend'", id="version"),
        pytest.param({"kind": {}, "apiVersion": []}, "a list, kind an object", id="odd"),
        pytest.param(None, "nothing, kind nothing", id="nothing"),
    ],
)
def test_kind_without_rules_is_refused(raw: RawObject | None, named: str) -> None:
    (reason,) = judge(raw).reasons
    assert str(reason).startswith(f"unknown gvk: {named} is not validated here; known kinds are ")


def test_kinds_that_may_be_refused() -> None:
    assert {kind for kind, may_refuse in VALIDATED.items() if may_refuse} == {
        ObjectKind.TRAFFIC_TARGET,
        ObjectKind.EGRESS,
        ObjectKind.INGRESS_BACKEND,
        ObjectKind.TRAFFIC_DENY,
        ObjectKind.UPSTREAM_TRAFFIC_SETTING,
        ObjectKind.MESH_ROOT_CERTIFICATE,
    }


def test_edit_of_a_label_does_not_refuse_what_was_stored_before() -> None:
    field = "spec.backends[0].port.protocol"
    assert (list(reasons(labelled(BAD), old=BAD)), list(warnings(labelled(BAD), old=BAD))) == (
        [],
        [field],
    )
    assert list(reasons(WORSE, old=BAD)) == [field]


def test_edit_of_a_label_does_not_refuse_what_could_not_be_read_before() -> None:
    unread = factory.egress("shop/e", ports={0: "http"})
    assert (
        reasons(labelled(unread), old=unread),
        list(warnings(labelled(unread), old=unread)),
    ) == (
        {},
        ["spec.ports[0].number"],
    )
    assert list(reasons(unread, old=factory.egress("shop/e"))) == ["spec.ports[0].number"]


def test_object_that_could_not_be_read_before_may_be_repaired() -> None:
    unread = factory.egress("shop/e", ports={0: "http"})
    assert reasons(factory.egress("shop/e"), old=unread) == {}


def test_former_object_of_another_kind_is_no_former_one() -> None:
    new = factory.root_certificate("osm-system/r", role="passive", trustDomain="")
    assert list(reasons(new, old=factory.egress("osm-system/r"))) == ["spec.trustDomain"]


def test_object_on_its_way_out_is_left_alone() -> None:
    leaving = labelled(WORSE, deletionTimestamp="2026-01-01T00:00:00Z")
    assert judge(leaving, old=BAD) == verdict(())


@pytest.mark.parametrize("meta", [None, [], "x"], ids=str)
def test_object_without_metadata_is_refused_in_words(meta: object) -> None:
    assert list(reasons({**BAD, "metadata": meta})) == ["metadata"]


def test_refused_field_is_not_warned_of() -> None:
    found = verdict([warn("a", "x"), refuse("a", "y"), warn("b", "z"), warn("b", "z")])
    assert (found.reasons, found.warnings) == ((refuse("a", "y"),), (warn("b", "z"),))
    assert (found.allowed, found.message) == (False, "a: y")
    assert (verdict(()).allowed, verdict(()).message) == (True, "")


def test_many_remarks_are_counted_and_long_ones_cut() -> None:
    found = verdict(refuse(f"f{n}", "no") for n in range(13)).reasons
    assert (len(found), found[-1]) == (MAX_REMARKS, refuse("f9", "no (and 3 more)"))
    text = str(Remark(field="", reason="x" * 1000))
    assert (len(text), text[-1]) == (MAX_CHARACTERS, "…")
