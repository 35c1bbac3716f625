"""Rules for Egress, IngressBackend, Retry, Telemetry and ExtensionService.

What would let in or out whom nobody meant is refused; what would merely do nothing is a warning.
Source: kubernetes-surface 5.3, 5.4 and 5.7; the rows of their tables in the same order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from ipaddress import IPv4Network

from app.objects.meta import ObjectKind, is_domain, shown
from app.objects.policy import (
    Egress,
    ExtensionService,
    IngressBackend,
    IngressSource,
    IngressTarget,
    NamedSubject,
    PolicyRef,
    Retry,
    Telemetry,
)
from app.objects.smi import HTTPRouteGroup
from app.objects.upstream import UpstreamTrafficSetting
from app.validate.conflicts import MAX_SHARED, claims_of
from app.validate.context import Context, no_account
from app.validate.verdict import Remark, refuse, warn

_ROUTES = "specs.smi-spec.io"
_POLICY = "policy.openservicemesh.io"
_GROUPS = {
    _ROUTES: (f"{_ROUTES}/v1alpha4", ObjectKind.HTTP_ROUTE_GROUP),
    _POLICY: (f"{_POLICY}/v1alpha1", ObjectKind.UPSTREAM_TRAFFIC_SETTING),
}
"""Groups a match may name: as the original writes them, and the one kind of each."""
_EGRESS_PROTOCOLS = frozenset({"http", "https", "tcp", "tcp-server-first"})
_NAMED_ONLY = frozenset({"http", "https"})
_SOURCE_KINDS = ("Service", "AuthenticatedPrincipal", "IPRange")

_RETRY_ON = frozenset((
    "5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "refused-stream",
    "envoy-ratelimited", "retriable-4xx", "retriable-status-codes", "retriable-headers",
    "http3-post-connect-failure", "cancelled", "deadline-exceeded", "internal",
    "resource-exhausted", "unavailable",
))  # fmt: skip
"""Conditions of Envoy's router, those of gRPC last."""


# Egress


def egress(new: Egress, _: Egress | None, context: Context) -> Iterator[Remark]:
    """Matches of a wrong kind are refused: they would open more than was meant."""
    settings = 0
    for index, match in enumerate(new.spec.matches):
        field = f"spec.matches[{index}]"
        yield from _wrong_match(field, match)
        settings += match.group == _POLICY
        yield from _absent_match(field, match, new.namespace, context)
    if settings > 1:
        kind = ObjectKind.UPSTREAM_TRAFFIC_SETTING
        yield refuse("spec.matches", f"names {settings} of kind {kind}: keep one")
    for index, source in enumerate(new.spec.sources):
        yield from _leaving(f"spec.sources[{index}]", source, new.namespace, context)
    yield from _destinations(new)
    if context.snapshot is not None and context.snapshot.config.traffic.enable_egress:
        reason = "has no effect while traffic.enableEgress of the MeshConfig is true"
        yield warn("spec", f"{reason}: all destinations are open")


def _wrong_match(field: str, match: PolicyRef) -> Iterator[Remark]:
    allowed = [written for written, _ in _GROUPS.values()]
    if match.api_group not in (*_GROUPS, *allowed):
        reason = f"must be {' or '.join(allowed)}, not {shown(match.api_group)}"
        yield refuse(f"{field}.apiGroup", f"{reason}: correct it")
        return
    kind = _GROUPS[match.group][1]
    if match.kind != kind:
        reason = f"of match {match.name!r} must be {kind}, not {shown(match.kind)}: correct it"
        yield refuse(f"{field}.kind", reason)


def _absent_match(
    field: str, match: PolicyRef, namespace: str, context: Context
) -> Iterator[Remark]:
    known = _GROUPS.get(match.group)
    if known is None or match.kind != known[1] or not context.knows(namespace):
        return
    model = HTTPRouteGroup if match.group == _ROUTES else UpstreamTrafficSetting
    if context.objects.get(model, namespace, match.name) is None:
        reason = f"there is no {match.kind} {match.name!r} in this namespace: create it"
        yield warn(f"{field}.name", reason)


def _leaving(
    field: str, source: NamedSubject, namespace: str, context: Context
) -> Iterator[Remark]:
    yield from no_account(field, source.kind)
    yield from context.absent_account(f"{field}.name", source.namespace, source.name)
    snapshot = context.snapshot
    opened = snapshot is not None and snapshot.config.traffic.enable_cross_namespace_egress
    if source.namespace != namespace and not opened:
        reason = (
            f"{source.namespace!r} is not the namespace of the Egress: this source is ignored "
            "unless traffic.enableCrossNamespaceEgress of the MeshConfig is true"
        )
        yield warn(f"{field}.namespace", reason)


