"""What must have happened before the control plane serves anybody, and what has not happened yet.

``Runtime`` does the steps in this order and ticks them off; health pages read what is missing.
Specification: kubernetes-surface 6.1 and 6.5.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Protocol


class Step(Enum):
    """One step of the start, in its order; the value says what is missing until it is done."""

    CLUSTER = "the mesh's own kinds and its MeshConfig are not written to the API server"
    OBJECTS = "objects are being read"
    CERTIFICATES = "the certificates of the control plane are not issued"
    ADS = "ADS is not served"
    WEBHOOKS = "the webhook configurations are not written"


class Readiness:
    """Which steps are done. One thread starts and stops, any thread may read."""

    def __init__(self) -> None:
        self._life = "the control plane has not been started"
        self._open: tuple[Step, ...] = ()

    def begin(self, steps: Iterable[Step]) -> None:
        """The control plane is starting, and these steps are to be done."""
        self._open, self._life = tuple(steps), ""

    def done(self, step: Step) -> None:
        """The step is done; one that is not to be done changes nothing."""
        self._open = tuple(one for one in self._open if one is not step)

    def end(self, why: str) -> None:
        """Nobody is served any more."""
        self._life = why

    def missing(self) -> tuple[str, ...]:
        """Why nobody is served yet, in the order of the steps; empty when all are done."""
        return (self._life,) if self._life else tuple(step.value for step in self._open)


class Registration(Protocol):
    """What the control plane writes of itself to the API server. Calls block."""

    def prepare(self) -> None:
        """The mesh's own kinds and its MeshConfig exist."""
        ...

    def register(self) -> None:
        """The API server asks our webhooks from now on."""
        ...

    def refresh(self) -> None:
        """The API server trusts the present roots in webhooks."""
        ...

    def start(self) -> None:
        """What was registered is restored when it is altered or deleted."""
        ...

    def set_ready(self) -> None:
        """Objects that cannot be validated are refused from now on."""
        ...

    def stop(self) -> None:
        """Nothing is restored any more."""
        ...

    def problems(self) -> tuple[str, ...]:
        """What could not be written, in sentences."""
        ...
