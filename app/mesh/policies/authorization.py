"""MeshConfig's external authorisation: settings in, whom to ask in neutral words out.

Specification: data-plane 4.12.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from app.mesh.hosts import is_host
from app.objects.config import MeshConfig, MeshConfigSpec, incomplete
from app.objects.meta import Problem, shown
from xds.policy.limits import ExternalAuthorization

_SHORTEST, _LONGEST = timedelta(milliseconds=1), timedelta(hours=24)
_USUAL = timedelta(seconds=1)
_FIELD = "spec.traffic.inboundExternalAuthorization"


def external_authorization(config: MeshConfigSpec) -> ExternalAuthorization | None:
    """Who is asked about every HTTP request; None where nobody is to be asked.

    Without an address nobody can answer, which counts as a server that is down.
    """
    asked = config.traffic.inbound_external_authorization
    if not asked.enable:
        return None
    usable = is_host(asked.address) and asked.port > 0
    timeout = asked.timeout if _SHORTEST <= asked.timeout <= _LONGEST else _USUAL
    return ExternalAuthorization(
        host=asked.address if usable else "",
        port=asked.port,
        stat_prefix=asked.stat_prefix,
        timeout_seconds=timeout.total_seconds(),
        allow_on_failure=asked.failure_mode_allow,
    )


def wrong_settings(config: MeshConfig) -> tuple[Problem, ...]:
    """All of the MeshConfig that cannot be in force as written."""
    return (*config.problems, *incomplete(config.spec), *wrong_authorization(config.spec))


def wrong_authorization(config: MeshConfigSpec) -> Iterator[Problem]:
    """What cannot be kept of it, where it is to be in force."""
    asked = config.traffic.inbound_external_authorization
    if not asked.enable:
        return
    outcome = "let through" if asked.failure_mode_allow else "refused"
    if not is_host(asked.address):
        reason = f"is not the name or address of a host: {shown(asked.address)}"
        yield Problem(
            field=f"{_FIELD}.address",
            reason=f"{reason}, so all requests are {outcome}: correct it",
        )
    if not asked.port:
        reason = f"is missing, so all requests are {outcome}: write it"
        yield Problem(field=f"{_FIELD}.port", reason=reason)
    if not _SHORTEST <= asked.timeout <= _LONGEST:
        reason = "must lie between 1ms and 24h; 1s is used instead"
        yield Problem(field=f"{_FIELD}.timeout", reason=reason)