def _destinations(new: Egress) -> Iterator[Remark]:
    for index, port in enumerate(new.spec.ports):
        protocol = port.protocol.lower()
        if protocol not in _EGRESS_PROTOCOLS:
            known = ", ".join(sorted(_EGRESS_PROTOCOLS))
            reason = f"must be one of {known}, not {shown(port.protocol)}: this port is ignored"
            yield warn(f"spec.ports[{index}].protocol", reason)
        elif new.spec.hosts and not new.spec.ip_addresses and protocol not in _NAMED_ONLY:
            reason = f"{protocol} has no host names, so all destinations are open: name ipAddresses"
            yield warn(f"spec.ports[{index}].protocol", reason)
        elif protocol == "http" and _ANY_HOST not in new.spec.hosts and _both(new):
            reason = "http goes by hosts alone: ipAddresses do not narrow this port"
            yield warn(f"spec.ports[{index}].protocol", reason)
    ports = [(port.number, port.protocol.lower()) for port in new.spec.ports]
    yield from _twice("spec.ports", [f"{number} {protocol}" for number, protocol in ports])
    yield from _hosts(new)
    for index, written in enumerate(new.spec.ip_addresses):
        if not _is_network(written):
            reason = f"{_NO_NETWORK}, not {shown(written)}: it is ignored"
            yield warn(f"spec.ipAddresses[{index}]", reason)


def _both(new: Egress) -> bool:
    return bool(new.spec.hosts and new.spec.ip_addresses)


def _hosts(new: Egress) -> Iterator[Remark]:
    hosts = [written.lower() for written in new.spec.hosts]
    for index, host in enumerate(hosts):
        if host == _ANY_HOST:
            reason = "is any host: http and https ports are open to all, whatever else is named"
            yield warn(f"spec.hosts[{index}]", reason)
        elif not is_domain(host.removeprefix("*.")):
            reason = f"must be a host such as api.example.com or *.example.com, not {shown(host)}"
            yield warn(f"spec.hosts[{index}]", f"{reason}: it is ignored")
    yield from _twice("spec.hosts", hosts)


def _twice(field: str, values: Sequence[str]) -> Iterator[Remark]:
    seen: dict[str, int] = {}
    for index, value in enumerate(values):
        first = seen.setdefault(value, index)
        if first != index:
            yield warn(
                f"{field}[{index}]", f"{shown(value)} is at {field}[{first}], too: remove it"
            )


_ANY_HOST = "*"
_NO_NETWORK = "must be an IPv4 network such as 10.0.0.0/8"


def _is_network(text: str) -> bool:
    with suppress(ValueError):
        IPv4Network(text, strict=False)
        return "/" in text
    return False


# IngressBackend


def ingress_backend(
    new: IngressBackend, _: IngressBackend | None, context: Context
) -> Iterator[Remark]:
    """Two objects for one backend, and ways in that nobody or everybody could take, are refused."""
    seen: dict[tuple[str, int], int] = {}
    for index, backend in enumerate(new.spec.backends):
        field, key = f"spec.backends[{index}]", (backend.name, backend.port.number)
        first = seen.setdefault(key, index)
        if first != index:
            reason = f"duplicate backend {backend.name!r} with port {backend.port.number}"
            yield refuse(field, f"{reason}, first at spec.backends[{first}]: remove one")
        yield from _wrong_protocol(f"{field}.port.protocol", backend)
    yield from _unauthenticated(new)
    yield from _taken(new, context)
    for index, source in enumerate(new.spec.sources):
        yield from _wrong_source(f"spec.sources[{index}]", source)
    yield from _ingress_warnings(new, context)


def _wrong_protocol(field: str, backend: IngressTarget) -> Iterator[Remark]:
    if backend.port.protocol.lower() not in ("http", "https"):
        reason = f"must be http or https, not {shown(backend.port.protocol)}: correct it"
        yield refuse(field, reason)


def _unauthenticated(new: IngressBackend) -> Iterator[Remark]:
    """TLS that asks for a client certificate lets nobody in unless somebody is named."""
    if any(source.kind == "AuthenticatedPrincipal" for source in new.spec.sources):
        return
    for index, backend in enumerate(new.spec.backends):
        if backend.port.protocol.lower() == "https" and not backend.tls.skip_client_cert_validation:
            reason = (
                f"backend {backend.name!r} speaks https with client certificates, so spec.sources "
                "needs at least one AuthenticatedPrincipal: add it, or set "
                "tls.skipClientCertValidation"
            )
            yield refuse(f"spec.backends[{index}]", reason)


def _taken(new: IngressBackend, context: Context) -> Iterator[Remark]:
    own = claims_of(new, "")
    for other in context.objects.all(IngressBackend, new.namespace):
        shared = sorted(own & claims_of(other, "")) if other.name != new.name else []
        if shared:
            reason = (
                f"IngressBackend {new.namespace}/{new.name} conflicts with "
                f"{other.namespace}/{other.name} over {', '.join(shared[:MAX_SHARED])}: "
                "keep these in one of them"
            )
            yield refuse("spec.backends", reason)


