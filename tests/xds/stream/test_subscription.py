"""What a stream answers and how it takes answers, by scripts without sockets or clock."""

from __future__ import annotations

import pytest
from fakes.script_client import CDS, EDS, LDS, MESH, RDS, SDS, Client, ask, brief, config

from xds.stream.subscription import Ack, Asked, Ignored, Nack, Stale, Subscription
from xds.stream.wire import MAX_NAMES, Protocol, ProtocolError, Request

BOTH = pytest.mark.parametrize("protocol", list(Protocol), ids=lambda p: p.name)


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
