"""Rules for TrafficTarget, HTTPRouteGroup, TCPRoute and TrafficSplit.

Only a foreign destination is refused, as the original did. The rest is what ``mesh.rules`` would
report once the object is stored, said while its author is still there.
Source: kubernetes-surface 5.2 and 5.7.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from app.mesh.findings import Finding
from app.mesh.routes import read_routes
from app.mesh.rules import access_rules, missing_accounts, splits_in_force
from app.objects import smi
from app.objects.meta import KubeObject
from app.objects.patterns import PatternError, may_match_path
from app.validate.context import Context
from app.validate.verdict import Remark, refuse, warn

MAX_PATTERNS = 200
"""Matches of a group whose patterns are compiled; the API server waits for it."""


def traffic_target(
    new: smi.TrafficTarget, _: smi.TrafficTarget | None, context: Context
) -> Iterator[Remark]:
    """A TrafficTarget grants access to accounts of its own namespace only."""
    own, wanted = new.namespace, new.spec.destination.namespace
    if wanted != own:
        reason = f"must be {own!r}, the namespace of the TrafficTarget, not {wanted!r}: correct it"
        yield refuse("spec.destination.namespace", reason)
    if not context.knows(own):
        return
    named = {ref.name for ref in new.spec.rules}
    groups = [one for one in context.objects.all(smi.HTTPRouteGroup, own) if one.name in named]
    routes = read_routes(groups, context.objects.all(smi.TCPRoute, own))[0]
    yield from _warnings(new, access_rules([new], routes)[1])
    yield from _warnings(new, missing_accounts([new], context.objects.accounts))


def http_route_group(
    new: smi.HTTPRouteGroup, _: smi.HTTPRouteGroup | None, __: Context
) -> Iterator[Remark]:
    """Matches that cannot be used, or fit no request at all."""
    matches = new.spec.matches[:MAX_PATTERNS]
    if len(new.spec.matches) > MAX_PATTERNS:
        yield warn("spec.matches", f"only the first {MAX_PATTERNS} have been checked")
    checked = new.model_copy(update={"spec": smi.HTTPRouteGroupSpec(matches=matches)})
    yield from _warnings(new, read_routes([checked], ())[1])
    names = Counter(match.name for match in matches)
    for index, match in enumerate(matches):
        field = f"spec.matches[{index}]"
        if names[match.name] > 1:
            yield warn(f"{field}.name", f"{match.name!r} is the name of another match: rename one")
        if match.path_regex and not _fits_some_path(match.path_regex):
            reason = f"{match.path_regex!r} matches no path: a path begins with /"
            yield warn(f"{field}.pathRegex", reason)
        for position, headers in enumerate(match.headers):
            if len(headers) > 1:
                reason = f"has {len(headers)} headers, all of which must match: write one each"
                yield warn(f"{field}.headers[{position}]", reason)


def _fits_some_path(pattern: str) -> bool:
    try:
        return may_match_path(pattern)
    except PatternError:
        return True


def tcp_route(new: smi.TCPRoute, _: smi.TCPRoute | None, __: Context) -> Iterator[Remark]:
    """A TCPRoute without ports grants every port."""
    if not new.spec.matches.ports:
        yield warn("spec.matches.ports", "is empty, which admits every port: name those you mean")


def traffic_split(
    new: smi.TrafficSplit, _: smi.TrafficSplit | None, context: Context
) -> Iterator[Remark]:
    """Backends that get no traffic, and a second split of one root."""
    backends = {backend.service for backend in new.spec.backends}
    if backends == {new.spec.service}:
        reason = f"{new.spec.service!r} is the root itself and the only one: no traffic is split"
        yield warn("spec.backends", reason)
    if context.snapshot is None or not context.knows(new.namespace):
        return
    others = context.objects.all(smi.TrafficSplit, new.namespace)
    splits = [new, *(other for other in others if other.name != new.name)]
    routes = read_routes(context.objects.all(smi.HTTPRouteGroup, new.namespace), ())[0]
    services, suffix = context.snapshot.services, context.snapshot.dns_suffix
    yield from _warnings(new, splits_in_force(splits, services, routes, dns_suffix=suffix)[1])
    for index, backend in enumerate(new.spec.backends):
        views = context.views(new.namespace, backend.service)
        if backend.weight and views is not None:
            field = f"spec.backends[{index}].service"
            yield from context.absent_service(field, new.namespace, backend.service)


def _warnings(new: KubeObject, findings: Iterable[Finding]) -> Iterator[Remark]:
    """What was found about this object, as warnings."""
    for finding in findings:
        if (finding.key.namespace, finding.key.name) == (new.namespace, new.name):
            yield warn(finding.field, finding.reason)
