"""Route objects as policies use them: HTTPRouteGroups to matches, TCPRoutes to ports.

TrafficTargets, splits, Egresses and IngressBackends name them; a match that cannot be used is left
out and reported, the rest of its group stays. Specification: data-plane 4.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from app.mesh.findings import Finding, finding_of
from app.objects import smi
from app.objects.meta import shown
from app.objects.patterns import check_pattern
from xds.policy.http import ANY_PATH, HeaderMatch, HttpMatch

_AUTHORITY = ":authority"
_HEADER_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~")

Named = tuple[str, HttpMatch]
"""A match with its name in the group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    """Route objects by namespace and name; a group's matches without those that cannot be used."""

    groups: Mapping[tuple[str, str], tuple[Named, ...]]
    tcp: Mapping[tuple[str, str], tuple[int, ...]]


def read_routes(
    groups: Iterable[smi.HTTPRouteGroup], tcp: Iterable[smi.TCPRoute]
) -> tuple[Routes, tuple[Finding, ...]]:
    """The matches of all groups and the ports of all TCPRoutes, and what is wrong with them."""
    findings: list[Finding] = []
    read: dict[tuple[str, str], tuple[Named, ...]] = {}
    for group in groups:
        read[group.namespace, group.name] = tuple(_matches(group, findings))
    ports = {(route.namespace, route.name): route.spec.matches.ports for route in tcp}
    return Routes(groups=read, tcp=ports), tuple(findings)


def _matches(group: smi.HTTPRouteGroup, findings: list[Finding]) -> Iterable[Named]:
    if not group.spec.matches:
        reason = "has no matches, so it grants nothing: add one"
        findings.append(finding_of(group, "spec.matches", reason, "E2006"))
    for index, match in enumerate(group.spec.matches):
        field = f"spec.matches[{index}]"
        wrong = _wrong_match(match)
        if wrong:
            findings.append(finding_of(group, field + wrong[0], wrong[1], "E3002"))
            continue
        everything = "*" in match.methods
        yield (
            match.name,
            HttpMatch(
                path=match.path_regex or ANY_PATH,
                methods=() if everything else tuple(sorted(set(match.methods) - {""})),
                headers=_headers(match),
            ),
        )


def _wrong_match(match: smi.RouteMatch) -> tuple[str, str] | None:
    """The field of a match that cannot be used, and why."""
    reason = check_pattern(match.path_regex or ANY_PATH)
    if reason:
        return ".pathRegex", reason
    if match.methods and not any(match.methods):
        return ".methods", "names no method: write * for any"
    for index, headers in enumerate(match.headers):
        for name, pattern in headers.items():
            field = f".headers[{index}].{name}"
            if not is_header_name(name.lower()):
                return field, f"is not the name of a header: {shown(name)}"
            reason = check_pattern(pattern)
            if reason:
                return field, reason
    return None


def is_header_name(name: str) -> bool:
    """True for what may stand before the colon of a header, in lower case."""
    return name == _AUTHORITY or (name != "" and _HEADER_CHARACTERS.issuperset(name))


def _headers(match: smi.RouteMatch) -> tuple[HeaderMatch, ...]:
    found = {
        HeaderMatch(name=_AUTHORITY if name.lower() == "host" else name.lower(), pattern=pattern)
        for headers in match.headers
        for name, pattern in headers.items()
    }
    return tuple(sorted(found))


NO_ROUTES = Routes(groups={}, tcp={})
