"""Rules for UpstreamTrafficSetting. Source: kubernetes-surface 5.5; data-plane 4.9."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from app.mesh.policies.calls import wrong_calls
from app.objects.meta import shown
from app.objects.patterns import check_pattern
from app.objects.smi import HTTPRouteGroup
from app.objects.upstream import HttpDescriptor, HttpLocalLimit, UpstreamTrafficSetting
from app.validate.conflicts import claims_of
from app.validate.context import Context
from app.validate.verdict import Remark, refuse, warn
from xds.policy.http import ANY_PATH

_KNOWN_STATUS = frozenset(
    {0, *range(400, 418), 421, 422, 423, 424, 426, 428, 429, 431, *range(500, 509), 510, 511}
)
"""Codes Envoy has a name for, and 0 for the default."""
MAX_PATTERNS = 200
"""Patterns of an object that are compiled; the API server waits for it."""


def upstream_traffic_setting(
    new: UpstreamTrafficSetting, _: UpstreamTrafficSetting | None, context: Context
) -> Iterator[Remark]:
    """One setting per host, and only status codes that Envoy takes."""
    host = new.spec.host
    if "." not in host:
        reason = (
            f"must be a fully qualified name such as {_example(new)}, not {shown(host)}: "
            "write it in full"
        )
        yield refuse("spec.host", reason)
    for other in context.objects.all(UpstreamTrafficSetting, new.namespace):
        if other.name != new.name and claims_of(new, "") & claims_of(other, ""):
            reason = (
                f"{host!r} is the host of UpstreamTrafficSetting {other.namespace}/{other.name} "
                f"already, so {new.namespace}/{new.name} conflicts with it: keep one"
            )
            yield refuse("spec.host", reason)
    yield from _wrong_status(new)
    yield from _unknown_host(new, context)
    yield from _calls(new, context)
    yield from _routes(new, context)


def _example(new: UpstreamTrafficSetting) -> str:
    name = new.spec.host or "web"
    return f"{name}.{new.namespace}.svc.cluster.local"


def _wrong_status(new: UpstreamTrafficSetting) -> Iterator[Remark]:
    for field, status in _status_codes(new):
        if status not in _KNOWN_STATUS:
            reason = f"{status} is not a status code that Envoy can answer: write one such as 429"
            yield refuse(f"{field}.responseStatusCode", reason)


def _status_codes(new: UpstreamTrafficSetting) -> Iterator[tuple[str, int]]:
    limit = new.spec.rate_limit
    if limit is not None and limit.local is not None and limit.local.http is not None:
        yield "spec.rateLimit.local.http", limit.local.http.response_status_code
    if limit is not None and limit.global_ is not None and limit.global_.http is not None:
        yield "spec.rateLimit.global.http", limit.global_.http.response_status_code
    for field, local in _route_limits(new):
        yield field, local.response_status_code


def _route_limits(new: UpstreamTrafficSetting) -> Iterator[tuple[str, HttpLocalLimit]]:
    for index, route in enumerate(new.spec.http_routes):
        if route.rate_limit is not None and route.rate_limit.local is not None:
            yield f"spec.httpRoutes[{index}].rateLimit.local", route.rate_limit.local


def _unknown_host(new: UpstreamTrafficSetting, context: Context) -> Iterator[Remark]:
    """A host of the mesh is one of the object's own namespace; others may be those of an Egress."""
    name, _, zone = new.spec.host.lower().partition(".")
    namespace, _, rest = zone.partition(".")
    if rest.partition(".")[0] != "svc":
        return
    if namespace != new.namespace:
        reason = f"is in namespace {namespace!r}, but counts there only if the object is there too"
        yield warn("spec.host", f"{reason}: move it")
        return
    yield from context.absent_service("spec.host", namespace, name)


def _calls(new: UpstreamTrafficSetting, context: Context) -> Iterator[Remark]:
    """What clients cannot keep."""
    for field, reason in wrong_calls(new.spec):
        yield warn(field, reason)
    mirror = new.spec.mirror
    if mirror is not None:
        yield from context.absent_service("spec.mirror.service", new.namespace, mirror.service)


def _routes(new: UpstreamTrafficSetting, context: Context) -> Iterator[Remark]:
    """A route's setting is found by the text of a path pattern of the namespace."""
    for field, pattern in islice(_patterns(new), MAX_PATTERNS):
        wrong = check_pattern(pattern)
        if wrong:
            yield warn(field, wrong)
    if not context.knows(new.namespace):
        return
    groups = context.objects.all(HTTPRouteGroup, new.namespace)
    paths = {match.path_regex or ANY_PATH for group in groups for match in group.spec.matches}
    paths.add(ANY_PATH)  # the one route of permissive mode
    for index, route in enumerate(new.spec.http_routes):
        if route.path not in paths:
            reason = f"{shown(route.path)} is the pathRegex of no HTTPRouteGroup here: repeat one"
            yield warn(f"spec.httpRoutes[{index}].path", reason)


def _patterns(new: UpstreamTrafficSetting) -> Iterator[tuple[str, str]]:
    limits = new.spec.rate_limit.global_ if new.spec.rate_limit else None
    if limits is not None and limits.http is not None:
        yield from _header_patterns("spec.rateLimit.global.http", limits.http.descriptors)
    for index, route in enumerate(new.spec.http_routes):
        field = f"spec.httpRoutes[{index}]"
        yield f"{field}.path", route.path
        limit = route.rate_limit.global_ if route.rate_limit else None
        yield from _header_patterns(f"{field}.rateLimit.global", limit.descriptors if limit else ())


def _header_patterns(
    field: str, descriptors: tuple[HttpDescriptor, ...]
) -> Iterator[tuple[str, str]]:
    for index, descriptor in enumerate(descriptors):
        for position, entry in enumerate(descriptor.entries):
            place = f"{field}.descriptors[{index}].entries[{position}].headerValueMatch"
            headers = entry.header_value_match.headers if entry.header_value_match else ()
            for number, header in enumerate(headers):
                if header.regex is not None:
                    yield f"{place}.headers[{number}].regex", header.regex
