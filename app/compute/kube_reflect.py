"""One kind of objects, followed: listed in pages, then watched, listed again where that is needed.

``KubeClient.watch`` and ``kube_watch.KubeSource`` give it a selection and a sink; it runs on a
thread of its own. The sink hears only of what really changed: an object that a list shows in the
version known before is not told again. What an API server does not say for a while stays as it was.
Source: kubernetes-surface 9.2; the Kubernetes API reference, “Efficient detection of changes”.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

from app import logs
from app.compute.kube_answers import Answer, parsed, refusal
from app.errors import AppError, KubernetesError, NotFoundError
from app.objects.meta import RawObject

PAGE = 500
STALE_SECONDS = 600.0
"""After so long without a word the objects are listed again."""
_WATCH_SECONDS = (240.0, 480.0)
_SHORTEST_WATCH_SECONDS = 10.0
_GRACE_SECONDS = 15.0
"""How much later than agreed the server may end a watch before it counts as silent."""
_LASTING_SECONDS = 5.0
_LONGEST_PAUSE_SECONDS = 30.0
_LOOK_AGAIN_SECONDS = 5.0
JOIN_SECONDS = 2.0
"""How long to wait for threads that were told to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which objects."""

    api_version: str
    kind: str
    namespace: str = ""
    name: str = ""
    labels: str = ""
    metadata_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A part of a list; ``is_first`` also where the list had to start anew."""

    items: list[RawObject]
    version: str
    is_first: bool


class Lines(Protocol):
    """The events of a watch as they come; ``close`` ends it from any thread."""

    def __iter__(self) -> Iterator[bytes]: ...
    def close(self) -> None:
        """Whoever reads stops at once."""
        ...


class Feed(Protocol):
    """Where lists and watches come from."""

    def pages(self, selection: Selection, *, limit: int = PAGE) -> Iterator[Page]:
        """All objects; raise ``NotFoundError`` where the server lacks the kind."""
        ...

    def changes(self, selection: Selection, version: str, *, seconds: float) -> Lines | Answer:
        """What happens after that version, or the refusal."""
        ...


class Sink(Protocol):
    """Who hears of the objects, on the reflector's thread."""

    def put(self, raw: RawObject) -> None:
        """The object is new or has changed."""
        ...

    def gone(self, namespace: str, name: str) -> None:
        """The object is no more."""
        ...

    def complete(self) -> None:
        """All that exists has been told."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Time and chance, so that tests can set them."""

    monotonic: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random
    """Between 0 and 1; keeps replicas from asking at the same moments."""


def pause_seconds(
    failures: int, chance: float, *, longest: float = _LONGEST_PAUSE_SECONDS
) -> float:
    """How long to wait after so many failures in a row; ``chance`` (0 to 1) spreads replicas.

    0.5 to 1 s after the first, twice that after each further one.
    """
    if failures == 0:
        return 0.0
    return float(min(longest, 2 ** min(failures - 1, 10)) * (0.5 + chance / 2))


