"""A kind is listed and watched, turn by turn, without a server: what is told, and when again."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from fakes.feed import RecordingSink, ScriptedFeed, ScriptedLines, event, page

from app.compute.kube_answers import Answer
from app.compute.kube_reflect import Pace, Reflector, Selection, pause_seconds
from app.errors import KubernetesError, NotFoundError, UnreachableError
from app.objects.meta import RawObject

PODS = Selection(api_version="v1", kind="Pod")
GONE = Answer(status=410, body=b'{"message": "too old"}')
DOWN = UnreachableError("down")


def pod(name: str, version: str, namespace: str = "shop") -> RawObject:
    return {"metadata": {"name": name, "namespace": namespace, "resourceVersion": version}}


def bookmark(version: str) -> bytes:
    return event("BOOKMARK", {"metadata": {"resourceVersion": version}})


class World:
    """A reflector with its feed, its sink and a clock."""

    def __init__(self, select: Callable[[], Selection | None] = lambda: PODS) -> None:
        self.feed = ScriptedFeed()
        self.sink = RecordingSink()
        self.now = 0.0
        pace = Pace(monotonic=lambda: self.now, chance=lambda: 0.5)
        self.reflector = Reflector(self.feed, select, self.sink, name="Pod", pace=pace)

    def turn(self) -> float | None:
        return self.reflector.turn()


@pytest.fixture
def world() -> World:
    """One that has listed a@1 and b@2 and watched in vain."""
    world = World()
    world.feed.lists = [[page("5", pod("a", "1"), pod("b", "2"))]]
    world.feed.watches = [ScriptedLines()]
    world.turn()
    assert world.sink.take() == ["a@1", "b@2", "complete"]
    world.feed.asked.clear()
    return world


def test_list_of_several_pages_is_told_then_watched_from_its_version() -> None:
    world = World()
    world.feed.lists = [[page("5", pod("a", "1")), page("6", pod("b", "2"), first=False)]]
    new, deleted = event("ADDED", pod("c", "7")), event("DELETED", pod("a", "8"))
    world.feed.watches = [ScriptedLines(new, deleted)]
    world.turn()
    assert world.sink.take() == ["a@1", "b@2", "complete", "c@7", "-a"]
    assert world.feed.asked == [("list",), ("watch", "6", 360.0)]


def test_watch_goes_on_from_the_last_event_or_bookmark(world: World) -> None:
    world.feed.watches = [
        ScriptedLines(event("MODIFIED", pod("a", "6"))),
        ScriptedLines(bookmark("9")),
        ScriptedLines(),
    ]
    for _ in range(3):
        world.turn()
    assert [asked[:2] for asked in world.feed.asked] == [
        ("watch", "5"), ("watch", "6"), ("watch", "9")
    ]  # fmt: skip
    assert world.sink.take() == ["a@6"]


def test_event_of_a_version_that_is_known_is_dropped(world: World) -> None:
    known, changed = event("ADDED", pod("a", "1")), event("MODIFIED", pod("b", "9"))
    world.feed.watches = [ScriptedLines(known, changed)]
    world.turn()
    assert world.sink.take() == ["b@9"]


@pytest.mark.parametrize(
    "ending",
    [
        pytest.param(GONE, id="410-as-status"),
        pytest.param(ScriptedLines(event("ERROR", {"code": 410})), id="410-in-the-stream"),
        pytest.param(ScriptedLines(event("ERROR", {"code": 500, "message": "?"})), id="500"),
        pytest.param(DOWN, id="cannot-be-opened"),
        pytest.param(Answer(status=503, body=b""), id="503"),
    ],
)
def test_differences_are_told_after_a_new_list(
    world: World, ending: ScriptedLines | Answer | Exception
) -> None:
    world.feed.watches = [ending, ScriptedLines()]
    pause = world.turn()
    assert pause is not None
    assert 0.5 <= pause <= 2
    assert world.sink.take() == []
    world.feed.lists = [[page("20", pod("b", "2"), pod("c", "12"))]]
    world.turn()
    assert world.sink.take() == ["c@12", "-a", "complete"]
    assert [asked[:2] for asked in world.feed.asked] == [
        ("watch", "5"), ("list",), ("watch", "20")
    ]  # fmt: skip


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(DOWN, id="connection-lost"),
        pytest.param(KubernetesError("an event cannot be read"), id="garbage"),
    ],
)
def test_stream_that_breaks_off_is_taken_up_where_it_was(world: World, broken: Exception) -> None:
    world.feed.watches = [
        ScriptedLines(event("ADDED", pod("c", "6")), error=broken),
        ScriptedLines(event("ADDED", pod("d", "7"))),
    ]
    world.turn()
    world.turn()
    assert world.sink.take() == ["c@6", "d@7"]
    assert [asked[:2] for asked in world.feed.asked] == [("watch", "5"), ("watch", "6")]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"{not json", id="no-json"),
        pytest.param(b"[1]", id="no-object"),
        pytest.param(b'{"type": "ADDED"}', id="no-content"),
    ],
)
def test_line_that_cannot_be_read_ends_the_watch_only(world: World, line: bytes) -> None:
    world.feed.watches = [ScriptedLines(line), ScriptedLines(event("ADDED", pod("c", "6")))]
    assert world.turn() is not None
    world.turn()
    assert world.sink.take() == ["c@6"]


def test_nothing_is_deleted_while_lists_fail(world: World) -> None:
    world.feed.watches = [GONE]
    world.turn()
    half = [page("9", pod("b", "2")), DOWN]
    world.feed.lists = [DOWN, NotFoundError("no such kind"), half]
    for _ in range(3):
        world.turn()
    assert world.sink.take() == []


def test_list_that_starts_anew_forgets_what_its_first_pages_had(world: World) -> None:
    world.feed.watches = [GONE, ScriptedLines()]
    world.turn()
    world.feed.lists = [[page("9", pod("a", "1")), page("12", pod("b", "2"))]]
    world.turn()
    assert world.sink.take() == ["-a", "complete"]


def test_object_the_sink_could_not_take_is_told_again(world: World) -> None:
    world.sink.broken = {"c"}
    world.feed.watches = [ScriptedLines(event("ADDED", pod("c", "6")))]
    world.turn()
    world.sink.broken = set()
    world.now += 600.0
    world.feed.lists = [[page("9", pod("a", "1"), pod("b", "2"), pod("c", "6"))]]
    world.feed.watches = [ScriptedLines()]
    world.turn()
    assert world.sink.take() == ["c@6", "complete"]


def test_object_the_sink_cannot_take_keeps_no_other_from_being_told() -> None:
    world = World()
    world.sink.broken = {"b", "d"}
    world.feed.lists = [[page("5", pod("a", "1"), pod("b", "2"), pod("c", "3"))]]
    world.feed.watches = [
        ScriptedLines(event("ADDED", pod("d", "6")), event("ADDED", pod("e", "7"))),
        ScriptedLines(event("DELETED", pod("b", "8")), event("ADDED", pod("f", "9"))),
    ]
    world.turn()
    world.turn()
    assert world.sink.take() == ["a@1", "c@3", "complete", "e@7", "f@9"]
    assert world.feed.asked[0] == ("list",)
    assert [asked[1] for asked in world.feed.asked[1:]] == ["5", "7"]


def test_kind_that_is_not_wanted_is_complete_and_never_stale() -> None:
    world = World(select=lambda: None)
    assert world.turn() is None
    world.now = 10_000.0
    assert (world.sink.take(), world.feed.asked) == (["complete"], [])
    assert world.reflector.staleness_seconds() == 0.0


def test_missing_kind_is_looked_for_every_few_seconds() -> None:
    def select() -> Selection:
        raise NotFoundError("no such kind yet")

    world = World(select=select)
    pauses = [world.turn() for _ in range(12)]
    assert pauses[-1] == 5 * 0.75
    assert world.sink.take() == []


def test_watch_that_heard_nothing_for_ten_minutes_begins_with_a_list(world: World) -> None:
    world.now = 599.0
    world.feed.watches = [ScriptedLines(), ScriptedLines()]
    world.turn()
    assert world.feed.asked == [("watch", "5", 10.0)]
    world.now = 600.0
    world.feed.lists = [[page("30", pod("a", "1"))]]
    world.turn()
    assert world.feed.asked[1:] == [("list",), ("watch", "30", 360.0)]
    assert world.sink.take() == ["-b", "complete"]


def test_staleness_is_since_the_last_word(world: World) -> None:
    world.now = 100.0
    assert world.reflector.staleness_seconds() == 100.0
    world.feed.watches = [ScriptedLines(bookmark("9"))]
    world.turn()
    assert world.reflector.staleness_seconds() == 0.0


def test_watches_that_end_at_once_are_opened_ever_more_slowly(world: World) -> None:
    world.feed.watches = [ScriptedLines() for _ in range(3)]
    assert [world.turn() for _ in range(3)] == [1.5, 3.0, 6.0]
    world.feed.watches = [ScriptedLines(bookmark("9"))]
    assert world.turn() == 0.75


@pytest.mark.parametrize(
    ("failures", "least", "most"),
    [
        pytest.param(0, 0.0, 0.0, id="none"),
        pytest.param(1, 0.5, 1.0, id="first"),
        pytest.param(3, 2.0, 4.0, id="third"),
        pytest.param(100_000, 15.0, 30.0, id="at-most-30"),
    ],
)
def test_pauses_grow_and_spread(failures: int, least: float, most: float) -> None:
    assert (pause_seconds(failures, 0.0), pause_seconds(failures, 1.0)) == (least, most)


class HangingLines(ScriptedLines):
    """Says nothing until it is closed."""

    def __init__(self, opened: threading.Event) -> None:
        super().__init__()
        self._opened = opened
        self._closed = threading.Event()

    def __iter__(self):  # type: ignore[no-untyped-def]
        self._opened.set()
        assert self._closed.wait(20)
        raise UnreachableError("closed")
        yield b""

    def close(self) -> None:
        super().close()
        self._closed.set()


def test_stop_ends_a_silent_watch_and_nothing_is_told_after() -> None:
    world, opened = World(), threading.Event()
    lines = HangingLines(opened)
    world.feed.lists = [[page("5", pod("a", "1"))]]
    world.feed.watches = [lines]
    world.reflector.start()
    assert opened.wait(20)
    world.reflector.stop()
    assert lines.is_closed
    assert not [t for t in threading.enumerate() if t.name == "watch Pod"]
    assert world.sink.take() == ["a@1", "complete"]
