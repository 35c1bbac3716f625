"""UpstreamTrafficSettings to the one that counts for each Service of the mesh.

A setting counts for a Service of its own namespace that its host names in any form; the oldest one
wins, then the first by name. Clients read connections, timeouts and balancing of it, servers its
limits. An Egress finds a setting by reference, so a host of no Service is nothing wrong.
Specification: data-plane 4.9.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from app.mesh.findings import Finding, finding_of
from app.mesh.hosts import own_service
from app.mesh.policies.calls import wrong_calls
from app.mesh.policies.limits import wrong_limits
from app.mesh.policies.source import PolicySource
from app.mesh.ties import seniority
from app.objects.upstream import UpstreamTrafficSetting, UpstreamTrafficSettingSpec

Upstreams = Mapping[str, UpstreamTrafficSettingSpec]
"""By ``<namespace>/<name>`` of the Service; sorted."""


def upstreams_in_force(source: PolicySource) -> tuple[Upstreams, tuple[Finding, ...]]:
    """The setting of every Service that has one, and those that are not in force."""
    claims: dict[str, list[UpstreamTrafficSetting]] = {}
    findings: list[Finding] = []
    for namespace in sorted(source.monitored):
        for setting in source.objects.all(UpstreamTrafficSetting, namespace):
            service = own_service(setting.spec.host, namespace, source.dns_suffix)
            if service and f"{namespace}/{service}" in source.services.by_parent:
                claims.setdefault(f"{namespace}/{service}", []).append(setting)
            else:
                findings += _foreign(setting, source)
    chosen = {}
    for service in sorted(claims):
        winner, *losers = sorted(claims[service], key=seniority)
        chosen[service] = winner.spec
        findings += _wrong(winner, service, source)
        findings += [_second(loser, service, winner) for loser in losers]
    return chosen, tuple(findings)


def _wrong(
    setting: UpstreamTrafficSetting, service: str, source: PolicySource
) -> Iterator[Finding]:
    """What of the setting neither clients nor servers can keep."""
    for field, reason in wrong_calls(setting.spec):
        yield finding_of(setting, field, reason, "E3002")
    for problem in wrong_limits(setting.spec):
        yield finding_of(setting, problem.field, problem.reason, "E3002")
    mirror = setting.spec.mirror
    if mirror is None:
        return
    copy = f"{setting.namespace}/{mirror.service}"
    of_host, of_copy = _ports(source, service), _ports(source, copy)
    if copy == service:
        reason = "is the host itself, so nothing is copied: name another Service"
        yield finding_of(setting, "spec.mirror.service", reason, "E3002")
    elif copy not in source.services.by_parent:
        reason = f"{mirror.service!r} is not a Service of the mesh in this namespace: create it"
        yield finding_of(setting, "spec.mirror.service", reason, "E3003")
    elif not of_host & of_copy:
        reason = f"{mirror.service!r} has none of the host's ports, so it gets no copies"
        yield finding_of(setting, "spec.mirror.service", reason, "E3003")


def _ports(source: PolicySource, service: str) -> set[object]:
    """Numbers and names of the Service's ports."""
    views = source.services.by_parent.get(service, ())
    return {port for view in views for port in (view.service.port, view.port_name) if port}


def _foreign(setting: UpstreamTrafficSetting, source: PolicySource) -> Iterator[Finding]:
    """A finding where the host is a Service of another namespace."""
    name, _, rest = setting.spec.host.lower().partition(".")
    namespace = rest.partition(".")[0]
    if namespace == setting.namespace or f"{namespace}/{name}" not in source.services.by_parent:
        return
    if own_service(setting.spec.host, namespace, source.dns_suffix) == name:
        reason = (
            f"is a Service of namespace {namespace!r}, where this object does not count: "
            "move it there"
        )
        yield finding_of(setting, "spec.host", reason, "E3003")


def _second(
    setting: UpstreamTrafficSetting, service: str, winner: UpstreamTrafficSetting
) -> Finding:
    reason = (
        f"Service {service} has UpstreamTrafficSetting {winner.namespace}/{winner.name} already, "
        "which is older or comes first by name: delete one"
    )
    return finding_of(setting, "spec.host", reason, "E2013")