class Reflector:
    """Tells a sink what the API server has. Implements ``Watching``."""

    def __init__(
        self,
        feed: Feed,
        selection: Callable[[], Selection | None],
        sink: Sink,
        *,
        name: str,
        limit: int = PAGE,
        pace: Pace | None = None,
    ) -> None:
        """``selection`` is asked before each list; None: nothing of the kind is wanted here."""
        self._feed = feed
        self._select = selection
        self._sink = sink
        self._name = name
        self._limit = limit
        self._pace = pace or Pace()
        self._known: dict[tuple[str, str], str] = {}
        self._version: str | None = None
        """Where the next watch starts; None: the objects must be listed."""
        self._failures = 0
        self._trouble = ""
        """Why it does not work now, as logged; empty when it does."""
        self._heard_at: float | None = self._pace.monotonic()
        """None once nothing is followed."""
        self._stopping = threading.Event()
        self._telling = threading.RLock()
        """Held while the sink is told, and to exchange the stream."""
        self._lines: Lines | None = None
        self._log = logs.logger("watch")
        self._thread = threading.Thread(target=self._run, name=f"watch {name}", daemon=True)

    @property
    def name(self) -> str:
        """What is followed, for logs and metrics."""
        return self._name

    def staleness_seconds(self) -> float:
        """Since when nothing was heard: no list, event or bookmark. 0 where nothing is followed."""
        return 0.0 if self._heard_at is None else self._pace.monotonic() - self._heard_at

    def start(self) -> None:
        """The sink is told from now on."""
        self._thread.start()

    def stop(self) -> None:
        """The sink is told nothing after this returns."""
        self.end()
        self.join(JOIN_SECONDS)

    def end(self) -> None:
        """As ``stop``, but does not wait for the thread: to end many at once."""
        self._stopping.set()
        with self._telling:
            if self._lines is not None:
                self._lines.close()

    def join(self, seconds: float) -> None:
        """The thread has ended, or the time is over.

        A list that is under way is not waited for longer: what it brings is dropped.
        """
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(seconds)

    def turn(self) -> float | None:
        """Listed where necessary, and watched once; how long to wait before the next turn.

        None: nothing is to be followed, now or later. For one thread.
        """
        try:
            return self._follow()
        except AppError as error:
            self._failures += 1
            self._report(error)
            return self._pause(is_missing=isinstance(error, NotFoundError))
        except Exception as error:  # what nobody thought of must not end the watch over all
            code = getattr(error, "code", "E5000")
            self._version = None
            self._failures += 1
            self._log.exception("following objects failed", kind=self._name, error_code=code)
            return self._pause()

    # The thread

    def _run(self) -> None:
        while not self._stopping.is_set():
            pause = self.turn()
            if pause is None:
                return
            self._stopping.wait(pause)

    def _follow(self) -> float | None:
        selection = self._select()
        if selection is None:
            self._heard_at = None
            self._tell(self._sink.complete)
            return None
        if self._version is None or self.staleness_seconds() >= STALE_SECONDS:
            self._version = None
            self._list(selection)
        began = self._pace.monotonic()
        self._watch(selection, self._version or "")
        # One that ends at once, again and again, must not keep us busy.
        lasted = self._pace.monotonic() - began >= _LASTING_SECONDS
        self._failures = 0 if lasted else self._failures + 1
        return self._pause()

    def _pause(self, *, is_missing: bool = False) -> float:
        longest = _LOOK_AGAIN_SECONDS if is_missing else _LONGEST_PAUSE_SECONDS
        return pause_seconds(self._failures, self._pace.chance(), longest=longest)

    def _list(self, selection: Selection) -> None:
        listed: set[tuple[str, str]] = set()
        version = ""
        for page in self._feed.pages(selection, limit=self._limit):
            if page.is_first:
                listed.clear()
            listed.update(map(_place, page.items))
            # Taken off the page one by one, so that a raw object goes as soon as it is told.
            page.items.reverse()
            while page.items:
                self._put(page.items.pop())
            version = page.version
        for place in sorted(self._known.keys() - listed):
            self._gone(place)
        self._tell(self._sink.complete)
        self._heard_at = self._pace.monotonic()
        self._version = version

    def _watch(self, selection: Selection, version: str) -> None:
        lines = self._open(selection, version)
        if lines is None:
            return
        try:
            for line in lines:
                if self._stopping.is_set() or not self._take(line, selection):
                    return
        finally:
            with self._telling:
                self._lines = None
            lines.close()

    def _open(self, selection: Selection, version: str) -> Lines | None:
        """The watch; None when it must begin with a list."""
        least, most = _WATCH_SECONDS
        seconds = least + (most - least) * self._pace.chance()
        left = STALE_SECONDS - self.staleness_seconds()
        seconds = max(_SHORTEST_WATCH_SECONDS, min(left, seconds))
        # A watch that cannot be opened may have been away for long: only a list tells all.
        self._version = None
        lines = self._feed.changes(selection, version, seconds=seconds)
        if isinstance(lines, Answer):
            if lines.is_expired:
                return None
            raise refusal(lines, f"watch {self._name}")
        self._version = version
        self._recovered()
        with self._telling:
            self._lines = lines
            if self._stopping.is_set():
                lines.close()
        return lines

    def _take(self, line: bytes, selection: Selection) -> bool:
        """The event is told; False when the watch is at its end."""
        event = parsed(line)
        if not isinstance(event, dict) or not isinstance(event.get("object"), dict):
            raise KubernetesError(f"watch {self._name}: an event cannot be read")
        raw = event["object"]
        match event.get("type"):
            case "ADDED" | "MODIFIED":
                # A metadata view has a kind of its own.
                raw["apiVersion"], raw["kind"] = selection.api_version, selection.kind
                self._put(raw)
            case "DELETED":
                self._gone(_place(raw))
            case "BOOKMARK":
                pass
            case _:
                return self._ended_by(raw)
        self._version = raw["metadata"]["resourceVersion"]
        self._heard_at = self._pace.monotonic()
        self._failures = 0
        return True

    def _ended_by(self, status: RawObject) -> bool:
        """The server ends the watch, most often since its start is too old."""
        self._version = None
        if status.get("code") != HTTPStatus.GONE:
            raise KubernetesError(f"watch {self._name}: {status.get('message')}")
        return False

    def _put(self, raw: RawObject) -> None:
        place, version = _place(raw), raw["metadata"].get("resourceVersion", "")
        if self._known.get(place) == version:
            return
        try:
            self._tell(lambda: self._sink.put(raw))
        except Exception as error:  # one object must not keep the others from being told
            code = getattr(error, "code", "E5000")
            self._log.exception(
                "object not taken", kind=self._name, object="/".join(place), error_code=code
            )
        else:
            # Only now: what the sink could not take is told again by the next list.
            self._known[place] = version

    def _gone(self, place: tuple[str, str]) -> None:
        if place in self._known:
            self._tell(lambda: self._sink.gone(*place))
            del self._known[place]

    def _tell(self, say: Callable[[], None]) -> None:
        with self._telling:
            if not self._stopping.is_set():
                say()

    def _report(self, error: AppError) -> None:
        """Logged when it begins and when its reason changes."""
        reason = str(error)
        if self._stopping.is_set() or reason == self._trouble:
            return
        self._trouble = reason
        report = self._log.info if isinstance(error, NotFoundError) else self._log.warning
        report(
            "objects cannot be followed now; they stay as they were",
            kind=self._name,
            reason=reason,
            error_code=error.code,
        )

    def _recovered(self) -> None:
        if self._trouble:
            self._trouble = ""
            self._log.info("objects are followed again", kind=self._name)


def _place(raw: RawObject) -> tuple[str, str]:
    metadata = raw["metadata"]
    return metadata.get("namespace") or "", metadata["name"]
