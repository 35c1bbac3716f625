"""HTTP matches and the requests they match, in one vocabulary for policy and builders.

Specification: data-plane 4.3. Paths and header values are RE2 patterns that match in full.
"""

from __future__ import annotations

from dataclasses import dataclass

ANY_PATH = ".*"
MAX_PATTERN_PROGRAM = 1000
"""RE2 instructions one pattern may need; the bootstrap raises Envoy's own limit of 100 to this."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class HeaderMatch:
    """A header whose whole value must fit an RE2 pattern; the name is lower case."""

    name: str
    pattern: str


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class HttpMatch:
    """Which requests a rule speaks of: all conditions must hold."""

    path: str = ANY_PATH
    """RE2 pattern of the whole path without its query string."""
    methods: tuple[str, ...] = ()
    """Sorted; empty means any method."""
    headers: tuple[HeaderMatch, ...] = ()
    """Sorted by name."""


ANY_REQUEST = HttpMatch()


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSeen:
    """One real request: path without query string, headers with lower-case names."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
