"""What a route does beside leading somewhere: timeouts, retries, balancing keys, copies.

Frozen policy comes in and is written on a route's action. Specification: data-plane 4.8 and 4.13.
"""

from __future__ import annotations

from xds.builders import names
from xds.policy.settings import HashKey, Mirror, RetryPolicy, RoutePolicy, Timeouts
from xds.protos import FractionalPercent, RouteAction, UInt32Value, duration
from xds.protos import RetryPolicy as RetryMessage

_MILLION = 1_000_000
_LONGEST_BACK_OFF = 10
"""Times the base interval."""


def apply_route_policy(action: RouteAction, policy: RoutePolicy) -> None:
    """The action has all of the policy."""
    apply_timeouts(action, policy.timeouts)
    if policy.retry is not None:
        action.retry_policy.CopyFrom(_retry(policy.retry))
    action.hash_policy.extend(_hash_policy(key) for key in policy.hash_keys)
    if policy.mirror is not None:
        action.request_mirror_policies.append(_mirror(policy.mirror))


def apply_timeouts(action: RouteAction, timeouts: Timeouts) -> None:
    """The action has the timeouts; Envoy's own of 15 s would break long answers."""
    action.timeout.CopyFrom(duration(timeouts.request_seconds or 0))
    if timeouts.idle_seconds is not None:
        action.idle_timeout.CopyFrom(duration(timeouts.idle_seconds))


def _retry(policy: RetryPolicy) -> RetryMessage:
    found = RetryMessage(
        retry_on=policy.retry_on, num_retries=UInt32Value(value=policy.num_retries)
    )
    if policy.per_try_seconds:
        found.per_try_timeout.CopyFrom(duration(policy.per_try_seconds))
    if policy.base_interval_seconds:
        base = policy.base_interval_seconds
        found.retry_back_off.base_interval.CopyFrom(duration(base))
        found.retry_back_off.max_interval.CopyFrom(duration(base * _LONGEST_BACK_OFF))
    return found


def _hash_policy(key: HashKey) -> RouteAction.HashPolicy:
    found = RouteAction.HashPolicy()
    if key.header:
        found.header.header_name = key.header
    elif key.cookie:
        found.cookie.name = key.cookie
        if key.cookie_ttl_seconds is not None:
            found.cookie.ttl.CopyFrom(duration(key.cookie_ttl_seconds))
            found.cookie.path = "/"
    else:
        found.connection_properties.source_ip = key.source_address
    return found


def _mirror(mirror: Mirror) -> RouteAction.RequestMirrorPolicy:
    found = RouteAction.RequestMirrorPolicy(
        cluster=names.upstream_cluster(mirror.service),
        # Its servers know their own names only, neither that of the host nor one with "-shadow".
        host_rewrite_literal=f"{mirror.service.host}.{mirror.service.namespace}",
        disable_shadow_host_suffix_append=True,
    )
    share = FractionalPercent(
        numerator=round(mirror.percent * _MILLION / 100), denominator=FractionalPercent.MILLION
    )
    found.runtime_fraction.default_value.CopyFrom(share)
    return found
