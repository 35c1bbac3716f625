"""One stream by scripts of requests and updates: no sockets, no clock."""

from __future__ import annotations

import pytest

from xds.resource import Layer, Resource, ResourceKind, ResourceSet
from xds.stream.subscription import (
    Ack,
    Asked,
    Ignored,
    Nack,
    Outcome,
    Stale,
    Subscription,
)
from xds.stream.wire import MAX_NAMES, Protocol, ProtocolError, Push, Request

SDS, CDS, EDS, LDS, RDS = ResourceKind
BOTH = pytest.mark.parametrize("protocol", list(Protocol), ids=lambda p: p.name)


def res(kind: ResourceKind, name: str, body: str = "1") -> Resource:
    return Resource.of(kind, name, body.encode())


def config(**bodies: dict[str, str]) -> ResourceSet:
    """A set from names and bodies per kind: ``config(CDS={"a": "1"})``."""
    return ResourceSet(
        [Layer(res(ResourceKind(k), n, b) for k, named in bodies.items() for n, b in named.items())]
    )


def ask(kind: ResourceKind, *names: str, **more: object) -> Request:
    return Request(type_url=kind.type_url, names=frozenset(names), **more)  # type: ignore[arg-type]


class Client:
    """Keeps the books that a state-of-the-world answer needs: the names it wants."""

    def __init__(self, protocol: Protocol = Protocol.DELTA) -> None:
        self.stream = Subscription(protocol)
        self.protocol = protocol
        self.names: dict[ResourceKind, tuple[str, ...]] = {}
        self.nonces: dict[ResourceKind, str] = {}

    def subscribe(self, kind: ResourceKind, *names: str, **more: object) -> tuple[Push, ...]:
        self.names[kind] = (*self.names.get(kind, ()), *names)
        asked = names
        if self.protocol is Protocol.SOTW:
            asked = self.names[kind]
            more["nonce"] = self.nonces.get(kind, "")
        assert self.stream.receive(ask(kind, *asked, **more)) == Asked(kind=kind)
        return self.stream.tick(0)

    def answer(self, push: Push, error: str | None = None, now: float = 0) -> tuple[Push, ...]:
        self.nonces[push.kind] = push.nonce
        names = self.names[push.kind] if self.protocol is Protocol.SOTW else ()
        self.last = self.outcome(ask(push.kind, *names, nonce=push.nonce, error=error))
        return self.stream.tick(now)

    def outcome(self, request: Request) -> Outcome:
        return self.stream.receive(request)

    def take(self, *pushes: Push) -> None:
        """Accept the pushes and all that follows from it."""
        for push in pushes:
            self.take(*self.answer(push))

    def connect(self, target: ResourceSet) -> None:
        """Subscribe to everything the set has and accept it."""
        self.stream.update(target)
        for kind in (CDS, EDS, SDS, LDS, RDS):
            names = () if kind.is_wildcard else tuple(target.names(kind))
            self.take(*self.subscribe(kind, *names))
        assert self.stream.is_settled


def brief(pushes: tuple[Push, ...]) -> list[tuple[ResourceKind, list[str], list[str]]]:
    return [(p.kind, [r.name for r in p.resources], list(p.removed)) for p in pushes]


MESH = {
    "SDS": {"service-cert": "1"},
    "CDS": {"a": "1", "b": "1"},
    "EDS": {"a": "1", "b": "1"},
    "LDS": {"in": "1", "out": "1"},
    "RDS": {"r": "1"},
}


@BOTH
def test_nothing_is_sent_before_a_configuration_is_complete(protocol: Protocol) -> None:
    client = Client(protocol)
    assert client.subscribe(CDS) == ()
    assert client.stream.accepted(CDS) is None
    assert not client.stream.is_settled
    assert brief(client.stream.update(config(CDS={"a": "1"}))) == [(CDS, ["a"], [])]


@BOTH
def test_nothing_is_sent_that_was_not_asked_for(protocol: Protocol) -> None:
    assert Client(protocol).stream.update(config(**MESH)) == ()


@BOTH
def test_equal_content_sends_nothing(protocol: Protocol) -> None:
    client = Client(protocol)
    client.connect(config(**MESH))
    assert client.stream.update(config(**MESH)) == ()
    assert client.stream.is_settled


@BOTH
def test_a_first_wildcard_request_is_answered_even_with_nothing(protocol: Protocol) -> None:
    client = Client(protocol)
    client.stream.update(config(CDS={"a": "1"}))
    assert brief(client.subscribe(LDS)) == [(LDS, [], [])]


@BOTH
def test_names_that_grow_are_answered_though_nothing_changed(protocol: Protocol) -> None:
    client = Client(protocol)
    client.connect(config(EDS={"a": "1"}))
    client.stream.update(config(EDS={"a": "1", "b": "1"}))
    sent = [n for _, names, _ in brief(client.subscribe(EDS, "b")) for n in names]
    assert sent == (["b"] if protocol is Protocol.DELTA else ["a", "b"])


