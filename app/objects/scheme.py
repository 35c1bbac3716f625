"""Raw objects to typed ones: which kinds and versions are read, and why one was refused.

``decode`` is the only door for objects, from files and from the API server. Every refusal is one
sentence that names the field and what would do. Source: kubernetes-surface 1.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from app.objects import access, config, core, policy, root, smi, upstream
from app.objects.meta import (
    KubeObject,
    ObjectKey,
    ObjectKind,
    Rejected,
    field_path,
    is_label,
    is_name,
    shown,
)

CODE = "E3002"
MAX_NODES = 200_000
MAX_CHARACTERS = 3_000_000
"""Twice what an API server stores, so that only files meet these bounds."""
_MAX_TITLE = 253


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One kind in the API versions that are read, the preferred one first."""

    kind: ObjectKind
    model: type[KubeObject]
    api_versions: tuple[str, ...]


_CONFIG = ("config.openservicemesh.io/v1alpha2",)
_POLICY = ("policy.openservicemesh.io/v1alpha1",)
_VERSIONS = (
    Version(kind=ObjectKind.NAMESPACE, model=core.Namespace, api_versions=("v1",)),
    Version(kind=ObjectKind.POD, model=core.Pod, api_versions=("v1",)),
    Version(kind=ObjectKind.SERVICE, model=core.Service, api_versions=("v1",)),
    Version(kind=ObjectKind.ENDPOINTS, model=core.Endpoints, api_versions=("v1",)),
    Version(
        kind=ObjectKind.ENDPOINT_SLICE,
        model=core.EndpointSlice,
        # Servers before 1.21 have the beta alone; what is read of it is the same.
        api_versions=("discovery.k8s.io/v1", "discovery.k8s.io/v1beta1"),
    ),
    Version(kind=ObjectKind.SERVICE_ACCOUNT, model=core.ServiceAccount, api_versions=("v1",)),
    Version(kind=ObjectKind.SECRET, model=core.Secret, api_versions=("v1",)),
    Version(
        kind=ObjectKind.MESH_CONFIG,
        model=config.MeshConfig,
        api_versions=("config.openservicemesh.io/v1alpha2", "config.openservicemesh.io/v1alpha1"),
    ),
    Version(
        kind=ObjectKind.TRAFFIC_TARGET,
        model=smi.TrafficTarget,
        api_versions=("access.smi-spec.io/v1alpha3",),
    ),
    Version(
        kind=ObjectKind.HTTP_ROUTE_GROUP,
        model=smi.HTTPRouteGroup,
        api_versions=("specs.smi-spec.io/v1alpha4",),
    ),
    Version(
        kind=ObjectKind.TCP_ROUTE,
        model=smi.TCPRoute,
        api_versions=("specs.smi-spec.io/v1alpha4",),
    ),
    Version(
        kind=ObjectKind.TRAFFIC_SPLIT,
        model=smi.TrafficSplit,
        api_versions=("split.smi-spec.io/v1alpha2", "split.smi-spec.io/v1alpha4"),
    ),
    Version(kind=ObjectKind.EGRESS, model=policy.Egress, api_versions=_POLICY),
    Version(kind=ObjectKind.INGRESS_BACKEND, model=policy.IngressBackend, api_versions=_POLICY),
    Version(kind=ObjectKind.RETRY, model=policy.Retry, api_versions=_POLICY),
    Version(
        kind=ObjectKind.UPSTREAM_TRAFFIC_SETTING,
        model=upstream.UpstreamTrafficSetting,
        api_versions=_POLICY,
    ),
    Version(kind=ObjectKind.TRAFFIC_DENY, model=access.TrafficDeny, api_versions=_POLICY),
    Version(kind=ObjectKind.TELEMETRY, model=policy.Telemetry, api_versions=_POLICY),
    Version(kind=ObjectKind.EXTENSION_SERVICE, model=policy.ExtensionService, api_versions=_CONFIG),
    Version(
        kind=ObjectKind.MESH_ROOT_CERTIFICATE,
        model=root.MeshRootCertificate,
        api_versions=_CONFIG,
    ),
)
KINDS: Mapping[str, Version] = MappingProxyType({str(entry.kind): entry for entry in _VERSIONS})
"""What is read, by the kind's name."""


def is_mesh_kind(raw: Any) -> bool:
    """True when the mesh reads objects of this kind, in whatever version."""
    return isinstance(raw, Mapping) and str(raw.get("kind")) in KINDS


def decode(raw: Any, where: str = "") -> tuple[ObjectKey, KubeObject] | Rejected:
    """The object with its key, or the reason it cannot be read.

    ``where`` is ``file:line``; empty means the object's own name. An object without a namespace is
    in ``default``, as with kubectl. ``raw`` is not changed.
    """
    if not isinstance(raw, Mapping):
        return _rejected(
            where or "object", reason=f"must be an object with fields, not {shown(raw)}"
        )
    reason = _too_large(raw)
    if reason:
        return _rejected(where or "object", reason=reason)
    version = KINDS.get(str(raw.get("kind")))
    refusal = _wrong_kind(raw, version) or _wrong_name(raw)
    if refusal:
        return _rejected(where or _title(raw), field=refusal[0], reason=refusal[1])
    return _validated(raw, KINDS[raw["kind"]], where)


