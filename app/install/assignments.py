"""``--set`` texts to a tree of values, in the syntax of Helm that users know.

``a.b=1,c=x`` sets two values; ``{x,y}`` is a list, ``a[0].b=x`` one item of a list; a backslash
takes the next character as it is (``podLabels.example\\.com/team=a\\,b``); ``null`` means the
default. Called by ``app.install.values``. Specification: kubernetes-surface 6.4 and 7.2.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from app.errors import SettingError

_MAX_ITEMS = 1000
_MAX_DIGITS = 18
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None}

Step = str | int
Tree = dict[str, Any]


def parse_assignments(texts: Iterable[str]) -> Tree:
    """One tree of all assignments, the later ones over the earlier.

    Raise ``SettingError`` naming the text that cannot be read.
    """
    tree: Tree = {}
    for text in texts:
        for path, value in _assignments(_Reader(text)):
            _put(tree, path, value, text)
    return tree


@dataclass(slots=True)
class _Reader:
    """A text and how far it is read."""

    text: str
    at: int = 0

    def is_done(self) -> bool:
        return self.at >= len(self.text)

    def next_is(self, character: str) -> bool:
        """True when that character came next; it is read then."""
        found = self.text.startswith(character, self.at)
        self.at += found
        return found

    def until(self, stops: str) -> str:
        """The text before the first of the stops, without its backslashes."""
        read = ""
        while not self.is_done() and self.text[self.at] not in stops:
            self.at += self.text[self.at] == "\\" and self.at + 1 < len(self.text)
            read += self.text[self.at]
            self.at += 1
        return read

    def error(self, reason: str) -> SettingError:
        return SettingError(f"--set {self.text}: {reason}")


def _assignments(reader: _Reader) -> Iterable[tuple[tuple[Step, ...], Any]]:
    while not reader.is_done():
        path = _path(reader)
        yield path, _value(reader)
        if not reader.is_done() and not reader.next_is(","):
            raise reader.error(f"expected a comma at {reader.text[reader.at :]!r}")


def _path(reader: _Reader) -> tuple[Step, ...]:
    steps: list[Step] = []
    is_after_index = False
    while True:
        name = reader.until(".[=,")
        if not name and not is_after_index:
            raise reader.error("a name is missing; write name=value")
        if name:
            steps.append(name)
        is_after_index = False
        while reader.next_is("["):
            steps.append(_index(reader))
            is_after_index = True
        if reader.next_is("="):
            return tuple(steps)
        if not reader.next_is("."):
            raise reader.error(f"{'.'.join(map(str, steps))} has no value; write name=value")


def _index(reader: _Reader) -> int:
    text = reader.until("],=")
    if not reader.next_is("]") or not (text.isascii() and text.isdigit()):
        raise reader.error(f"[{text}]: a position is a number in brackets, such as [0]")
    index = int(text)
    if index >= _MAX_ITEMS:
        raise reader.error(f"position {index} is too far; a list has at most {_MAX_ITEMS} items")
    return index


def _value(reader: _Reader) -> Any:
    if not reader.next_is("{"):
        return _scalar(reader.until(","))
    items: list[Any] = []
    while not reader.next_is("}"):
        if reader.is_done():
            raise reader.error("the list has no closing brace")
        items.append(_scalar(reader.until(",}")))
        reader.next_is(",")
    return items


def _scalar(text: str) -> Any:
    """A switch, a whole number, nothing, or the text itself; ``007`` and ``1.5`` are texts."""
    if text in _WORDS:
        return _WORDS[text]
    digits = text.removeprefix("-")
    is_whole = digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS
    return int(text) if is_whole and (digits == "0" or digits[0] != "0") else text


def _put(tree: Tree, path: tuple[Step, ...], value: Any, text: str) -> None:
    place: Any = tree
    for step, following in zip(path, (*path[1:], None), strict=True):
        if not isinstance(place, list if isinstance(step, int) else dict):
            raise SettingError(f"--set {text}: {step!r} is below a value that has no parts")
        if isinstance(place, list) and isinstance(step, int):
            place.extend([None] * (step + 1 - len(place)))
        if following is None:
            place[step] = value
            return
        if (place.get(step) if isinstance(place, dict) else place[step]) is None:
            place[step] = [] if isinstance(following, int) else {}
        place = place[step]
