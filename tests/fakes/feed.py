"""Lists and watches by script: what a reflector is given, turn by turn."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from app.compute.kube_answers import Answer
from app.compute.kube_reflect import PAGE, Page, Selection
from app.objects.meta import RawObject


def page(version: str, *items: RawObject, first: bool = True) -> Page:
    return Page(items=list(items), version=version, is_first=first)


def event(kind: str, raw: RawObject) -> bytes:
    return json.dumps({"type": kind, "object": raw}).encode()


class ScriptedLines:
    """Implements ``Lines``: lines, then the error if there is one."""

    def __init__(self, *lines: bytes, error: Exception | None = None) -> None:
        self._lines = lines
        self._error = error
        self.is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield from self._lines
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self.is_closed = True


class ScriptedFeed:
    """Implements ``Feed``; ``asked`` has ("list",) and ("watch", version, seconds) in order."""

    def __init__(self) -> None:
        self.lists: list[list[Page | Exception] | Exception] = []
        self.watches: list[ScriptedLines | Answer | Exception] = []
        self.asked: list[tuple[Any, ...]] = []

    def pages(self, selection: Selection, *, limit: int = PAGE) -> Iterator[Page]:
        del selection, limit
        self.asked.append(("list",))
        step = self.lists.pop(0)
        if isinstance(step, Exception):
            raise step
        for entry in step:
            if isinstance(entry, Exception):
                raise entry
            yield entry

    def changes(
        self, selection: Selection, version: str, *, seconds: float
    ) -> ScriptedLines | Answer:
        del selection
        self.asked.append(("watch", version, seconds))
        step = self.watches.pop(0)
        if isinstance(step, Exception):
            raise step
        return step


class RecordingSink:
    """Implements ``Sink``: what it was told, in order; ``broken`` names objects it cannot take."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.broken: set[str] = set()

    def put(self, raw: RawObject) -> None:
        name = raw["metadata"]["name"]
        if name in self.broken:
            raise ValueError(name)
        self.told.append(f"{name}@{raw['metadata']['resourceVersion']}")

    def gone(self, namespace: str, name: str) -> None:
        del namespace
        self.told.append(f"-{name}")

    def complete(self) -> None:
        self.told.append("complete")

    def take(self) -> list[str]:
        told, self.told = self.told, []
        return told
