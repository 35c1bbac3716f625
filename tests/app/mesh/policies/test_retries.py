"""Which Retry makes whom try again, and why others do not."""

from __future__ import annotations

from typing import Any

import factory
import pytest

from app.mesh.snapshot import MeshSnapshot
from xds.policy.identity import ServiceIdentity
from xds.policy.settings import RetryPolicy

WEB = ServiceIdentity(namespace="shop", service_account="web")
FLAG = factory.mesh_config(featureFlags={"enableRetryPolicy": True})
POLICY = RetryPolicy(retry_on="5xx", num_retries=2, per_try_seconds=1.0)


def mesh(*objects: Any) -> MeshSnapshot:
    world = [factory.namespace("shop"), factory.namespace("out"), factory.service("shop/pay")]
    return factory.snapshot(*world, *objects)


def edited(path: str, value: Any) -> dict[str, Any]:
    """A Retry with one field of its spec changed."""
    raw = factory.retry("shop/r")
    *way, last = path.split(".")
    place = raw["spec"]
    for part in way:
        place = place[int(part)] if part.isdigit() else place[part]
    place[last] = value
    return raw


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        pytest.param({}, POLICY, id="as-written"),
        pytest.param(
            {"retryBackoffBaseInterval": "1500ms"},
            RetryPolicy(
                retry_on="5xx", num_retries=2, per_try_seconds=1.0, base_interval_seconds=1.5
            ),
            id="back-off",
        ),
        pytest.param(
            {"numRetries": None, "perTryTimeout": "0s", "retryBackoffBaseInterval": "0s"},
            RetryPolicy(retry_on="5xx"),
            id="defaults-where-nothing-is-said",
        ),
        pytest.param(
            {"numRetries": 0},
            RetryPolicy(retry_on="5xx", num_retries=0, per_try_seconds=1.0),
            id="never",
        ),
    ],
)
def test_rules_of_a_retry(rules: dict[str, Any], expected: RetryPolicy) -> None:
    found = mesh(FLAG, factory.retry("shop/r", **rules)).policies.retries
    assert found == {WEB: (("shop/pay", expected),)}


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        pytest.param(
            edited("source.kind", "User"),
            "spec.source.kind: must be ServiceAccount, not 'User': nothing is tried again (E2011)",
            id="source-is-no-account",
        ),
        pytest.param(
            edited("source.namespace", "out"),
            "spec.source.namespace: must be 'shop', the Retry's own, not 'out': "
            "nothing is tried again (E2009)",
            id="source-of-another-namespace",
        ),
        pytest.param(
            edited("destinations.0.kind", "Host"),
            "spec.destinations[0].kind: must be Service, not 'Host': "
            "this destination is ignored (E2010)",
            id="destination-is-no-service",
        ),
        pytest.param(
            edited("destinations.0.name", "gone"),
            "spec.destinations[0].name: there is no Service 'shop/gone' in the mesh: "
            "create it (E3003)",
            id="destination-is-missing",
        ),
    ],
)
def test_retry_that_cannot_be_in_force_is_told(raw: dict[str, Any], told: str) -> None:
    found = mesh(FLAG, raw)
    assert found.policies.retries == {}
    assert [str(one) for one in found.rejected] == [f"Retry shop/r: {told}"]


def test_flag_is_needed() -> None:
    found = mesh(factory.retry("shop/r"))
    assert found.policies.retries == {}
    assert [str(one) for one in found.rejected] == [
        (
            "Retry shop/r: is not in force: set featureFlags.enableRetryPolicy of the MeshConfig "
            "to true (E2012)"
        )
    ]


def test_oldest_retry_wins_for_each_service() -> None:
    both = edited(
        "destinations", [{"kind": "Service", "name": n, "namespace": "shop"} for n in "ab"]
    )
    both["metadata"].update(factory.created(2), name="both")
    old = factory.retry("shop/old", to={"name": "a"}, numRetries=9)
    old["metadata"].update(factory.created(1))
    found = mesh(FLAG, factory.service("shop/a"), factory.service("shop/b"), both, old)
    (retried,) = found.policies.retries.values()
    assert {service: policy.num_retries for service, policy in retried} == {
        "shop/a": 9,
        "shop/b": 2,
    }
    assert [str(one) for one in found.rejected] == [
        (
            "Retry shop/both: spec.destinations[0]: calls to Service shop/a are tried again by "
            "Retry shop/old, which is older or comes first by name: delete one (E2013)"
        )
    ]


def test_destination_named_twice_counts_once() -> None:
    to = {"kind": "Service", "name": "pay", "namespace": "shop"}
    found = mesh(FLAG, edited("destinations", [to, to]))
    assert (list(found.policies.retries), found.rejected) == ([WEB], ())
