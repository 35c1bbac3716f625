"""Taking an object over from another installer: whose fields are whose, rewritten.

Server-side apply removes only fields that the same manager applied before. What Helm or ``kubectl
apply`` wrote would stay for ever beside ours, such as an init container that waits for a Service
which is gone. So their entries in ``metadata.managedFields`` become one of ours before the
first apply. Pure; called by ``app.install.apply``.
Source: Kubernetes, “Server-Side Apply”, “Upgrading from client-side apply”.
"""

from __future__ import annotations

from typing import Any

from app.objects.meta import RawObject

MANAGER = "osm"
_STATUS = "f:status"
_CONTROLLER = "kube-controller-manager"


def adopted_fields(raw: RawObject) -> list[RawObject] | None:
    """The object's managedFields with all installers' entries as one of ours.

    None where nothing is to do: we applied it before, or nobody else wrote it.
    """
    entries: list[RawObject] = raw["metadata"].get("managedFields") or []
    if any(entry.get("manager") == MANAGER and _is_apply(entry) for entry in entries):
        return None
    foreign = [entry for entry in entries if _is_of_an_installer(entry)]
    if not foreign:
        return None
    fields: dict[str, Any] = {}
    for entry in foreign:
        fields = _united(fields, entry["fieldsV1"])
    ours: RawObject = {
        **{key: foreign[-1][key] for key in ("apiVersion", "time") if key in foreign[-1]},
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
        "manager": MANAGER,
        "operation": "Apply",
    }
    return [ours, *(entry for entry in entries if entry not in foreign)]


def _is_apply(entry: RawObject) -> bool:
    return entry.get("operation") == "Apply"


def _is_of_an_installer(entry: RawObject) -> bool:
    """Controllers write statuses, and replicas where an autoscaler counts them."""
    fields = entry.get("fieldsV1") or {}
    is_status = _STATUS in fields or entry.get("subresource")
    return bool(fields) and not is_status and entry.get("manager") != _CONTROLLER


def _united(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The fields of both sets; a set is a tree whose leaves are empty."""
    union = dict(one)
    for name, below in other.items():
        union[name] = _united(union.get(name, {}), below)
    return union
