"""What values say about any Pod of an installation: where it runs, and with how much.

Pure; called by ``app.install.render`` for the controller and by ``app.install.addons``.
Specification: kubernetes-surface 6.4.
"""

from __future__ import annotations

from typing import Any

from app.install.values import Resources
from app.objects.meta import RawObject


def fill_pod(pod: RawObject, **given: Any) -> None:
    """Fields of the Pod that somebody set have their values; the others stay."""
    pod.update({field: value for field, value in given.items() if value is not None})


def fill_resources(container: RawObject, resources: Resources) -> None:
    """Requests and limits that somebody set have their values; the others stay."""
    for part, quantities in (("requests", resources.requests), ("limits", resources.limits)):
        given = quantities.model_dump(exclude_none=True)
        container.setdefault("resources", {}).setdefault(part, {}).update(given)
