"""Limits in, the same without what Envoy would refuse; each loss is told of.

Part of ``sound``: the mesh drops such limits already and tells their author; this page is why a
mistake there costs one limit and never a listener. Specification: data-plane appendix C.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from xds.policy.limits import (
    STATUS_CODES,
    Bucket,
    ConnectionLimits,
    Descriptor,
    Entry,
    ExternalAuthorization,
    Fault,
    GenericKey,
    HeaderCondition,
    HeaderEntry,
    HeaderValueMatch,
    LocalLimit,
    RateLimitServer,
    RemoteAddress,
    RequestLimits,
    SharedConnectionLimit,
    SharedLimit,
)

Drop = Callable[[str], None]
_MAX_PORT = 65535
_CONTROL = frozenset("\0\r\n")
_WAYS = frozenset({"exact", "prefix", "suffix", "regex", "contains", "present"})
_STATUSES = range(200, 600)
_USUAL_SECONDS = 1.0


def sound_requests(limits: RequestLimits, drop: Drop) -> RequestLimits:
    """The limits of requests that Envoy takes; the same object where nothing is wrong."""
    local = None if limits.local is None else _local(limits.local, drop)
    shared = None if limits.shared is None else _shared(limits.shared, drop)
    fault = limits.fault if limits.fault is None or _is_fault(limits.fault) else None
    if fault is not limits.fault:
        drop("a fault needs a time above 0, shares from 0 to 100 and a status from 200 to 599")
    found = RequestLimits(local=local, shared=shared, fault=fault)
    return limits if found == limits else found


def sound_connections(limits: ConnectionLimits, drop: Drop) -> ConnectionLimits:
    """The limits of connections that Envoy takes; the same object where nothing is wrong."""
    local = limits.local if limits.local is None or _is_bucket(limits.local) else None
    shared = limits.shared if limits.shared is None or _is_counted(limits.shared) else None
    if local is not limits.local:
        drop("a limit of connections needs an amount and a time")
    if shared is not limits.shared:
        drop("a shared limit of connections needs a server, a domain and descriptors")
    found = ConnectionLimits(local=local, shared=shared)
    return limits if found == limits else found


def sound_authorization(asked: ExternalAuthorization, drop: Drop) -> ExternalAuthorization:
    """Whom Envoy can ask; never nobody, which would let everybody in."""
    sound = asked
    if asked.timeout_seconds <= 0:
        drop("external authorisation without time to answer gets a second")
        sound = replace(sound, timeout_seconds=_USUAL_SECONDS)
    if asked.host and not _is_server(RateLimitServer(host=asked.host, port=asked.port)):
        drop(f"external authorisation at port {asked.port} asks nobody")
        sound = replace(sound, host="")
    return sound


def _local(limit: LocalLimit, drop: Drop) -> LocalLimit | None:
    if not _is_bucket(limit.bucket):
        drop("a limit of requests needs an amount and a time")
        return None
    status = limit.status if limit.status is None or limit.status in STATUS_CODES else None
    if status != limit.status:
        drop(f"status {limit.status} is none that Envoy answers a limit with")
    headers = tuple(header for header in limit.headers if _is_header(*header))
    if len(headers) < len(limit.headers):
        drop("a header of an answer has no usable name or value")
    return replace(limit, status=status, headers=headers)


def _shared(limit: SharedLimit, drop: Drop) -> SharedLimit | None:
    counter = limit.counter
    timely = counter.timeout_seconds is None or counter.timeout_seconds > 0
    usable = _is_server(counter.server) and counter.domain and counter.status in STATUS_CODES
    descriptors = tuple(one for one in limit.descriptors if _is_descriptor(one))
    if not usable or not timely or not descriptors:
        drop("a shared limit of requests needs a server, a domain, a status and descriptors")
        return None
    if len(descriptors) < len(limit.descriptors):
        drop("a descriptor is empty or has an empty part")
    return replace(limit, descriptors=descriptors)


def _is_fault(fault: Fault) -> bool:
    delay = fault.delay_seconds is None or fault.delay_seconds > 0
    abort = fault.abort_status is None or fault.abort_status in _STATUSES
    shares = (fault.delay_percent, fault.abort_percent)
    return delay and abort and all(0 <= share <= 100 for share in shares)  # noqa: PLR2004


def _is_bucket(bucket: Bucket) -> bool:
    return bucket.amount > 0 and bucket.burst >= 0 and bucket.seconds > 0


def _is_counted(limit: SharedConnectionLimit) -> bool:
    timely = limit.timeout_seconds is None or limit.timeout_seconds > 0
    parts = all(pairs and all(key and value for key, value in pairs) for pairs in limit.descriptors)
    whole = bool(limit.domain and limit.descriptors) and parts
    return timely and whole and _is_server(limit.server)


def _is_server(server: RateLimitServer) -> bool:
    return bool(server.host) and "|" not in server.host and 0 < server.port <= _MAX_PORT


def _is_header(name: str, value: str) -> bool:
    free = name and name != "host" and not name.startswith(":")
    return bool(free) and not _CONTROL & set(name + value)


def _is_descriptor(descriptor: Descriptor) -> bool:
    return bool(descriptor) and all(map(_is_entry, descriptor))


def _is_entry(entry: Entry) -> bool:
    match entry:
        case RemoteAddress():
            return True
        case GenericKey():
            return bool(entry.key and entry.value)
        case HeaderEntry():
            return bool(entry.key and entry.header) and not _CONTROL & set(entry.header)
        case HeaderValueMatch():
            whole = bool(entry.key and entry.value and entry.headers)
            return whole and all(map(_is_condition, entry.headers))


def _is_condition(condition: HeaderCondition) -> bool:
    named = bool(condition.name) and not _CONTROL & set(condition.name)
    return named and condition.how in _WAYS and bool(condition.value)