def test_a_name_asked_for_again_is_sent_again() -> None:
    client = Client()
    client.connect(config(EDS={"a": "1"}))
    assert brief(client.subscribe(EDS, "a")) == [(EDS, ["a"], [])]


def test_delta_says_which_names_do_not_exist_and_sends_them_when_they_do() -> None:
    client = Client()
    client.stream.update(config(EDS={"a": "1"}))
    (push,) = client.subscribe(EDS, "a", "gone")
    assert brief((push,)) == [(EDS, ["a"], ["gone"])]
    client.take(push)
    assert brief(client.stream.update(config(EDS={"a": "1", "gone": "1"}))) == [(EDS, ["gone"], [])]


def test_state_of_the_world_leaves_out_names_that_do_not_exist() -> None:
    client = Client(Protocol.SOTW)
    client.stream.update(config(EDS={"a": "1"}))
    assert client.subscribe(EDS, "gone") == ()
    assert brief(client.stream.update(config(EDS={"gone": "1"}))) == [(EDS, ["gone"], [])]


def test_unsubscribed_names_are_not_sent() -> None:
    client = Client()
    client.connect(config(EDS={"a": "1", "b": "1"}))
    client.outcome(Request(type_url=EDS.type_url, unsubscribe=frozenset({"a"})))
    assert brief(client.stream.update(config(EDS={"a": "2", "b": "2"}))) == [(EDS, ["b"], [])]


def test_empty_names_after_others_unsubscribe_from_all_in_state_of_the_world() -> None:
    client = Client(Protocol.SOTW)
    client.connect(config(EDS={"a": "1"}))
    client.names[EDS] = ()
    (push,) = client.stream.update(config(EDS={"a": "2"}))
    assert client.answer(push) == ()
    assert client.stream.update(config(EDS={"a": "3"})) == ()


def test_state_of_the_world_names_may_change_after_the_answer_was_accepted() -> None:
    client = Client(Protocol.SOTW)
    client.stream.update(config(EDS={"a": "1", "b": "1"}))
    (push,) = client.subscribe(EDS, "a")
    client.take(push)
    assert client.outcome(ask(EDS, "a", "b", nonce=push.nonce)) == Asked(kind=EDS)
    assert brief(client.stream.tick(0)) == [(EDS, ["a", "b"], [])]


def test_star_subscribes_to_all_and_its_withdrawal_to_the_names_left() -> None:
    client = Client()
    client.stream.update(config(CDS={"a": "1", "b": "1"}))
    client.take(*client.subscribe(CDS, "a"))
    (push,) = client.subscribe(CDS, "*")
    assert brief((push,)) == [(CDS, ["a", "b"], [])]
    client.take(push)
    client.outcome(Request(type_url=CDS.type_url, unsubscribe=frozenset({"*"})))
    assert brief(client.stream.update(config(CDS={"a": "2", "b": "2"}))) == [(CDS, ["a"], [])]


def test_a_star_is_no_wildcard_for_kinds_asked_by_name() -> None:
    client = Client()
    client.stream.update(config(SDS={"service-cert": "1"}))
    assert client.subscribe(SDS, "*") == ()


@BOTH
def test_unknown_types_are_ignored(protocol: Protocol) -> None:
    url = "type.googleapis.com/envoy.service.runtime.v3.Runtime"
    stream = Subscription(protocol)
    assert stream.receive(Request(type_url=url)) == Ignored(type_url=url)


def test_a_stream_of_secrets_serves_nothing_else() -> None:
    stream = Subscription(Protocol.DELTA, frozenset({SDS}))
    stream.update(config(**MESH))
    assert stream.receive(ask(CDS)) == Ignored(type_url=CDS.type_url)
    stream.receive(ask(SDS, "service-cert"))
    (push,) = stream.tick(0)
    assert brief((push,)) == [(SDS, ["service-cert"], [])]
    stream.receive(ask(SDS, nonce=push.nonce))
    assert stream.is_settled
    assert stream.accepted(SDS) == config(**MESH).versions[SDS]
    assert stream.accepted(CDS) is None


def test_more_names_than_any_mesh_has_end_the_stream() -> None:
    stream = Subscription()
    stream.receive(ask(EDS, *map(str, range(MAX_NAMES))))
    with pytest.raises(ProtocolError, match="100001 EDS resources"):
        stream.receive(ask(EDS, "one more"))


# Answers ------------------------------------------------------------------------------------------


@BOTH
def test_an_accepted_push_is_acknowledged_once(protocol: Protocol) -> None:
    client = Client(protocol)
    target = config(CDS={"a": "1"})
    client.stream.update(target)
    (push,) = client.subscribe(CDS)
    assert client.stream.accepted(CDS) is None
    client.answer(push)
    assert client.last == Ack(kind=CDS, version=target.versions[CDS])
    assert client.stream.accepted(CDS) == push.version == target.versions[CDS]


