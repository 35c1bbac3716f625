"""Which labels a wish writes to a namespace, and what is in its way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from app.errors import RefusedError
from app.mesh import membership
from app.mesh.membership import Change
from app.objects.meta import RawObject

MESH = "openservicemesh.io/monitored-by"
IGNORE = "openservicemesh.io/ignore"
INJECTION = "openservicemesh.io/sidecar-injection"
METRICS = "openservicemesh.io/metrics"

Wish = Callable[[RawObject], Change]


def namespace(**metadata: Any) -> RawObject:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", **metadata}}


def join(raw: RawObject, **options: bool) -> Change:
    return membership.join(raw, "osm", **{"inject": True, **options})


def leave(raw: RawObject) -> Change:
    return membership.leave(raw, "osm")


def enable(raw: RawObject) -> Change:
    return membership.scrape(raw, "osm", enable=True)


def disable(raw: RawObject) -> Change:
    return membership.scrape(raw, "osm", enable=False)


MEMBER = {"labels": {MESH: "osm"}}
FOREIGN = {"labels": {MESH: "other"}}


@pytest.mark.parametrize(
    ("wish", "metadata", "patch"),
    [
        pytest.param(
            join,
            {"labels": None, "annotations": None},
            {"labels": {MESH: "osm"}, "annotations": {INJECTION: "enabled"}},
            id="join",
        ),
        pytest.param(
            lambda raw: join(raw, inject=False),
            {},
            {"labels": {MESH: "osm"}, "annotations": {INJECTION: "disabled"}},
            id="join-without-injection",
        ),
        pytest.param(
            lambda raw: join(raw, force=True),
            FOREIGN,
            {"labels": {MESH: "osm"}, "annotations": {INJECTION: "enabled"}},
            id="join-by-force",
        ),
        pytest.param(join, MEMBER, None, id="join-again"),
        pytest.param(
            leave,
            MEMBER,
            {
                "labels": {MESH: None, IGNORE: None},
                "annotations": {INJECTION: None, METRICS: None},
            },
            id="leave",
        ),
        pytest.param(leave, {}, None, id="leave-what-it-is-not-in"),
        pytest.param(membership.ignore, MEMBER, {"labels": {IGNORE: "true"}}, id="ignore"),
        pytest.param(membership.ignore, {"labels": {IGNORE: "true"}}, None, id="ignore-again"),
        pytest.param(enable, MEMBER, {"annotations": {METRICS: "enabled"}}, id="scrape"),
        pytest.param(
            enable, {**MEMBER, "annotations": {METRICS: "enabled"}}, None, id="scrape-again"
        ),
        pytest.param(
            disable,
            {"annotations": {METRICS: "enabled"}},
            {"annotations": {METRICS: None}},
            id="scrape-no-more",
        ),
        pytest.param(disable, FOREIGN, None, id="scrape-no-more-what-is-not-scraped"),
    ],
)
def test_wish_writes_labels(wish: Wish, metadata: Any, patch: Any) -> None:
    change = wish(namespace(**metadata))
    assert change.patch == (None if patch is None else {"metadata": patch})
    assert "[shop]" in change.message


@pytest.mark.parametrize(
    ("wish", "metadata", "words"),
    [
        pytest.param(join, {"labels": {IGNORE: "true"}}, r"ignore=true; remove it", id="ignored"),
        pytest.param(join, {"labels": {IGNORE: "no"}}, r"ignore=no; remove it", id="any-value"),
        pytest.param(
            join,
            {"labels": {"control-plane": "controller-manager"}},
            r"the label control-plane=controller-manager; remove it",
            id="left-alone-by-the-webhooks",
        ),
        pytest.param(join, FOREIGN, r"belongs to mesh \[other\]; remove", id="member-of-another"),
        pytest.param(leave, FOREIGN, r"\[other\], not to mesh \[osm\]", id="leave-another"),
        pytest.param(enable, {}, "add it before enabling", id="scrape-outside"),
        pytest.param(enable, FOREIGN, "add it before enabling", id="scrape-another"),
    ],
)
def test_wish_is_refused(wish: Wish, metadata: Any, words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        wish(namespace(**metadata))


@pytest.mark.parametrize("on", [True, False])
def test_running_pods_are_announced_to_prometheus(on: bool) -> None:
    expected = {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "15010",
        "prometheus.io/path": "/stats/prometheus",
    }
    annotations = expected if on else dict.fromkeys(expected)
    assert membership.scrape_pod(enable=on) == {"metadata": {"annotations": annotations}}


@pytest.mark.parametrize("name", ["kube-system", "kube-public", "kube-node-lease"])
def test_namespace_of_the_cluster_itself_never_joins(name: str) -> None:
    raw = {"metadata": {"name": name}}
    with pytest.raises(RefusedError, match="without any mesh"):
        membership.join(raw, "osm", inject=True, force=True)
