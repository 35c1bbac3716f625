"""Users' regular expressions: the only place where they are compiled, with RE2, as in Envoy.

RE2 takes linear time, so no pattern can stall the mesh; a bound on size keeps memory small and
configuration short. Matches are of the whole text, as in data-plane 4.3. Source: RE2's syntax page.
"""

from __future__ import annotations

from functools import lru_cache

import re2

MAX_LENGTH = 2048
"""Characters of one pattern."""
MAX_PROGRAM_SIZE = 4096
"""RE2 instructions; counts such as ``(a{1000}){1000}`` grow far beyond their text."""


class PatternError(ValueError):
    """A pattern cannot be used; the text says why and what would do."""


def check_pattern(pattern: str) -> str:
    """Why the pattern cannot be used, as the end of a sentence about it; empty when it can."""
    try:
        _compiled(pattern)
    except PatternError as error:
        return str(error)
    return ""


def matches(pattern: str, text: str) -> bool:
    """True when the pattern fits the whole text. Raises :class:`PatternError`."""
    return _compiled(pattern).fullmatch(text) is not None


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re2._Regexp:
    if len(pattern) > MAX_LENGTH:
        raise PatternError(
            f"has {len(pattern)} characters; a pattern may have at most {MAX_LENGTH}: shorten it"
        )
    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        raise PatternError(
            f"is not a pattern RE2 can compile ({reason}): {pattern[:80]!r}"
        ) from error
    if compiled.programsize > MAX_PROGRAM_SIZE:
        raise PatternError(
            f"needs {compiled.programsize} RE2 instructions; {MAX_PROGRAM_SIZE} are allowed: "
            "use smaller counts"
        )
    return compiled
