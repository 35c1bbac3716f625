"""A Pod in one line, as ``osm standalone ps`` and the demo show it.

From the object alone, so it needs no process.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.compute.kept import KeptObjects
from app.objects.meta import PROXY_UUID_LABEL, RawObject
from app.standalone.rollout import is_ready

OBJECTS_FOLDER = "objects"
"""Of the state directory: where written objects are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodSummary:
    """What people want to know of a Pod."""

    namespace: str
    name: str
    ready: str
    """Ready containers of all that last, such as ``2/2``."""
    is_ready: bool
    status: str
    """Phase, or why it is not as it should be."""
    message: str
    restarts: int
    address: str
    created: str
    containers: tuple[str, ...]
    """All names, init containers first."""
    applications: tuple[str, ...]
    """Names of those that are no init containers."""
    proxy: str
    """UUID of its sidecar; empty without one."""

    @property
    def is_well(self) -> bool:
        """True when it is ready, or has done its work."""
        return self.is_ready or self.status == "Completed"


def read_pods(state_dir: Path) -> list[PodSummary]:
    """The Pods of a state directory, sorted by namespace and name."""
    kept = KeptObjects(state_dir / OBJECTS_FOLDER).load()
    found = [summary(raw) for raw in kept if raw.get("kind") == "Pod"]
    return sorted(found, key=lambda pod: (pod.namespace, pod.name))


def summary(pod: RawObject) -> PodSummary:
    """The Pod in one line."""
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    entries = list(_entries(status))
    sidecars = {c["name"] for c in spec.get("initContainers") or () if c.get("restartPolicy")}
    lasting = sidecars | {container["name"] for container in spec["containers"]}
    ready = sum(bool(entry.get("ready")) for entry in entries if entry["name"] in lasting)
    inits = tuple(container["name"] for container in spec.get("initContainers") or ())
    applications = tuple(container["name"] for container in spec["containers"])
    return PodSummary(
        namespace=metadata["namespace"],
        name=metadata["name"],
        ready=f"{ready}/{len(lasting)}",
        is_ready=is_ready(pod) and "deletionTimestamp" not in metadata,
        status=_word(metadata, status, entries),
        message=status.get("message", ""),
        restarts=sum(int(entry.get("restartCount", 0)) for entry in entries),
        address=status.get("podIP", ""),
        created=metadata.get("creationTimestamp", ""),
        containers=(*inits, *applications),
        applications=applications,
        proxy=(metadata.get("labels") or {}).get(PROXY_UUID_LABEL, ""),
    )


def _entries(status: RawObject) -> Iterator[RawObject]:
    for field in ("initContainerStatuses", "containerStatuses"):
        yield from status.get(field) or ()


def _word(metadata: RawObject, status: RawObject, entries: list[RawObject]) -> str:
    """As kubectl: ending, how it ended, why a container waits, else the phase."""
    if "deletionTimestamp" in metadata:
        return "Terminating"
    phase = str(status.get("phase", "Pending"))
    if phase == "Succeeded":
        return "Completed"
    if phase == "Failed":
        return "Error"
    waiting = [
        entry["state"]["waiting"]["reason"] for entry in entries if "waiting" in entry["state"]
    ]
    special = [word for word in waiting if word not in ("PodInitializing", "ContainerCreating")]
    return str(special[0] if special else status.get("reason") or phase)
