"""TrafficDeny: who may not call whom, whatever TrafficTargets or permissive mode grant.

Raw objects come in through ``scheme.decode``; views go to ``app/mesh/policies/denials.py``. The
fields are those of a TrafficTarget, so that one can be turned into the other.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from app.objects.meta import KubeModel, KubeObject
from app.objects.policy import MAX_ENTRIES
from app.objects.smi import RouteRef, Subject

_Bounded = Field(max_length=MAX_ENTRIES)


class TrafficDenySpec(KubeModel):
    """Who may not reach whom by which routes."""

    destination: Subject
    sources: Annotated[tuple[Subject, ...], _Bounded] = ()
    """Empty: everybody."""
    rules: Annotated[tuple[RouteRef, ...], _Bounded] = ()
    """Empty: all traffic."""


class TrafficDeny(KubeObject):
    """Keeps sources from a destination."""

    spec: TrafficDenySpec
