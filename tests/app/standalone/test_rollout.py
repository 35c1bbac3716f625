from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from app.compute.declared import RawKey
from app.standalone.rollout import PodState, Steps, next_steps, orphans, pod_state
from app.standalone.workloads import Pace, Wanted

NEW, OLD = "new", "old"


def wanted(kind: str = "Deployment", replicas: int = 2, **fields: Any) -> Wanted:
    return Wanted(
        key=RawKey(kind=kind, namespace="shop", name="web"),
        replicas=replicas,
        template={"metadata": {}, "spec": {"containers": []}},
        hash=NEW,
        folder="/",
        **fields,
    )


def pods(text: str) -> list[PodState]:
    """States written as words: ``n``/``o`` for new/old, then ready, ending, Failed, Succeeded.

    A digit is the Pod's number; else it is numbered in order.
    """
    found = []
    for index, word in enumerate(text.split()):
        number = next((c for c in word if c.isdigit()), str(index))
        found.append(
            PodState(
                key=RawKey(kind="Pod", namespace="shop", name=f"p-{number}"),
                workload="Deployment shop/web",
                hash=NEW if word[0] == "n" else OLD,
                ready="r" in word,
                ending="e" in word,
                phase="Failed" if "F" in word else "Succeeded" if "S" in word else "Running",
                created=f"{index:03}",
            )
        )
    return found


def steps(want: Wanted, text: str) -> tuple[int, list[str]]:
    """How many Pods are created, and the names of those that end."""
    letters = (f"s{number}" for number in itertools.count())
    found = next_steps(want, pods(text), lambda: next(letters))
    return len(found.create), [key.name for key in found.remove]


ONE_MORE = Pace(surge=1)


@pytest.mark.parametrize(
    ("replicas", "text", "create", "remove"),
    [
        pytest.param(2, "", 2, [], id="from-nothing"),
        pytest.param(2, "nr n", 0, [], id="enough"),
        pytest.param(3, "nr nr", 1, [], id="scale-up"),
        pytest.param(1, "nr n nr", 0, ["p-2", "p-1"], id="scale-down-idle-and-young-first"),
        pytest.param(0, "nr nr", 0, ["p-0", "p-1"], id="to-nothing"),
        pytest.param(2, "nr nF", 1, ["p-1"], id="dead-ones-are-replaced"),
        pytest.param(2, "nr nre", 1, [], id="ending-ones-do-not-count"),
        pytest.param(2, "or or", 1, [], id="update-begins-with-a-surge"),
        pytest.param(2, "or or n", 0, [], id="and-waits-until-it-is-ready"),
        pytest.param(2, "or or nr", 0, ["p-0"], id="then-the-oldest-ends"),
        pytest.param(2, "ore or nr", 1, [], id="and-the-next-begins"),
        pytest.param(2, "or nr nr", 0, ["p-0"], id="until-the-last"),
        pytest.param(2, "o or n", 0, ["p-0"], id="an-old-one-not-ready-ends-at-once"),
        pytest.param(1, "or nr", 0, ["p-0"], id="one-replica"),
        pytest.param(0, "or or", 0, ["p-0", "p-1"], id="update-to-nothing"),
        pytest.param(1, "or or or", 0, ["p-0", "p-1"], id="update-and-scale-down"),
    ],
)
def test_a_rolling_update_never_has_fewer_ready_pods_than_wanted(
    replicas: int, text: str, create: int, remove: list[str]
) -> None:
    assert steps(wanted(replicas=replicas, pace=ONE_MORE), text) == (create, remove)


def test_an_update_may_take_away_first_where_its_pace_says_so() -> None:
    want = wanted(replicas=2, pace=Pace(unavailable=1))
    assert steps(want, "or or") == (0, ["p-0"])
    assert steps(want, "ore or") == (1, [])


@pytest.mark.parametrize(
    ("text", "create", "remove"),
    [
        pytest.param("or or", 0, ["p-0", "p-1"], id="all-old-end"),
        pytest.param("ore", 0, [], id="none-begins-before-they-are-gone"),
        pytest.param("", 2, [], id="then-all-new-begin"),
        pytest.param("nr nr nr", 0, ["p-2"], id="surplus"),
    ],
)
def test_recreate_never_mixes_old_and_new(text: str, create: int, remove: list[str]) -> None:
    assert steps(wanted(pace=None), text) == (create, remove)


