"""Waits until an object of a cluster in memory is as a test wants it; told by a watch."""

from __future__ import annotations

import threading
from collections.abc import Callable

from fakes.cluster import FakeCluster

from app.objects.meta import ObjectRef, RawObject

DEADLINE_SECONDS = 10


class Awaited:
    """``wait`` is True once the object was written, since this was made, so that it fits."""

    def __init__(
        self, cluster: FakeCluster, ref: ObjectRef, fits: Callable[[RawObject], bool]
    ) -> None:
        self._fits = fits
        self._seen = threading.Event()
        self._is_armed = False
        cluster.watch(ref.api_version, ref.kind, self._hear, name=ref.name)
        self._is_armed = True

    def wait(self) -> bool:
        return self._seen.wait(DEADLINE_SECONDS)

    def _hear(self, raw: RawObject | None) -> None:
        if self._is_armed and raw is not None and self._fits(raw):
            self._seen.set()
