"""Paths as a sidecar resolves them before it compares them with rules (data-plane 4.3).

Comes in: the path of a request, without its query. Goes out: the path that Envoy 1.40 sees with
``normalize_path``, ``merge_slashes`` and ``UNESCAPE_AND_FORWARD``, or None where it answers 400.
``authorize`` needs it to decide as Envoy does; a law test compares the two on random paths.
Source: RFC 3986 section 6 and the canonicalizer of Chromium's URL library, which Envoy uses.
"""

from __future__ import annotations

import string

_HEX = frozenset(string.hexdigits)
_UNRESERVED = frozenset(string.ascii_letters + string.digits + "-._~")
_ESCAPED = frozenset('"<>^`{|}')
"""Characters that Envoy percent-encodes where they stand literally."""
_ESCAPED_SLASHES = (("%2F", "/"), ("%2f", "/"), ("%5C", "\\"), ("%5c", "\\"))


def normalized(path: str) -> str | None:
    """The path with dots, slashes and needless escapes resolved; None: it cannot be."""
    for escaped, slash in _ESCAPED_SLASHES:
        path = path.replace(escaped, slash)
    canonical = _Canonicalizer("/".join(map(_without_parameters, path.split("/")))).run()
    return None if canonical is None else _merged(canonical)


def _without_parameters(segment: str) -> str:
    """``..`` for ``..;x=y``, ``.`` for ``.;x``: servers that know parameters resolve them."""
    name, semicolon, _ = segment.partition(";")
    return name if semicolon and name in (".", "..") else segment


def _merged(path: str) -> str:
    """The path without empty segments; one of slashes alone keeps two of them, as in Envoy."""
    if "//" not in path:
        return path
    middle = "/".join(segment for segment in path.split("/") if segment)
    return f"/{middle}{'/' if path.endswith('/') else ''}"


class _Canonicalizer:
    """One pass over a path from left to right; dots are resolved against what is already out."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._at = 0
        self._out: list[str] = []
        self._stray_percent = -1
        """Where in ``_out`` the last percent sign that begins no escape stands."""

    def run(self) -> str | None:
        """The canonical path; None where an escape means a zero byte."""
        while self._at < len(self._path):
            character = self._path[self._at]
            if width := self._dot(self._at):
                self._take_dot(width)
            elif character == "%":
                if not self._take_percent():
                    return None
            else:
                self._out += _literal(character)
                self._at += 1
        return "".join(self._out)

    def _dot(self, place: int) -> int:
        """The width of the dot that stands there, plain or escaped; 0: none."""
        if self._path[place : place + 1] == ".":
            return 1
        return 3 if self._path[place : place + 3].lower() == "%2e" else 0

    def _take_dot(self, width: int) -> None:
        if self._out[-1:] != ["/"]:
            self._out.append(".")
            self._at += width
            return
        after = self._at + width
        second = self._dot(after)
        if self._ends(after):
            self._at = after + 1
        elif second and self._ends(after + second):
            self._at = after + second + 1
            self._drop_segment()
        else:
            self._out.append(".")
            self._at = after

    def _ends(self, place: int) -> bool:
        """True where a segment ends: at a slash of either kind, or with the path."""
        return self._path[place : place + 1] in ("", "/", "\\")

    def _drop_segment(self) -> None:
        if len(self._out) > 1:
            self._out.pop()
            while self._out[-1] != "/":
                self._out.pop()
            if self._stray_percent >= len(self._out):
                self._stray_percent = -1

    def _take_percent(self) -> bool:
        """Decode an escape of a character that needs none; False for one of a zero byte."""
        code = self._path[self._at + 1 : self._at + 3]
        if len(code) < 2 or not _HEX.issuperset(code):  # noqa: PLR2004
            self._stray_percent = len(self._out)
            self._out.append("%")
            self._at += 1
            return True
        self._at += 3
        character = chr(int(code, 16))
        if character in _UNRESERVED:
            self._out.append(character)
            self._part_nested_escape()
        else:
            self._out += ("%", *code)
        return character != "\0"

    def _part_nested_escape(self) -> None:
        """Write ``%25`` for a stray percent sign that what was decoded makes an escape."""
        distance = len(self._out) - 1 - self._stray_percent
        if self._stray_percent < 0 or distance not in (1, 2):
            return
        following = "".join(self._out[self._stray_percent + 1 :])
        if distance == 1:
            following += self._path[self._at : self._at + 1]
        if len(following) == 2 and _HEX.issuperset(following):  # noqa: PLR2004
            self._out[self._stray_percent + 1 : self._stray_percent + 1] = ["2", "5"]


def _literal(character: str) -> str:
    if character == "\\":
        return "/"
    return f"%{ord(character):02X}" if character in _ESCAPED else character