@pytest.mark.parametrize(
    ("in_order", "text", "create", "remove"),
    [
        pytest.param(True, "", ["web-0"], [], id="the-first-alone"),
        pytest.param(True, "n0", [], [], id="waits-for-the-first"),
        pytest.param(True, "n0r", ["web-1"], [], id="then-the-second"),
        pytest.param(True, "n0r n1r n2r", [], [], id="all-there"),
        pytest.param(True, "n0r n2r", ["web-1"], [], id="fills-a-gap"),
        pytest.param(True, "n0r n1r n2r n3r n4r", [], ["p-4"], id="surplus-from-the-top"),
        pytest.param(True, "n0r n1r n2r n3r n4re", [], [], id="one-ends-at-a-time"),
        pytest.param(True, "o0r o1r o2r", [], ["p-2"], id="update-from-the-top"),
        pytest.param(True, "o0r o1r n2", [], [], id="waits-until-it-is-ready"),
        pytest.param(True, "o0r o1r n2r", [], ["p-1"], id="then-the-next"),
        pytest.param(True, "o0r o1 o2r", [], ["p-1"], id="a-broken-old-one-does-not-block"),
        pytest.param(True, "n0r n1F n2r", [], ["p-1"], id="a-dead-one-is-replaced"),
        pytest.param(True, "n0re n1r n2r", [], [], id="its-number-is-taken-until-it-is-gone"),
        pytest.param(False, "", ["web-0", "web-1", "web-2"], [], id="parallel-start"),
        pytest.param(False, "n0r n1r n2r n3r n4r", [], ["p-4", "p-3"], id="parallel-end"),
        pytest.param(False, "o0r o1r o2re", [], ["p-1"], id="parallel-update"),
    ],
)
def test_numbered_pods_come_and_go_in_order(
    in_order: bool, text: str, create: list[str], remove: list[str]
) -> None:
    want = wanted("StatefulSet", 3, in_order=in_order)
    found = next_steps(want, pods(text), lambda: "unused")
    assert [pod["metadata"]["name"] for pod in found.create] == create
    assert [key.name for key in found.remove] == remove


@pytest.mark.parametrize(
    ("text", "create", "remove"),
    [
        pytest.param("", 1, [], id="begins"),
        pytest.param("n", 0, [], id="runs"),
        pytest.param("nS", 0, [], id="done"),
        pytest.param("nF", 1, [], id="tried-again"),
        pytest.param("nF nF nF", 0, [], id="given-up"),
        pytest.param("nF nF nF nF", 0, [], id="stays-given-up"),
        pytest.param("oS", 1, ["p-0"], id="an-edit-runs-it-again"),
    ],
)
def test_a_job_runs_until_it_succeeds_once(text: str, create: int, remove: list[str]) -> None:
    assert steps(wanted("Job", 1, retries=2), text) == (create, remove)


def test_a_suspended_job_begins_nothing() -> None:
    assert steps(wanted("Job", 0, retries=2), "") == (0, [])


@pytest.mark.parametrize(
    ("text", "create", "remove"),
    [
        pytest.param("", 1, [], id="begins"),
        pytest.param("nr", 0, [], id="runs"),
        pytest.param("nF", 0, [], id="is-not-replaced"),
        pytest.param("or", 0, ["p-0"], id="an-edit-ends-it"),
        pytest.param("ore", 0, [], id="its-name-is-taken-until-it-is-gone"),
    ],
)
def test_a_bare_pod_lives_once(text: str, create: int, remove: list[str]) -> None:
    assert steps(wanted("Pod", 1), text) == (create, remove)


def test_pods_without_a_workload_end() -> None:
    known = wanted()
    states = pods("nr nr nre")
    states[1] = replace(states[1], workload="Deployment shop/gone")
    states[2] = replace(states[2], workload="Deployment shop/gone")
    assert orphans(states, [known]) == (states[1].key,)
    assert orphans(states, []) == (states[0].key, states[1].key)


def test_the_state_of_a_pod_is_read_from_its_object() -> None:
    raw = {
        "kind": "Pod",
        "metadata": {
            "name": "web-3",
            "namespace": "shop",
            "creationTimestamp": "t",
            "deletionTimestamp": "t",
            "annotations": {
                "standalone.openservicemesh.io/workload": "Deployment shop/web",
                "standalone.openservicemesh.io/template-hash": NEW,
            },
        },
        "status": {"phase": "Failed", "conditions": [{"type": "Ready", "status": "True"}]},
    }
    state = pod_state(raw)
    assert state == PodState(
        key=RawKey(kind="Pod", namespace="shop", name="web-3"),
        workload="Deployment shop/web",
        hash=NEW,
        ready=True,
        ending=True,
        phase="Failed",
        created="t",
    )
    assert (state.finished, state.number) == (True, 3)
    bare = pod_state({"kind": "Pod", "metadata": {"name": "x", "namespace": "shop"}})
    assert (bare.ready, bare.finished, bare.number) == (False, False, -1)
    assert next_steps(wanted(replicas=0, pace=ONE_MORE), [], lambda: "") == Steps()
