"""In which order a stream brings a change, and what a reconnect costs (data-plane 7.4, 7.5)."""

from __future__ import annotations

import pytest
from fakes.script_client import CDS, EDS, LDS, MESH, RDS, SDS, Client, brief, config, res

from xds.resource import Layer, ResourceKind, ResourceSet
from xds.stream.wire import Protocol, Push

BOTH = pytest.mark.parametrize("protocol", list(Protocol), ids=lambda p: p.name)


def new(**bodies: dict[str, str]) -> ResourceSet:
    return config(**{**MESH, **bodies})


@BOTH
def test_secrets_clusters_and_endpoints_go_first_then_listeners_and_routes(
    protocol: Protocol,
) -> None:
    client = Client(protocol)
    client.connect(config(**MESH))
    later = {kind: dict.fromkeys(named, "2") for kind, named in MESH.items()}
    pushes = client.stream.update(config(**later), now=100)
    assert [p.kind for p in pushes] == [SDS, CDS, EDS]
    assert client.answer(pushes[2], now=100) == ()
    routing = client.answer(pushes[1], now=101)
    assert [p.kind for p in routing] == [LDS, RDS]
    client.take(pushes[0], *routing)
    assert client.stream.is_settled
    assert client.stream.deadline is None


@BOTH
@pytest.mark.parametrize("error", [None, "bad cluster"])
def test_an_answer_to_clusters_opens_the_way_whatever_it_is(
    protocol: Protocol, error: str | None
) -> None:
    client = Client(protocol)
    client.connect(config(**MESH))
    clusters, _ = client.stream.update(new(CDS={"a": "2", "b": "1"}, RDS={"r": "2"}))
    assert [p.kind for p in client.answer(clusters, error)] == [RDS]


@BOTH
def test_routes_wait_fifteen_seconds_at_most(protocol: Protocol) -> None:
    client = Client(protocol)
    client.connect(config(**MESH))
    client.stream.update(new(CDS={"a": "2", "b": "1"}, RDS={"r": "2"}), now=100)
    client.stream.update(new(CDS={"a": "3", "b": "1"}, RDS={"r": "2"}), now=110)
    assert client.stream.deadline == 115
    assert client.stream.tick(114.9) == ()
    assert [p.kind for p in client.stream.tick(115)] == [RDS]
    assert client.stream.deadline is None


def test_an_update_without_clusters_waits_for_nothing() -> None:
    client = Client()
    client.connect(config(**MESH))
    pushes = client.stream.update(new(LDS={"in": "2", "out": "1"}, RDS={"r": "2"}))
    assert brief(pushes) == [(LDS, ["in"], []), (RDS, ["r"], [])]


@BOTH
def test_a_rejected_listener_holds_back_no_route(protocol: Protocol) -> None:
    client = Client(protocol)
    client.connect(config(**MESH))
    (listeners,) = client.stream.update(new(LDS={"in": "2", "out": "1"}))
    client.answer(listeners, "bad listener")
    pushes = client.stream.update(new(LDS={"in": "2", "out": "1"}, RDS={"r": "revoked"}))
    assert [p.kind for p in pushes] == [RDS]


@BOTH
def test_endpoints_of_every_changed_cluster_are_sent_again(protocol: Protocol) -> None:
    client = Client(protocol)
    client.connect(config(**MESH))
    clusters, endpoints = client.stream.update(new(CDS={"a": "2", "b": "1"}))
    both = protocol is Protocol.SOTW
    assert brief((clusters,)) == [(CDS, ["a", "b"] if both else ["a"], [])]
    assert "a" in [r.name for r in endpoints.resources]


def test_an_endpoint_change_sends_one_assignment() -> None:
    client = Client()
    client.connect(config(**MESH))
    assert brief(client.stream.update(new(EDS={"a": "2", "b": "1"}))) == [(EDS, ["a"], [])]


def test_layers_that_stay_are_not_sent_again() -> None:
    common = Layer([res(CDS, "a"), res(LDS, "in")])
    client = Client()
    client.connect(ResourceSet([common, Layer([res(CDS, "b")])]))
    moved = ResourceSet([common, Layer([res(CDS, "b"), res(CDS, "c")])])
    assert brief(client.stream.update(moved)) == [(CDS, ["c"], [])]


