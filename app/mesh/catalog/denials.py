"""What a destination refuses on one of its ports, from the snapshot's ``policies.denials``.

``inbound`` puts it beside what is granted. Deny beats allow: each of the two is decided alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from app.mesh.catalog.access import canonical_order
from app.mesh.policies.part import Denial
from xds.policy.http import ANY_REQUEST, HttpMatch
from xds.policy.identity import Issuers, ServiceIdentity, SubjectName
from xds.policy.traffic import InboundRule, TcpPermission


def denied_requests(
    denials: Iterable[Denial], issuers: Issuers, port: int
) -> tuple[InboundRule, ...]:
    """Requests to the target port that are refused, in canonical order; matches are distinct."""
    callers: dict[HttpMatch, set[ServiceIdentity] | None] = {}
    for denial in denials:
        for match in (ANY_REQUEST,) if denial.covers(port) else denial.matches:
            known = callers.setdefault(match, set())
            everybody = known is None or denial.sources is None
            callers[match] = None if everybody else {*(known or ()), *(denial.sources or ())}
    return tuple(
        InboundRule(match=match, principals=_names(callers[match], issuers))
        for match in sorted(callers, key=canonical_order)
    )


def denied_names(
    denials: Iterable[Denial], issuers: Issuers, port: int
) -> tuple[SubjectName, ...] | None:
    """Who may not connect to the target port, sorted; None: nobody may."""
    found: set[ServiceIdentity] = set()
    for denial in denials:
        if denial.covers(port):
            if denial.sources is None:
                return None
            found.update(denial.sources)
    return tuple(sorted(issuers.subject_names(found)))


def without_denied(
    permissions: Iterable[TcpPermission], denied: tuple[SubjectName, ...]
) -> tuple[TcpPermission, ...]:
    """The permissions without who is denied anyway, so that the handshake refuses them as well."""
    narrowed = (
        replace(one, principals=tuple(name for name in one.principals if name not in denied))
        for one in permissions
    )
    return tuple(one for one in narrowed if one.principals)


def _names(
    callers: set[ServiceIdentity] | None, issuers: Issuers
) -> tuple[SubjectName, ...] | None:
    return None if callers is None else issuers.subject_names(callers)
