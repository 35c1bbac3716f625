"""Which mesh services stand behind a TrafficSplit: backends of a root, and roots of a backend.

Comes in: the snapshot's ``services`` and ``rules``. Clients ask for the backends (``outbound``),
servers for the roots whose Host header reaches them (``inbound``). Specification: data-plane 4.5.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import lcm

from app.mesh.catalog.access import canonical_order
from app.mesh.snapshot import Rules, Services, ServiceView, Split
from xds.policy.http import HttpMatch
from xds.policy.service import MeshService
from xds.policy.traffic import WeightedUpstream

Share = tuple[tuple[ServiceView, ...], int]
"""Views of one Service port, one per target, and the weight they have together."""

_MAX_TOTAL_WEIGHT = 2**32 - 1
"""Envoy refuses routes whose weights add up to more."""


def split_shares(services: Services, rules: Rules, root: ServiceView) -> tuple[Share, ...]:
    """Backends of the split on the root with weight > 0 that serve the root's port.

    Empty where no split is in force or no backend is usable: then the root is an ordinary service.
    One endpoint of a StatefulSet (a view with subdomain) is never split: who dials it wants that
    one.
    """
    split = rules.splits.get(root.service.parent)
    if split is None or root.service.subdomain or not _has_requests(split, root):
        return ()
    found = ((backend_views(services, root, name), weight) for name, weight in split.backends)
    return tuple((views, weight) for views, weight in found if views and weight > 0)


def split_matches(rules: Rules, root: MeshService) -> tuple[HttpMatch, ...]:
    """Which requests to the root are spread, most specific first; empty: all."""
    split = rules.splits.get(root.parent)
    return tuple(sorted(split.matches or () if split else (), key=canonical_order))


def _has_requests(split: Split, root: ServiceView) -> bool:
    """False where the split is of some requests, and there are none such."""
    return split.matches is None or (root.service.protocol.is_http and split.matches != ())


def roots_of(services: Services, rules: Rules, backend: MeshService) -> Iterator[ServiceView]:
    """Views of the split roots whose traffic may reach the backend, perhaps its own."""
    if backend.subdomain:
        return
    for split in rules.splits_of_backend.get(backend.parent, ()):
        for root in services.by_parent.get(f"{split.namespace}/{split.root}", ()):
            views = () if root.service.subdomain else backend_views(services, root, backend.name)
            if any(view.service == backend for view in views):
                yield root


def backend_views(services: Services, root: ServiceView, backend: str) -> tuple[ServiceView, ...]:
    """Views of a backend that serve the root's port: by number, else by name; may be empty."""
    named = services.by_parent.get(f"{root.service.namespace}/{backend}", ())
    views = tuple(view for view in named if not view.service.subdomain)
    same_number = tuple(view for view in views if view.service.port == root.service.port)
    if same_number or not root.port_name:
        return same_number
    return tuple(view for view in views if view.port_name == root.port_name)


def weighted_upstreams(shares: Sequence[Share]) -> tuple[WeightedUpstream, ...]:
    """The upstreams that share the traffic, sorted; weights > 0, their sum within 32 bits.

    Targets of one Service port divide its weight in proportion to their shares.
    """
    totals = [sum(view.share for view in views) if len(views) > 1 else 0 for views, _ in shares]
    common = lcm(*(total or 1 for total in totals))
    weights = {
        view.service: weight * common * view.share // total if total else weight * common
        for (views, weight), total in zip(shares, totals, strict=True)
        for view in views
    }
    excess = sum(weights.values()) // _MAX_TOTAL_WEIGHT + 1
    return tuple(
        WeightedUpstream(service=service, weight=max(1, weight // excess))
        for service, weight in sorted(weights.items())
    )
