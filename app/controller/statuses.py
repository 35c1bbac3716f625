"""Statuses of policy objects: whether each is in force, where ``kubectl get`` shows it; a job.

The snapshot comes in, patches of the status subresource go out, one for each object whose status is
another one than was written last. A source does not tell of changed statuses, so nothing follows
from them. Specification: kubernetes-surface 1.0 and 1.6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from app import logs
from app.errors import NotFoundError
from app.mesh.snapshot import MeshSnapshot
from app.objects.meta import ObjectKey, ObjectKind, RawObject
from xds.resource import MeshError

KINDS = frozenset(
    {ObjectKind.INGRESS_BACKEND, ObjectKind.UPSTREAM_TRAFFIC_SETTING, ObjectKind.TELEMETRY}
)
"""Those with a status that says whether they are in force."""
COMMITTED = "successfully committed by the system"
MAX_WRITES = 50
"""Statuses that are written in one step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What an object's status says; ``uid`` tells an object from a later one of its name."""

    uid: str
    current: str
    reason: str

    def as_raw(self) -> RawObject:
        """The fields of the status subresource."""
        return {"currentStatus": self.current, "reason": self.reason}


def wanted_statuses(snapshot: MeshSnapshot) -> dict[ObjectKey, Status]:
    """The status of every object of these kinds in the mesh; sorted by key."""
    wrong: dict[str, list[str]] = {}
    for one in snapshot.rejected:
        text = f"{one.field}: {one.reason}" if one.field else one.reason
        wrong.setdefault(one.where, []).append(text)
    found = {}
    for key, held in sorted(snapshot.objects.by_key.items()):
        if key.kind in KINDS:
            reasons = wrong.get(str(key), ())
            found[key] = Status(
                uid=held.metadata.uid,
                current="error" if reasons else "committed",
                reason="; ".join(reasons) or COMMITTED,
            )
    return found


class Statuses:
    """Writes statuses that differ from what was written last; a new process writes all once."""

    def __init__(
        self,
        snapshot: Callable[[], MeshSnapshot | None],
        *,
        patch_status: Callable[[ObjectKey, RawObject], None],
    ) -> None:
        self._snapshot = snapshot
        self._patch_status = patch_status
        self._written: dict[ObjectKey, Status] = {}
        self._log = logs.logger("upkeep")

    def step(self, go_on: Callable[[], bool]) -> bool:
        """The statuses are right, or some of them: True when there are more to write."""
        snapshot = self._snapshot()
        if snapshot is None:
            return False
        wanted = wanted_statuses(snapshot)
        self._written = {key: one for key, one in self._written.items() if key in wanted}
        for count, (key, status) in enumerate(self._due(wanted)):
            if count == MAX_WRITES or not go_on():
                return True
            self._write(key, status)
        return False

    def _due(self, wanted: dict[ObjectKey, Status]) -> Iterator[tuple[ObjectKey, Status]]:
        for key, status in wanted.items():
            if self._written.get(key) != status:
                yield key, status

    def _write(self, key: ObjectKey, status: Status) -> None:
        try:
            self._patch_status(key, status.as_raw())
        except NotFoundError:
            pass  # it went meanwhile, and the snapshot will say so
        except MeshError as error:
            self._log.warning("a status could not be written", object=str(key), error=str(error))
            return
        self._written[key] = status
