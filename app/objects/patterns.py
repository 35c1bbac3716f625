"""Users' regular expressions: the only place where they are compiled, with RE2, as in Envoy.

RE2 takes linear time, so no pattern can stall the mesh; a bound on size keeps memory small and
configuration short. Matches are of the whole text, as in data-plane 4.3. Source: RE2's syntax page.
"""

from __future__ import annotations

from functools import lru_cache

import re2

from xds.policy.http import MAX_PATTERN_PROGRAM

MAX_LENGTH = 2048
"""Characters of one pattern."""
_RANGE_BYTES = 10
_FIRST_PATH, _LAST_PATH = b"/", b"/" + b"\xff" * _RANGE_BYTES
"""Every path begins with a slash."""


class PatternError(ValueError):
    """A pattern cannot be used; the text says why and what would do."""


def check_pattern(pattern: str) -> str:
    """Why the pattern cannot be used, as the end of a sentence about it; empty when it can."""
    if not pattern:
        return "is empty: write .* for any text"
    try:
        _compiled(pattern)
    except PatternError as error:
        return str(error)
    return ""


def matches(pattern: str, text: str) -> bool:
    """True when the pattern fits the whole text. Raises :class:`PatternError`."""
    return _compiled(pattern).fullmatch(text.encode(errors="surrogateescape")) is not None


def may_match_path(pattern: str) -> bool:
    """False when no path of a request can fit the pattern. Raises :class:`PatternError`."""
    compiled = _compiled(pattern)
    try:
        first, last = compiled.possiblematchrange(_RANGE_BYTES)
    except re2.error:
        return True  # RE2 sees no bounds: anything may match
    return bool(first <= _LAST_PATH and last >= _FIRST_PATH)


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re2._Regexp:
    """As Envoy compiles it: on bytes, so that ``.`` is one byte of a text in UTF-8."""
    if len(pattern) > MAX_LENGTH:
        raise PatternError(
            f"has {len(pattern)} characters; a pattern may have at most {MAX_LENGTH}: shorten it"
        )
    options = re2.Options()
    options.log_errors = False
    options.encoding = re2.Options.Encoding.LATIN1
    try:
        compiled = re2.compile(pattern.encode(), options)
    except UnicodeEncodeError as error:
        raise PatternError("is not valid text: remove what is not UTF-8") from error
    except re2.error as error:
        reason = error.args[0].decode(errors="replace")
        raise PatternError(f"is not a pattern RE2 can compile: {reason}") from error
    if compiled.programsize > MAX_PATTERN_PROGRAM:
        raise PatternError(
            f"needs {compiled.programsize} RE2 instructions, of which "
            f"{MAX_PATTERN_PROGRAM} are allowed: shorten it, or use smaller counts"
        )
    return compiled