def _validated(
    raw: Mapping[str, Any], version: Version, where: str
) -> tuple[ObjectKey, KubeObject] | Rejected:
    namespace = _namespace(raw, version.kind)
    key = ObjectKey(kind=version.kind, namespace=namespace, name=raw["metadata"]["name"])
    placed = {**raw, "metadata": {**raw["metadata"], "namespace": namespace}}
    try:
        return key, version.model.model_validate(placed)
    except ValidationError as error:
        field, reason = sentence(error)
        return _rejected(where or str(key), field=field, reason=reason)


def sentence(error: ValidationError) -> tuple[str, str]:
    """The first mistake of a validation as (field, sentence); the sentence counts the others."""
    found = error.errors(include_url=False)
    first = min(found, key=lambda entry: len(entry["loc"]) == 0)
    # A union reports each of its branches below the field; the field alone is what a user wrote.
    location = tuple(part for part in first["loc"] if not _is_branch(part))
    others = len({entry["loc"] for entry in found}) - 1
    more = f" ({others} more fields are wrong)" if others > 1 else " (1 more field is wrong)"
    return field_path(location), _reason(first) + (more if others > 0 else "")


def _is_branch(part: int | str) -> bool:
    return isinstance(part, str) and part in {"int", "str", "float", "constrained-int", "[key]"}


_REASONS: Mapping[str, str] = MappingProxyType(
    {
        "missing": "is required: add it",
        "literal_error": "must be one of {expected}, not {shown}",
        "greater_than_equal": "must be at least {ge}, not {shown}",
        "less_than_equal": "must be at most {le}, not {shown}",
        "too_long": "may have at most {max_length} entries: remove the others",
        "too_short": "must have at least {min_length} entry: add it",
        "string_too_long": "may have at most {max_length} characters, not {shown}: shorten it",
        "string_too_short": "must not be empty",
        "dict_type": "must be an object with fields, not {shown}",
        "model_type": "must be an object with fields, not {shown}",
        "tuple_type": "must be a list, not {shown}",
        "string_type": "must be text, not {shown}: put it in quotes",
        "bool_type": "must be true or false, not {shown}",
        "bool_parsing": "must be true or false, not {shown}",
        "int_type": "must be a whole number, not {shown}",
        "int_parsing": "must be a whole number, not {shown}",
        "float_type": "must be a number, not {shown}",
        "float_parsing": "must be a number, not {shown}",
        "finite_number": "must be a number, not {shown}",
        "int_from_float": "must be a whole number, not {shown}",
    }
)


def _reason(error: ErrorDetails) -> str:
    template = _REASONS.get(error["type"])
    if template is None:
        return error["msg"]
    return template.format(shown=shown(error["input"]), **error.get("ctx", {}))


def _wrong_kind(raw: Mapping[str, Any], version: Version | None) -> tuple[str, str] | None:
    if version is None:
        known = ", ".join(sorted(KINDS))
        return "kind", f"{shown(raw.get('kind'))} is not read by the mesh; known kinds are {known}"
    if raw.get("apiVersion") not in version.api_versions:
        known = " or ".join(version.api_versions)
        return (
            "apiVersion",
            f"must be {known} for a {version.kind}, not {shown(raw.get('apiVersion'))}",
        )
    return None


def _wrong_name(raw: Mapping[str, Any]) -> tuple[str, str] | None:
    meta = raw.get("metadata")
    if not isinstance(meta, Mapping):
        return "metadata", f"must be an object with a name, not {shown(meta)}"
    name, namespace = meta.get("name"), meta.get("namespace") or "default"
    if not is_name(name):
        rule = "must be lower-case letters, digits, '-' and '.'"
        return "metadata.name", f"{rule}, not {shown(name)}"
    if not is_label(namespace):
        rule = "must be at most 63 lower-case letters, digits and '-'"
        return "metadata.namespace", f"{rule}, not {shown(namespace)}"
    return None


def _namespace(raw: Mapping[str, Any], kind: ObjectKind) -> str:
    return "" if kind is ObjectKind.NAMESPACE else raw["metadata"].get("namespace") or "default"


def _too_large(raw: Any) -> str:
    """Why the object is too large to be read, else empty. Also ends at aliases that loop."""
    nodes = characters = 0
    waiting = [raw]
    while waiting:
        value = waiting.pop()
        nodes += 1
        if isinstance(value, str):
            characters += len(value)
        elif isinstance(value, Mapping):
            waiting.extend(value.values())
            characters += sum(len(key) for key in value if isinstance(key, str))
        elif isinstance(value, list | tuple):
            waiting.extend(value)
        if nodes > MAX_NODES or characters > MAX_CHARACTERS:
            return f"is larger than {MAX_NODES} values or {MAX_CHARACTERS} characters: split it"
    return ""


def _title(raw: Mapping[str, Any]) -> str:
    meta = raw.get("metadata")
    meta = meta if isinstance(meta, Mapping) else {}
    path = "/".join(str(meta[part]) for part in ("namespace", "name") if meta.get(part))
    return f"{raw.get('kind') or 'object'} {path}".strip()[:_MAX_TITLE]


def _rejected(where: str, *, field: str = "", reason: str) -> Rejected:
    return Rejected(where=where, field=field, reason=reason, code=CODE)
