"""Who wins where only one of several objects can: the oldest, then the name (data-plane 4)."""

from __future__ import annotations

from datetime import datetime

from app.objects.meta import KubeObject


def age(created: datetime | None) -> tuple[bool, float]:
    """Sort key that puts the oldest first, and what has no age last (data-plane 4, tie rule)."""
    return created is None, created.timestamp() if created else 0.0


def seniority(found: KubeObject) -> tuple[object, ...]:
    """Sort key of objects of one kind: the first one wins."""
    return *age(found.metadata.creation_timestamp), found.name, found.namespace
