"""The snapshot's ``policies``: what traffic policies say, resolved, one field per kind.

``read`` makes it; ``app/mesh/catalog`` compiles it into what each profile may do. Equal content is
the same object from one snapshot to the next, so a change that means nothing compiles nothing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """Each field is empty where no object of its kind is in force."""


NO_POLICIES = Policies()
