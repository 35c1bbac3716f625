"""What validation says of an object in a mesh made of others, as mappings of field to reason."""

from __future__ import annotations

import factory

from app.objects.meta import RawObject
from app.validate.check import Operation, check
from app.validate.verdict import Verdict


def judge(
    new: RawObject | None,
    *world: RawObject,
    old: RawObject | None = None,
    operation: Operation | None = None,
) -> Verdict:
    """The verdict in a mesh of these objects; without any there is no snapshot."""
    asked = operation or (Operation.CREATE if old is None else Operation.UPDATE)
    snapshot = factory.snapshot(*world) if world else None
    return check(new, old, asked, snapshot=snapshot, osm_namespace="osm-system")


def reasons(new: RawObject, *world: RawObject, old: RawObject | None = None) -> dict[str, str]:
    """Why the object is refused, by field."""
    return {one.field: one.reason for one in judge(new, *world, old=old).reasons}


def warnings(new: RawObject, *world: RawObject, old: RawObject | None = None) -> dict[str, str]:
    """What its author is told, by field."""
    return {one.field: one.reason for one in judge(new, *world, old=old).warnings}
