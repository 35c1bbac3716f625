"""Who may call whom, and with which requests: TrafficTargets turned into rules, or permissive mode.

Comes in: the snapshot's ``rules`` and ``issuers``. Goes out: what ``outbound`` and ``inbound`` put
into a policy. Specification: data-plane 4.1, 4.2 and 4.4; the order of rules is 5.13. Rules only
ever add: what no rule grants is denied.
"""

from __future__ import annotations

from collections.abc import Iterable

from app.mesh.snapshot import AccessRule, Rules
from xds.policy.http import ANY_PATH, ANY_REQUEST, HttpMatch
from xds.policy.identity import Issuers, ServiceIdentity
from xds.policy.traffic import InboundRule, TcpPermission

Reach = frozenset[ServiceIdentity] | None
"""Identities whose services a client may call; None: all of the mesh (permissive mode)."""

ANYBODY: tuple[InboundRule, ...] = (InboundRule(match=ANY_REQUEST, principals=None),)
"""The rules of permissive mode: every request of every mesh identity."""

_META = frozenset(".*+?()[]{}|^$")
_QUANTIFIERS = frozenset("*?{")


def reach_of(rules: Rules, caller: ServiceIdentity) -> frozenset[ServiceIdentity]:
    """The accounts that rules let the caller call; may be empty."""
    return frozenset(rule.destination for rule in rules.by_source.get(caller, ()))


def http_rules(
    rules: Rules, issuers: Issuers, destination: ServiceIdentity, port: int
) -> tuple[InboundRule, ...]:
    """Requests that the destination accepts on a target port, in canonical order.

    Matches are distinct; each has the callers of every rule that names it. Empty: nobody may send.
    """
    callers: dict[HttpMatch, set[ServiceIdentity]] = {}
    for rule in _granting(rules, destination):
        if rule.admits_http(port):
            for match in rule.matches:
                callers.setdefault(match, set()).update(rule.sources)
    return tuple(
        InboundRule(match=match, principals=issuers.subject_names(callers[match]))
        for match in sorted(callers, key=canonical_order)
    )


def tcp_permissions(
    rules: Rules, issuers: Issuers, destination: ServiceIdentity, port: int
) -> tuple[TcpPermission, ...]:
    """Rules that admit connections to the target port, sorted by name; empty: nobody may."""
    return tuple(
        TcpPermission(name=rule.name, principals=issuers.subject_names(rule.sources))
        for rule in sorted(_granting(rules, destination), key=lambda rule: rule.name)
        if rule.admits_tcp(port)
    )


def canonical_order(match: HttpMatch) -> tuple[object, ...]:
    """Sort key of matches: exact paths, then longer literal prefixes, any path last (5.13)."""
    prefix, exact = _literal_prefix(match.path)
    return (
        match.path == ANY_PATH,
        not exact,
        -len(prefix),
        match.path,
        -len(match.headers),
        match.headers,
        match.methods,
    )


def _granting(rules: Rules, destination: ServiceIdentity) -> Iterable[AccessRule]:
    """Rules for the destination that have sources: one without would otherwise grant to anybody."""
    return (rule for rule in rules.by_destination.get(destination, ()) if rule.sources)


def _literal_prefix(pattern: str) -> tuple[str, bool]:
    """What every text that fits the pattern begins with, and whether that is the whole of it.

    It only orders routes that all lead to one cluster, so a prefix that is cut short harms nothing.
    """
    if "|" in pattern:
        return "", False
    literal: list[str] = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        if character == "\\" and _escapes_itself(pattern, position):
            position += 1
            character = pattern[position]
        elif character in _QUANTIFIERS:
            return "".join(literal[:-1]), False
        elif character in _META or character == "\\":
            return "".join(literal), False
        literal.append(character)
        position += 1
    return "".join(literal), True


def _escapes_itself(pattern: str, position: int) -> bool:
    """True where a backslash stands before punctuation, which then means itself."""
    following = pattern[position + 1 : position + 2]
    return bool(following) and not following.isalnum()
