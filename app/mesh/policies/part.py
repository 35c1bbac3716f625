"""The snapshot's ``policies``: what traffic policies say, resolved, one field per kind.

``read`` makes it; ``app/mesh/catalog`` compiles it into what each profile may do. Equal content is
the same object from one snapshot to the next, so a change that means nothing compiles nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.objects.upstream import UpstreamTrafficSettingSpec
from xds.policy.identity import ServiceIdentity
from xds.policy.settings import RetryPolicy

Retried = tuple[tuple[str, RetryPolicy], ...]
"""``<namespace>/<name>`` of Services and when calls to them are tried again; sorted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """Each field is empty where no object of its kind is in force."""

    upstreams: Mapping[str, UpstreamTrafficSettingSpec] = field(default_factory=dict)
    """The UpstreamTrafficSetting of each Service that has one, by ``<namespace>/<name>``."""
    retries: Mapping[ServiceIdentity, Retried] = field(default_factory=dict)
    """What each client that has a Retry tries again; empty while the feature flag is off."""


NO_POLICIES = Policies()
