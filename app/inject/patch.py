"""The JSON patch (RFC 6902) that leads from one object to another; the only door to its library.

Called by ``controller.injector`` with the Pod as it came and the Pod with its sidecar.
"""

from __future__ import annotations

from typing import Any

import jsonpatch

from app.objects.meta import RawObject

JsonPatch = list[dict[str, Any]]


def diff(before: RawObject, after: RawObject) -> JsonPatch:
    """The patch that turns one object into the other; empty when they are equal."""
    return list(jsonpatch.make_patch(before, after).patch)
