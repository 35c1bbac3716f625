"""JSON merge patch (RFC 7386), as the API server applies it; pure.

Writers of one machine apply patches with it; tests compare with it.
"""

from __future__ import annotations

from typing import Any

from app.objects.meta import RawObject


def merge_patch(raw: RawObject, patch: RawObject) -> RawObject:
    """The object with the patch applied: null removes a field; neither argument is touched."""
    merged: RawObject = dict(raw)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            old: Any = merged.get(name)
            merged[name] = merge_patch(old if isinstance(old, dict) else {}, value)
        else:
            merged[name] = value
    return merged