# Removal ------------------------------------------------------------------------------------------

LESS = {**MESH, "CDS": {"a": "1"}, "EDS": {"a": "1"}, "RDS": {"r": "2"}}


@BOTH
def test_a_cluster_goes_after_the_routes_that_named_it(protocol: Protocol) -> None:
    client = Client(protocol)
    client.connect(config(**MESH))
    (routes,) = client.stream.update(config(**LESS))
    assert routes.kind is RDS
    (removal,) = client.answer(routes)
    expected = ([], ["b"]) if protocol is Protocol.DELTA else (["a"], [])
    assert brief((removal,)) == [(CDS, *expected)]
    assert not client.stream.is_settled
    client.take(removal)
    assert client.stream.is_settled


@BOTH
def test_a_cluster_that_is_to_go_stays_in_what_is_sent_meanwhile(protocol: Protocol) -> None:
    client = Client(protocol)
    client.connect(config(**MESH))
    clusters, *_ = client.stream.update(config(**{**LESS, "CDS": {"a": "2"}}))
    sent = ["a", "b"] if protocol is Protocol.SOTW else ["a"]
    assert brief((clusters,)) == [(CDS, sent, [])]


@BOTH
@pytest.mark.parametrize("kind", [LDS, RDS])
def test_nothing_is_removed_while_routing_is_rejected(
    protocol: Protocol, kind: ResourceKind
) -> None:
    client = Client(protocol)
    client.connect(config(**MESH))
    less = {**LESS, "LDS": {"in": "2", "out": "1"}}
    pushes = client.stream.update(config(**less))
    follow = [
        p for push in pushes for p in client.answer(push, "no" if push.kind is kind else None)
    ]
    assert follow == []
    # A later change of something else does not bring the removal about either.
    (push,) = client.stream.update(config(**{**less, "EDS": {"a": "9"}}))
    assert client.answer(push) == ()
    mended = {**less, "LDS": {"in": "3", "out": "1"}, "RDS": {"r": "3"}}
    client.take(*client.stream.update(config(**{**mended, "EDS": {"a": "9"}})))
    assert client.stream.is_settled


@BOTH
def test_a_rejected_assignment_cancels_only_the_removals_of_its_update(protocol: Protocol) -> None:
    client = Client(protocol)
    client.connect(config(**MESH))
    less = {**LESS, "EDS": {"a": "2"}}
    endpoints, routes = client.stream.update(config(**less))
    assert client.answer(endpoints, "bad") == ()
    assert client.answer(routes) == ()
    assert client.stream.update(config(**less)) == ()
    (secrets,) = client.stream.update(config(**{**less, "SDS": {"service-cert": "2"}}))
    (removal,) = client.answer(secrets)
    assert removal.kind is CDS


def test_a_cluster_that_comes_back_before_it_went_is_not_sent_again() -> None:
    client = Client()
    client.connect(config(**MESH))
    (routes,) = client.stream.update(config(**LESS))
    back = client.stream.update(config(**{**MESH, "RDS": {"r": "3"}}))
    assert brief(back) == [(EDS, ["b"], []), (RDS, ["r"], [])]
    assert [client.answer(push) for push in (routes, *back)] == [(), (), ()]
    assert client.stream.is_settled


def test_removals_wait_for_routes_that_a_new_listener_still_has_to_ask_for() -> None:
    client = Client()
    client.connect(config(**MESH))
    more = {**LESS, "LDS": {"in": "2", "out": "1"}, "RDS": {"r": "1", "s": "1"}}
    (listeners,) = client.stream.update(config(**more))
    assert client.answer(listeners) == ()
    (routes,) = client.subscribe(RDS, "s")
    (removal,) = client.answer(routes)
    assert brief((removal,)) == [(CDS, [], ["b"])]


def test_listeners_are_removed_with_the_change_itself() -> None:
    client = Client()
    client.connect(config(**MESH))
    assert brief(client.stream.update(new(LDS={"in": "1"}))) == [(LDS, [], ["out"])]
    assert client.stream.update(new(LDS={"in": "1"})) == ()


