"""The JSON patch (RFC 6902) that leads from one object to another; pure.

It adds, removes and replaces, nothing else: what injection does to a Pod. Items are appended to
lists and edited in place, so lists are compared by position. Called by ``controller.injector``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from app.objects.meta import RawObject

JsonPatch = list[dict[str, Any]]


def diff(before: RawObject, after: RawObject) -> JsonPatch:
    """The patch that turns one object into the other; empty when they are equal."""
    return list(_compare(before, after, ""))


def _compare(before: Any, after: Any, path: str) -> Iterator[dict[str, Any]]:
    match before, after:
        case dict(), dict():
            yield from _fields(before, after, path)
        case list(), list():
            yield from _items(before, after, path)
        case _ if type(before) is not type(after) or before != after:
            yield {"op": "replace", "path": path, "value": after}


def _fields(before: RawObject, after: RawObject, path: str) -> Iterator[dict[str, Any]]:
    for name in sorted(before.keys() | after.keys()):
        place = f"{path}/{name.replace('~', '~0').replace('/', '~1')}"
        if name not in after:
            yield {"op": "remove", "path": place}
        elif name not in before:
            yield {"op": "add", "path": place, "value": after[name]}
        else:
            yield from _compare(before[name], after[name], place)


def _items(before: list[Any], after: list[Any], path: str) -> Iterator[dict[str, Any]]:
    for index, (old, new) in enumerate(zip(before, after, strict=False)):
        yield from _compare(old, new, f"{path}/{index}")
    for index in range(len(before) - 1, len(after) - 1, -1):
        yield {"op": "remove", "path": f"{path}/{index}"}
    for item in after[len(before) :]:
        yield {"op": "add", "path": f"{path}/-", "value": item}