def _wrong_source(field: str, source: IngressSource) -> Iterator[Remark]:
    match source.kind:
        case "Service":
            if not source.name:
                yield refuse(f"{field}.name", "is required for kind Service: name the Service")
            if not source.namespace:
                reason = "is required for kind Service: name that of the Service"
                yield refuse(f"{field}.namespace", reason)
        case "AuthenticatedPrincipal":
            if not source.name:
                reason = "is required for kind AuthenticatedPrincipal: name a principal"
                yield refuse(f"{field}.name", reason)
        case "IPRange":
            if not _is_network(source.name):
                reason = f"{_NO_NETWORK} for kind IPRange, not {shown(source.name)}: correct it"
                yield refuse(f"{field}.name", reason)
        case _:
            reason = f"must be one of {', '.join(_SOURCE_KINDS)}, not {shown(source.kind)}"
            yield refuse(f"{field}.kind", f"{reason}: correct it")


def _ingress_warnings(new: IngressBackend, context: Context) -> Iterator[Remark]:
    snapshot = context.snapshot
    if snapshot is None:
        return
    if not snapshot.config.feature_flags.enable_ingress_backend_policy:
        reason = "has no effect until featureFlags.enableIngressBackendPolicy of the MeshConfig"
        yield warn("spec", f"{reason} is true")
    for index, backend in enumerate(new.spec.backends):
        field = f"spec.backends[{index}]"
        yield from context.absent_service(f"{field}.name", new.namespace, backend.name)
        views = context.views(new.namespace, backend.name) or ()
        targets = sorted({view.service.target for view in views})
        if targets and backend.port.number not in targets:
            known = ", ".join(map(str, targets))
            reason = f"{backend.port.number} is no target port of Service {backend.name!r}"
            yield warn(f"{field}.port.number", f"{reason}, whose Pods listen on {known}")
    for index, source in enumerate(new.spec.sources):
        if source.kind == "Service" and source.name and source.namespace:
            yield from _source_service(f"spec.sources[{index}]", source, context)
    for index, match in enumerate(new.spec.matches):
        yield from _absent_match(f"spec.matches[{index}]", match, new.namespace, context)


def _source_service(field: str, source: IngressSource, context: Context) -> Iterator[Remark]:
    if context.knows(source.namespace):
        yield from context.absent_service(f"{field}.name", source.namespace, source.name)
        return
    reason = f"{source.namespace!r} is not monitored by the mesh, so its endpoints are not seen"
    yield warn(f"{field}.namespace", f"{reason}: add it, or name an IPRange")


# Retry


def retry(new: Retry, _: Retry | None, context: Context) -> Iterator[Remark]:
    """A Retry that would not be found, or leads to nothing."""
    snapshot, source = context.snapshot, new.spec.source
    if snapshot is not None and not snapshot.config.feature_flags.enable_retry_policy:
        reason = "has no effect until featureFlags.enableRetryPolicy of the MeshConfig is true"
        yield warn("spec", reason)
    yield from no_account("spec.source", source.kind)
    yield from context.absent_account("spec.source.name", source.namespace, source.name)
    if source.namespace != new.namespace:
        reason = f"must be {new.namespace!r}, that of the Retry, not {source.namespace!r}"
        yield warn("spec.source.namespace", f"{reason}: the object is ignored")
    words = {word.strip() for word in new.spec.retry_policy.retry_on.split(",")} - {""}
    if not words:
        yield warn("spec.retryPolicy.retryOn", "is empty, so nothing is tried again: write 5xx")
    for word in sorted(words - _RETRY_ON):
        reason = f"{word!r} is not a condition that Envoy knows, so it means nothing: correct it"
        yield warn("spec.retryPolicy.retryOn", reason)
    for index, to in enumerate(new.spec.destinations):
        field = f"spec.destinations[{index}]"
        if to.kind != "Service":
            reason = f"must be Service, not {shown(to.kind)}: this destination is ignored"
            yield warn(f"{field}.kind", reason)
        else:
            yield from context.absent_service(f"{field}.name", to.namespace, to.name)


# Telemetry and ExtensionService


def telemetry(new: Telemetry, _: Telemetry | None, context: Context) -> Iterator[Remark]:
    """A format that is half JSON, a collector that does not exist, a second object for all Pods."""
    log = new.spec.access_log
    if log is not None and log.format.lstrip().startswith("{") and not _is_json_object(log.format):
        reason = "begins with { but is not valid JSON: correct it, or begin a text otherwise"
        yield warn("spec.accessLog.format", reason)
    if log is not None and log.open_telemetry is not None and context.snapshot is not None:
        to = log.open_telemetry.extension_service
        if context.objects.get(ExtensionService, to.namespace, to.name) is None:
            reason = f"there is no ExtensionService '{to.namespace}/{to.name}': create it"
            yield warn("spec.accessLog.openTelemetry.extensionService", reason)
    own = claims_of(new, "")
    for other in context.objects.all(Telemetry, new.namespace):
        if other.name != new.name and own & claims_of(other, ""):
            reason = (
                f"is missing, as in Telemetry {other.name!r}, so both are for all Pods of the "
                "namespace and the oldest wins: add a selector to one"
            )
            yield warn("spec.selector", reason)


def _is_json_object(text: str) -> bool:
    with suppress(ValueError, RecursionError):
        return isinstance(json.loads(text), dict)
    return False


def extension_service(
    _: ExtensionService, __: ExtensionService | None, ___: Context
) -> Iterator[Remark]:
    """All there is to say of it its schema says."""
    return iter(())
