"""What each new snapshot tells people: log lines for objects newly rejected, gauges, the log level.

The loop calls it before a snapshot is published; it only counts and logs. Specification:
kubernetes-surface 8.4 and 8.6.
"""

from __future__ import annotations

from app import logs
from app.mesh.snapshot import MeshSnapshot
from app.metrics import Metrics
from app.objects.meta import Rejected


class SnapshotReport:
    """Compares each snapshot with the one before; owned by the loop thread."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._log = logs.logger("mesh")
        self._rejected: frozenset[Rejected] = frozenset()
        self._level: str | None = None

    def tell(self, snapshot: MeshSnapshot) -> None:
        """Metrics and log say what the snapshot says."""
        self._tell_rejected(snapshot)
        self._metrics.namespaces.set(len(snapshot.workloads.namespaces))
        level = snapshot.config.observability.osm_log_level
        if level != self._level:
            self._level = level
            logs.set_level(level)
        for flag, is_on in snapshot.config.feature_flags.model_dump(by_alias=True).items():
            self._metrics.feature_flags.labels(flag).set(int(bool(is_on)))

    def _tell_rejected(self, snapshot: MeshSnapshot) -> None:
        for entry in snapshot.rejected:
            if entry not in self._rejected:
                self._log.warning(
                    "not in force",
                    where=entry.where,
                    field=entry.field,
                    error=entry.reason,
                    error_code=entry.code,
                )
        self._rejected = frozenset(snapshot.rejected)
        self._metrics.rejected_objects.set(len(snapshot.rejected))
