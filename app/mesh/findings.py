"""What of an object is not in force, as ``refresh`` gathers it step by step.

Objects are named by key: their place in a file may move without any change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from app.objects.meta import KubeObject, ObjectKey, ObjectKind
from app.objects.scheme import KINDS

_KINDS: Mapping[type[KubeObject], ObjectKind] = {one.model: one.kind for one in KINDS.values()}


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Finding:
    """Something of an object that is not in force."""

    key: ObjectKey
    field: str = ""
    reason: str
    code: str


def finding_of(found: KubeObject, field: str, reason: str, code: str) -> Finding:
    """The finding about the object's field; the reason is a sentence without subject."""
    key = ObjectKey(kind=_KINDS[type(found)], namespace=found.namespace, name=found.name)
    return Finding(key=key, field=field, reason=reason, code=code)
