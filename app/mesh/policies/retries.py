"""Retries to what each client tries again, by the Service it calls.

A Retry counts in the namespace of its source only, so that nobody can make others repeat their
requests; the oldest one for a client and Service wins, then the first by name. Specification:
data-plane 4.8.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from app.mesh.findings import Finding, finding_of
from app.mesh.policies.part import Retried
from app.mesh.policies.source import PolicySource
from app.mesh.ties import seniority
from app.objects.meta import shown
from app.objects.policy import Retry, RetryRules
from xds.policy.identity import ServiceIdentity
from xds.policy.settings import RetryPolicy

Retries = Mapping[ServiceIdentity, Retried]
"""By client; those without a Retry are not in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    retry: Retry
    field: str
    service: str


def retries_in_force(source: PolicySource) -> tuple[Retries, tuple[Finding, ...]]:
    """What every client tries again, and what is not in force."""
    found: list[Retry] = []
    for namespace in sorted(source.monitored):
        found += source.objects.all(Retry, namespace)
    if not source.config.feature_flags.enable_retry_policy:
        reason = "is not in force: set featureFlags.enableRetryPolicy of the MeshConfig to true"
        return {}, tuple(finding_of(retry, "", reason, "E2012") for retry in found)
    findings: list[Finding] = []
    winners: dict[tuple[ServiceIdentity, str], Retry] = {}
    for retry in sorted(found, key=seniority):
        findings += _wrong(retry)
        client = _client(retry)
        for claim in _claims(retry, source, findings) if client else ():
            first = winners.setdefault((client, claim.service), retry) if client else retry
            if first is not retry:
                findings.append(_second(claim, first))
    chosen: dict[ServiceIdentity, dict[str, RetryPolicy]] = {}
    for (client, service), retry in sorted(winners.items(), key=lambda item: item[0]):
        chosen.setdefault(client, {})[service] = _policy(retry.spec.retry_policy)
    return {client: tuple(of.items()) for client, of in chosen.items()}, tuple(findings)


def _client(retry: Retry) -> ServiceIdentity | None:
    """Whose requests are tried again; None where the object must not speak for it."""
    source = retry.spec.source
    if source.kind != "ServiceAccount" or source.namespace != retry.namespace:
        return None
    return ServiceIdentity(namespace=source.namespace, service_account=source.name)


def _wrong(retry: Retry) -> Iterator[Finding]:
    source = retry.spec.source
    if source.kind != "ServiceAccount":
        reason = f"must be ServiceAccount, not {shown(source.kind)}: nothing is tried again"
        yield finding_of(retry, "spec.source.kind", reason, "E2011")
    elif source.namespace != retry.namespace:
        reason = (
            f"must be {retry.namespace!r}, the Retry's own, not {source.namespace!r}: "
            "nothing is tried again"
        )
        yield finding_of(retry, "spec.source.namespace", reason, "E2009")


def _claims(retry: Retry, source: PolicySource, findings: list[Finding]) -> Iterator[_Claim]:
    seen: set[str] = set()
    for index, to in enumerate(retry.spec.destinations):
        field = f"spec.destinations[{index}]"
        service = f"{to.namespace}/{to.name}"
        if to.kind != "Service":
            reason = f"must be Service, not {shown(to.kind)}: this destination is ignored"
            findings.append(finding_of(retry, f"{field}.kind", reason, "E2010"))
        elif service not in source.services.by_parent:
            reason = f"there is no Service '{service}' in the mesh: create it"
            findings.append(finding_of(retry, f"{field}.name", reason, "E3003"))
        elif service not in seen:
            seen.add(service)
            yield _Claim(retry=retry, field=field, service=service)


def _second(claim: _Claim, winner: Retry) -> Finding:
    reason = (
        f"calls to Service {claim.service} are tried again by Retry {winner.namespace}/"
        f"{winner.name}, which is older or comes first by name: delete one"
    )
    return finding_of(claim.retry, claim.field, reason, "E2013")


def _policy(rules: RetryRules) -> RetryPolicy:
    per_try, base = rules.per_try_timeout, rules.retry_backoff_base_interval
    return RetryPolicy(
        retry_on=rules.retry_on,
        num_retries=1 if rules.num_retries is None else rules.num_retries,
        per_try_seconds=per_try.total_seconds() if per_try else None,
        base_interval_seconds=base.total_seconds() if base else None,
    )