@BOTH
def test_rejected_version_is_not_sent_again(protocol: Protocol) -> None:
    client = Client(protocol)
    client.connect(config(RDS={"r": "1", "s": "1"}))
    bad = config(RDS={"r": "2", "s": "1"})
    (push,) = client.stream.update(bad)
    assert client.answer(push, "bad route") == ()
    assert client.last == Nack(kind=RDS, version=bad.versions[RDS], detail="bad route")
    assert client.stream.update(bad) == ()
    assert client.stream.update(config(RDS={"r": "2", "s": "1"})) == ()
    assert client.stream.accepted(RDS) is None
    assert not client.stream.is_settled


@BOTH
def test_the_whole_type_is_sent_after_a_rejected_version(protocol: Protocol) -> None:
    client = Client(protocol)
    client.connect(config(RDS={"r": "1", "s": "1"}))
    (push,) = client.stream.update(config(RDS={"r": "2", "s": "1"}))
    client.answer(push, "bad route")
    (push,) = client.stream.update(config(RDS={"r": "3", "s": "1"}))
    assert brief((push,)) == [(RDS, ["r", "s"], [])]
    client.take(push)
    assert client.stream.is_settled


def test_a_rejection_of_an_older_push_sends_the_whole_of_the_newer() -> None:
    client = Client()
    client.connect(config(RDS={"r": "1", "s": "1"}))
    (first,) = client.stream.update(config(RDS={"r": "2", "s": "1"}))
    (second,) = client.stream.update(config(RDS={"r": "2", "s": "3"}))
    assert brief((second,)) == [(RDS, ["s"], [])]
    (third,) = client.answer(first, "bad route")
    assert brief((third,)) == [(RDS, ["r", "s"], [])]
    assert client.answer(second) == ()
    assert client.answer(third) == ()
    assert client.stream.is_settled


def test_a_rejection_overtaken_by_the_whole_type_changes_nothing() -> None:
    client = Client()
    client.connect(config(RDS={"r": "1"}))
    (first,) = client.stream.update(config(RDS={"r": "2"}))
    (second,) = client.stream.update(config(RDS={"r": "3"}))
    (whole,) = client.answer(first, "bad")
    assert client.answer(second, "bad too") == ()
    client.take(whole)
    assert client.stream.is_settled


@BOTH
def test_names_that_grow_after_a_rejection_get_only_what_is_new(protocol: Protocol) -> None:
    client = Client(protocol)
    target = config(RDS={"r": "1", "s": "1"})
    client.stream.update(target)
    (push,) = client.subscribe(RDS, "r")
    client.answer(push, "bad")
    client.names[RDS] = ("r", "s")
    names = ("r", "s") if protocol is Protocol.SOTW else ("s",)
    client.outcome(ask(RDS, *names, nonce=push.nonce if protocol is Protocol.SOTW else ""))
    (more,) = client.stream.tick(0)
    assert brief((more,)) == [(RDS, ["s"], [])]
    client.answer(more)
    assert client.stream.accepted(RDS) is None


@pytest.mark.parametrize(
    ("protocol", "stale"),
    [
        pytest.param(Protocol.SOTW, True, id="sotw-answer-to-an-older-push-is-stale"),
        pytest.param(Protocol.DELTA, False, id="delta-answers-each-push"),
    ],
)
def test_answers_are_told_apart_by_nonce(protocol: Protocol, stale: bool) -> None:
    client = Client(protocol)
    client.connect(config(EDS={"a": "1"}))
    (first,) = client.stream.update(config(EDS={"a": "2"}))
    (second,) = client.stream.update(config(EDS={"a": "3"}))
    client.answer(first)
    assert isinstance(client.last, Stale) is stale
    assert not client.stream.is_settled
    client.answer(second)
    assert client.stream.is_settled


def test_an_answer_to_nothing_is_stale_but_its_names_count() -> None:
    client = Client()
    client.connect(config(EDS={"a": "1"}))
    client.stream.update(config(EDS={"a": "1", "b": "1"}))
    assert client.outcome(ask(EDS, "b", nonce="never sent")) == Stale(kind=EDS)
    assert brief(client.stream.tick(0)) == [(EDS, ["b"], [])]


def test_a_client_that_never_answers_is_forgotten_bit_by_bit() -> None:
    client = Client()
    client.connect(config(EDS={"a": "1"}))
    pushes = [p for n in range(70) for p in client.stream.update(config(EDS={"a": f"new {n}"}))]
    assert client.outcome(ask(EDS, nonce=pushes[0].nonce)) == Stale(kind=EDS)
    assert isinstance(client.outcome(ask(EDS, nonce=pushes[-1].nonce)), Ack)


# Order --------------------------------------------------------------------------------------------


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
