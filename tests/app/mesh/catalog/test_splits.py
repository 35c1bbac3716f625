"""Backends of split roots, and the weights of their targets."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import snapshots
from hypothesis import given
from hypothesis import strategies as st

from app.mesh.catalog.splits import backend_views, roots_of, split_shares, weighted_upstreams
from app.mesh.snapshot import ServiceView
from xds.policy.service import MeshService
from xds.policy.traffic import WeightedUpstream

ROOT = snapshots.view("shop/root", port_name="http")
V1 = snapshots.view(snapshots.service("shop/v1", 80, 1))
V2_OLD = snapshots.view(snapshots.service("shop/v2", 80, 2), share=3)
V2_NEW = snapshots.view(snapshots.service("shop/v2", 80, 3), share=1)
OTHER_PORT = snapshots.view(snapshots.service("shop/v3", 8080, 4), port_name="http")
NO_PORT = snapshots.view(snapshots.service("shop/v4", 9090, 5), port_name="metrics")
POD = snapshots.view(snapshots.service("shop/web-0.v1", 80, 1))
VIEWS = (ROOT, V1, V2_OLD, V2_NEW, OTHER_PORT, NO_PORT, POD)


@pytest.mark.parametrize(
    ("backend", "found"),
    [
        pytest.param("v1", (V1,), id="by-number-without-single-endpoints"),
        pytest.param("v2", (V2_OLD, V2_NEW), id="one-view-per-target"),
        pytest.param("v3", (OTHER_PORT,), id="by-port-name"),
        pytest.param("v4", (), id="no-such-port"),
        pytest.param("gone", (), id="no-such-service"),
        pytest.param("root", (ROOT,), id="the-root-itself"),
    ],
)
def test_backend_is_found_by_port(backend: str, found: tuple[ServiceView, ...]) -> None:
    assert backend_views(snapshots.services(VIEWS), ROOT, backend) == found


def test_port_without_name_is_not_found_by_name() -> None:
    views = snapshots.services([V1, snapshots.view(snapshots.service("shop/v5", 81, 1))])
    assert backend_views(views, V1, "v5") == ()


@pytest.mark.parametrize(
    ("root", "weights", "expected"),
    [
        pytest.param(ROOT, None, (), id="no-split"),
        pytest.param(
            ROOT, {"v1": 90, "v3": 10}, (((V1,), 90), ((OTHER_PORT,), 10)), id="weights-are-kept"
        ),
        pytest.param(ROOT, {"v1": 0, "root": 5}, (((ROOT,), 5),), id="zero-weight-is-dropped"),
        pytest.param(ROOT, {"v4": 90, "gone": 10}, (), id="no-usable-backend"),
    ],
)
def test_shares_are_those_of_usable_backends(
    root: ServiceView,
    weights: Mapping[str, int] | None,
    expected: tuple[tuple[tuple[ServiceView, ...], int], ...],
) -> None:
    splits = [] if weights is None else [snapshots.split("shop/root", weights)]
    shares = split_shares(snapshots.services(VIEWS), snapshots.rules(splits=splits), root)
    assert shares == expected


def test_single_endpoint_is_not_split() -> None:
    rules = snapshots.rules(splits=[snapshots.split("shop/v1", {"v2": 1})])
    assert split_shares(snapshots.services(VIEWS), rules, POD) == ()


@pytest.mark.parametrize(
    ("backend", "roots"),
    [
        pytest.param(V1.service, [ROOT], id="backend"),
        pytest.param(ROOT.service, [ROOT], id="root-is-its-own-backend"),
        pytest.param(OTHER_PORT.service, [ROOT], id="backend-of-weight-zero"),
        pytest.param(V2_OLD.service, [], id="not-a-backend"),
        pytest.param(NO_PORT.service, [], id="backend-without-the-port"),
        pytest.param(POD.service, [], id="single-endpoint"),
    ],
)
def test_roots_are_those_whose_port_the_backend_serves(
    backend: MeshService, roots: list[ServiceView]
) -> None:
    weights = {"v1": 1, "root": 1, "v3": 0, "v4": 1}
    rules = snapshots.rules(splits=[snapshots.split("shop/root", weights)])
    assert list(roots_of(snapshots.services(VIEWS), rules, backend)) == roots


def test_single_endpoint_of_a_root_is_no_root() -> None:
    rules = snapshots.rules(splits=[snapshots.split("shop/v1", {"v2": 1})])
    assert list(roots_of(snapshots.services(VIEWS), rules, V2_OLD.service)) == [V1]


@pytest.mark.parametrize(
    ("shares", "weights"),
    [
        pytest.param([((V1,), 90), ((ROOT,), 10)], {"root": 10, "v1": 90}, id="as-written"),
        pytest.param(
            [((V1,), 1), ((V2_OLD, V2_NEW), 1)],
            {"v1": 4, "v2|2": 3, "v2|3": 1},
            id="targets-divide-their-weight",
        ),
        pytest.param([((V2_OLD,), 5)], {"v2|2": 5}, id="one-target-takes-all"),
        pytest.param(
            [((V1,), 2**32), ((ROOT,), 1)], {"root": 1, "v1": 2**31}, id="sum-fits-in-32-bits"
        ),
        pytest.param([], {}, id="none"),
    ],
)
def test_weights(
    shares: list[tuple[tuple[ServiceView, ...], int]], weights: dict[str, int]
) -> None:
    found = weighted_upstreams(shares)
    assert {_label(one): one.weight for one in found} == weights
    assert list(found) == sorted(found)


def _label(upstream: WeightedUpstream) -> str:
    service = upstream.service
    return f"{service.name}|{service.target}" if service.name == "v2" else service.name


@given(st.lists(st.tuples(st.integers(1, 10**6), st.lists(st.integers(1, 50), min_size=1)),
                min_size=1, max_size=8))  # fmt: skip
def test_targets_never_change_the_ratio_of_backends(shape: list[tuple[int, list[int]]]) -> None:
    shares = [
        (
            tuple(
                snapshots.view(snapshots.service(f"shop/v{n}", 80, target + 1), share=share)
                for target, share in enumerate(parts)
            ),
            weight,
        )
        for n, (weight, parts) in enumerate(shape)
    ]
    found = weighted_upstreams(shares)
    total, whole = sum(one.weight for one in found), sum(weight for weight, _ in shape)
    assert total <= 2**32 - 1
    for n, (weight, _) in enumerate(shape):
        got = sum(one.weight for one in found if one.service.name == f"v{n}")
        assert got / total == pytest.approx(weight / whole, abs=1e-4)
