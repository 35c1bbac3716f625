"""Descriptors of requests: what a shared rate-limit service counts by, without what Envoy refuses.

A descriptor with an entry that cannot be used is left out as a whole: without the entry it would
count more than was meant. Specification: data-plane 4.10 and appendix C.
"""

from __future__ import annotations

from collections.abc import Iterable

from app.mesh.policies.problems import MAX_PATTERNS, Problems
from app.mesh.routes import is_header_name
from app.objects import upstream
from app.objects.meta import shown
from app.objects.patterns import check_pattern
from xds.policy.limits import (
    Descriptor,
    Entry,
    GenericKey,
    HeaderCondition,
    HeaderEntry,
    HeaderValueMatch,
    RemoteAddress,
)

_PSEUDO = frozenset({":path", ":method", ":scheme"})
_TEXTS = ("exact", "prefix", "suffix", "contains")


def descriptors_of(
    descriptors: Iterable[upstream.HttpDescriptor], problems: Problems
) -> tuple[Descriptor, ...]:
    """Those that can be used, in the order written."""
    found = []
    for index, one in enumerate(descriptors):
        place = problems.at(f"descriptors[{index}]")
        entries = [
            _entry(entry, place.at(f"entries[{position}]"))
            for position, entry in enumerate(one.entries)
        ]
        usable = tuple(entry for entry in entries if entry is not None)
        if len(usable) == len(entries):
            found.append(usable)
    return tuple(found)


def _entry(entry: upstream.HttpEntry, problems: Problems) -> Entry | None:
    """The entry in neutral words; None, and told, where it cannot be used."""
    if entry.generic_key is not None:
        return GenericKey(key=entry.generic_key.key, value=entry.generic_key.value)
    if entry.request_header is not None:
        name = _header(entry.request_header.name, problems.at("requestHeader"))
        return HeaderEntry(header=name, key=entry.request_header.key) if name else None
    if entry.header_value_match is not None:
        return _value_match(entry.header_value_match, problems.at("headerValueMatch"))
    return RemoteAddress()


def _value_match(wanted: upstream.HeaderValueMatch, problems: Problems) -> HeaderValueMatch | None:
    conditions = [
        _condition(header, problems.at(f"headers[{index}]"))
        for index, header in enumerate(wanted.headers)
    ]
    usable = tuple(one for one in conditions if one is not None)
    if len(usable) < len(conditions):
        return None
    return HeaderValueMatch(
        key=wanted.key, value=wanted.value, expect=wanted.expect_match, headers=usable
    )


def _condition(header: upstream.HeaderCondition, problems: Problems) -> HeaderCondition | None:
    name = _header(header.name, problems)
    if not name:
        return None
    if header.present is not None:
        return HeaderCondition(name=name, how="present", value=str(header.present).lower())
    if header.regex is not None:
        room = problems.has_room_for(header.regex)
        wrong = check_pattern(header.regex) if room else f"is beyond the first {MAX_PATTERNS}"
        if wrong:
            problems.note("regex", wrong)
            return None
        return HeaderCondition(name=name, how="regex", value=header.regex)
    (how,) = [text for text in _TEXTS if getattr(header, text) is not None]
    value: str = getattr(header, how)
    if not value:
        problems.add(how, "is empty: write a text, or use present")
        return None
    return HeaderCondition(name=name, how=how, value=value)


def _header(name: str, problems: Problems) -> str:
    """The name in lower case; empty, and told, where it is none."""
    found = name.lower()
    found = ":authority" if found == "host" else found
    if found in _PSEUDO or is_header_name(found):
        return found
    problems.add("name", f"is not the name of a header: {shown(name)}")
    return ""