def test_state_of_the_world_removes_a_listener_by_leaving_it_out() -> None:
    client = Client(Protocol.SOTW)
    client.connect(config(**MESH))
    client.stream.update(new(LDS={"in": "2"}))
    (push,) = client.stream.update(new(LDS={"in": "3"}))
    assert brief((push,)) == [(LDS, ["in"], [])]


def test_endpoints_routes_and_secrets_vanish_with_their_owners() -> None:
    client = Client()
    client.connect(config(**MESH))
    gone = {**MESH, "EDS": {"a": "1"}, "RDS": {}, "SDS": {}}
    assert client.stream.update(config(**gone)) == ()


# Reconnect ----------------------------------------------------------------------------------------


def versions(target: ResourceSet, kind: ResourceKind) -> dict[str, str]:
    return {r.name: r.version for r in target.resources(kind)}


def reconnected(held: ResourceSet, now: ResourceSet) -> tuple[Client, list[Push]]:
    client = Client()
    client.stream.update(now)
    pushes: list[Push] = []
    for kind in (CDS, EDS, SDS, LDS, RDS):
        names = () if kind.is_wildcard else tuple(held.names(kind))
        pushes += client.subscribe(kind, *names, initial_versions=versions(held, kind))
    return client, pushes


def test_a_reconnect_with_what_is_current_sends_nothing() -> None:
    client, pushes = reconnected(config(**MESH), config(**MESH))
    assert pushes == []
    assert client.stream.is_settled
    assert client.stream.accepted(RDS) == config(**MESH).versions[RDS]


def test_a_reconnect_sends_only_what_differs_and_removes_last() -> None:
    target = {
        "SDS": {"service-cert": "1"},
        "CDS": {"a": "1", "c": "1"},
        "EDS": {"a": "2", "c": "1"},
        "LDS": {"out": "1"},
        "RDS": {"r": "2"},
    }
    client, pushes = reconnected(config(**MESH), config(**target))
    assert brief(tuple(pushes)) == [(CDS, ["c"], []), (EDS, ["a"], [])]
    pushes += client.subscribe(EDS, "c")
    routing = client.answer(pushes[0])
    assert brief(routing) == [(LDS, [], ["in"]), (RDS, ["r"], [])]
    follow = [p for push in (*pushes[1:], *routing) for p in client.answer(push)]
    assert brief(tuple(follow)) == [(CDS, [], ["b"])]


def test_a_name_the_client_holds_and_the_mesh_lost_is_not_taken_away() -> None:
    _, pushes = reconnected(config(EDS={"a": "1", "b": "1"}), config(EDS={"a": "1"}))
    assert [p for p in pushes if p.kind is EDS] == []


# Size ---------------------------------------------------------------------------------------------

BIG = {name: name * 3_000_000 for name in "abc"}


def test_a_large_answer_is_split_in_delta() -> None:
    client = Client()
    client.stream.update(config(CDS=BIG))
    pushes = client.subscribe(CDS)
    assert brief(pushes) == [(CDS, ["a"], []), (CDS, ["b"], []), (CDS, ["c"], [])]
    assert len({p.version for p in pushes}) == 1
    client.answer(pushes[0])
    client.answer(pushes[1])
    assert client.stream.accepted(CDS) is None
    client.answer(pushes[2])
    assert client.stream.accepted(CDS) == pushes[0].version


def test_routes_wait_for_the_answers_to_all_parts_of_the_clusters() -> None:
    client = Client()
    client.connect(config(**MESH))
    first, second, third = client.stream.update(new(CDS={**MESH["CDS"], **BIG}, RDS={"r": "2"}))[:3]
    assert client.answer(first) == ()
    assert client.answer(second) == ()
    assert [p.kind for p in client.answer(third)] == [RDS]


def test_state_of_the_world_is_never_split() -> None:
    client = Client(Protocol.SOTW)
    client.stream.update(config(CDS=BIG))
    assert brief(client.subscribe(CDS)) == [(CDS, ["a", "b", "c"], [])]
