"""Containers of a Pod → its ``status``, as ``kubectl get pod -o json`` would show it; pure.

Written by the Pod's worker after every change; the mesh, ``osm standalone ps`` and adoption after a
restart read it. Source: the Kubernetes documentation of the Pod lifecycle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from app.objects.meta import RawObject
from app.standalone.containers import ContainerRun, Role


def phase_of(runs: Sequence[ContainerRun]) -> str:
    """Pending until all init containers have done their part, then Running, then how it ended."""
    inits = [run for run in runs if run.role is Role.INIT]
    apps = [run for run in runs if run.role is Role.APP]
    if any(run.finished and not run.succeeded for run in inits):
        return "Failed"
    if all(run.finished for run in apps):
        return "Succeeded" if all(run.succeeded for run in apps) else "Failed"
    begun = all(run.process is not None or run.ever_ended for run in apps)
    return "Running" if begun and all(run.finished for run in inits) else "Pending"


def is_pod_ready(runs: Sequence[ContainerRun]) -> bool:
    """True when every container but the finished init containers is ready."""
    lasting = [run for run in runs if run.role is not Role.INIT]
    return phase_of(runs) == "Running" and all(run.ready for run in lasting)


def pod_status(
    runs: Sequence[ContainerRun], *, address: str, host_address: str, before: RawObject
) -> RawObject:
    """The status that follows; times of conditions that did not change are those of ``before``."""
    phase = phase_of(runs)
    status: RawObject = {"phase": phase, "hostIP": host_address}
    if address:
        status |= {"podIP": address, "podIPs": [{"ip": address}]}
    if "startTime" in before:
        status["startTime"] = before["startTime"]
    initialized = phase != "Pending" or not any(r.role is not Role.APP for r in runs)
    facts = {"Initialized": initialized, "Ready": is_pod_ready(runs)}
    status["conditions"] = [_condition(name, fact, before) for name, fact in facts.items()]
    for field, roles in (
        ("initContainerStatuses", (Role.INIT, Role.SIDECAR)),
        ("containerStatuses", (Role.APP,)),
    ):
        found = [_container_status(run) for run in runs if run.role in roles]
        if found:
            status[field] = found
    reason = next((run for run in runs if run.message and run.process is None), None)
    if reason is not None:
        status |= {"reason": reason.reason, "message": f"{reason.spec.name}: {reason.message}"}
    return status


def container_memory(status: RawObject) -> Mapping[str, RawObject]:
    """What a status tells of each container, by name; for adoption."""
    fields = ("initContainerStatuses", "containerStatuses")
    return {entry["name"]: entry for field in fields for entry in status.get(field) or ()}


def timestamp() -> str:
    """Now, as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _condition(name: str, fact: bool, before: RawObject) -> RawObject:  # noqa: FBT001 a fact is a bool
    value = "True" if fact else "False"
    for old in before.get("conditions") or ():
        if old.get("type") == name and old.get("status") == value:
            return dict(old)
    return {"type": name, "status": value, "lastTransitionTime": timestamp()}


def _container_status(run: ContainerRun) -> RawObject:
    finished_init = run.role is Role.INIT and run.succeeded
    return {
        "name": run.spec.name,
        "ready": run.ready or finished_init,
        "started": run.started,
        "restartCount": run.restarts,
        "state": _state(run),
    }


def _state(run: ContainerRun) -> RawObject:
    if run.process is not None:
        started = run.process.started.strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"running": {"startedAt": started}}
    if run.finished:
        return {"terminated": {"exitCode": run.exit_code, "reason": run.reason}}
    return {"waiting": {"reason": run.reason, "message": run.message}}
