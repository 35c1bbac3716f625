"""Rules for UpstreamTrafficSetting. Source: kubernetes-surface 5.5; data-plane 4.9."""

from __future__ import annotations

from collections.abc import Iterator

from app.mesh.policies.calls import wrong_calls
from app.mesh.policies.limits import wrong_limits
from app.objects.meta import shown
from app.objects.patterns import check_pattern
from app.objects.smi import HTTPRouteGroup
from app.objects.upstream import UpstreamTrafficSetting
from app.validate.conflicts import claims_of
from app.validate.context import Context
from app.validate.verdict import Remark, refuse, warn
from xds.policy.http import ANY_PATH

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
    yield from _limits(new)
    yield from _unknown_host(new, context)
    yield from _calls(new, context)
    yield from _routes(new, context)


def _example(new: UpstreamTrafficSetting) -> str:
    name = new.spec.host or "web"
    return f"{name}.{new.namespace}.svc.cluster.local"


def _limits(new: UpstreamTrafficSetting) -> Iterator[Remark]:
    """What servers cannot keep."""
    for problem in wrong_limits(new.spec):
        remark = refuse if problem.is_wrong else warn
        yield remark(problem.field, problem.reason)


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
    for index, route in enumerate(new.spec.http_routes[:MAX_PATTERNS]):
        wrong = check_pattern(route.path)
        if wrong:
            yield warn(f"spec.httpRoutes[{index}].path", wrong)
    if not context.knows(new.namespace):
        return
    groups = context.objects.all(HTTPRouteGroup, new.namespace)
    paths = {match.path_regex or ANY_PATH for group in groups for match in group.spec.matches}
    paths.add(ANY_PATH)  # the one route of permissive mode
    for index, route in enumerate(new.spec.http_routes):
        if route.path not in paths:
            reason = f"{shown(route.path)} is the pathRegex of no HTTPRouteGroup here: repeat one"
            yield warn(f"spec.httpRoutes[{index}].path", reason)
