"""What all Kubernetes objects share: metadata, keys, selectors, and why one was rejected.

Objects are parsed once at the edge into frozen views that hold only the fields the mesh reads;
everything else of the raw object is dropped, so two versions that differ in nothing we read compare
equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

MONITORED_BY_LABEL = "openservicemesh.io/monitored-by"
IGNORE_LABEL = "openservicemesh.io/ignore"
CONTROL_PLANE_LABEL = "control-plane"
"""On a namespace it keeps every mesh out, as ``IGNORE_LABEL``; tools put it on operators' own."""
INJECTION_ANNOTATION = "openservicemesh.io/sidecar-injection"
METRICS_ANNOTATION = "openservicemesh.io/metrics"
PROXY_UUID_LABEL = "osm-proxy-uuid"
GATEWAY_LABEL = "openservicemesh.io/ingress-gateway"
"""On the Secret that holds the certificate of a gateway in front of the mesh."""
SERVICE_NAME_LABEL = "kubernetes.io/service-name"
NAME_LABEL = "app.kubernetes.io/name"
"""``PRODUCT`` on all that is ours."""
INSTANCE_LABEL = "app.kubernetes.io/instance"
"""The mesh."""
VERSION_LABEL = "app.kubernetes.io/version"
"""The release that wrote the object."""
PRODUCT = "openservicemesh.io"
SYSTEM_NAMESPACES = frozenset({"kube-system", "kube-public", "kube-node-lease"})
"""Namespaces of the cluster itself: never part of a mesh, or it could not start without one."""

_MAX_SHOWN = 60
_MAX_NAME = 253
_MAX_LABEL = 63
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-.")

RawObject = dict[str, Any]
"""A Kubernetes object as JSON; edited for writing, never read outside ``scheme.decode``."""

NullAsDict = BeforeValidator(lambda value: {} if value is None else value)
NullAsTuple = BeforeValidator(lambda value: () if value is None else value)
StringMap = Annotated[dict[str, str], NullAsDict]


def is_name(value: Any) -> bool:
    """True for what Kubernetes takes as the name of an object: lower case, digits, ``-``, ``.``."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= _MAX_NAME
        and _NAME_CHARACTERS.issuperset(value)
    )


def is_label(value: Any) -> bool:
    """True for what may be one label of a host name, such as a namespace."""
    return is_name(value) and len(value) <= _MAX_LABEL and "." not in value


def is_domain(value: str) -> bool:
    """True for what may be the name of a host in lower case, or an IPv4 address."""
    labels = value.split(".")
    return is_name(value) and all(len(label) <= _MAX_LABEL for label in labels) and all(labels)


def _name(value: Any) -> Any:
    """A name that gets into identities and host names; empty where none is given."""
    if value != "" and not is_name(value):
        rule = "must be lower-case letters, digits, '-' and '.'"
        raise soft_error("name", f"{rule}, not {shown(value)}")
    return value


def _label(value: Any) -> Any:
    if value != "" and not is_label(value):
        rule = "must be at most 63 lower-case letters, digits and '-'"
        raise soft_error("name", f"{rule}, not {shown(value)}")
    return value


def _required_name(value: Any) -> Any:
    if value == "":
        raise soft_error("name", "must not be empty: write a name")
    return _name(value)


Name = Annotated[str, BeforeValidator(_name)]
RequiredName = Annotated[str, BeforeValidator(_required_name)]
Label = Annotated[str, BeforeValidator(_label)]


class ObjectKind(StrEnum):
    """Kinds the mesh reads, by their Kubernetes names."""

    NAMESPACE = "Namespace"
    POD = "Pod"
    SERVICE = "Service"
    ENDPOINTS = "Endpoints"
    ENDPOINT_SLICE = "EndpointSlice"
    SERVICE_ACCOUNT = "ServiceAccount"
    SECRET = "Secret"  # noqa: S105 a kind, not a credential
    MESH_CONFIG = "MeshConfig"
    TRAFFIC_TARGET = "TrafficTarget"
    HTTP_ROUTE_GROUP = "HTTPRouteGroup"
    TCP_ROUTE = "TCPRoute"
    TRAFFIC_SPLIT = "TrafficSplit"
    EGRESS = "Egress"
    INGRESS_BACKEND = "IngressBackend"
    RETRY = "Retry"
    UPSTREAM_TRAFFIC_SETTING = "UpstreamTrafficSetting"
    TRAFFIC_DENY = "TrafficDeny"
    TELEMETRY = "Telemetry"
    EXTENSION_SERVICE = "ExtensionService"
    MESH_ROOT_CERTIFICATE = "MeshRootCertificate"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ObjectRef:
    """An object of any kind the API server has; ``namespace`` is empty for cluster-scoped ones."""

    api_version: str
    kind: str
    namespace: str = ""
    name: str

    def __str__(self) -> str:
        path = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind} {path}"

    @classmethod
    def of(cls, raw: RawObject) -> ObjectRef:
        """The reference to an object that has at least apiVersion, kind and a name."""
        metadata = raw["metadata"]
        return cls(
            api_version=raw["apiVersion"],
            kind=raw["kind"],
            namespace=metadata.get("namespace") or "",
            name=metadata["name"],
        )


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ObjectKey:
    """Which object; ``namespace`` is empty for cluster-scoped kinds."""

    kind: ObjectKind
    namespace: str = ""
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.path}"

    @property
    def path(self) -> str:
        """``<namespace>/<name>``, or the name alone for cluster-scoped kinds."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Rejected:
    """An object, or a part of one, that is not in force; shown by API, CLI, log and metric."""

    where: str
    """``file:line`` or ``<Kind> <namespace>/<name>``."""
    field: str = ""
    """Path such as ``spec.backends[0].weight``; empty when the whole object is meant."""
    reason: str
    """One sentence: what is wrong, and what to do."""
    code: str
    """Error code, such as E2007."""

    def __str__(self) -> str:
        place = f"{self.where}: {self.field}" if self.field else self.where
        return f"{place}: {self.reason} ({self.code})"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Problem:
    """A field whose value is not in force, though the object is."""

    field: str
    reason: str


class KubeModel(BaseModel):
    """Base of all views: frozen, camelCase outside, null means absent, unknown fields ignored."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and None in raw.values():
            return {key: value for key, value in raw.items() if value is not None}
        return raw


class OwnerReference(KubeModel):
    """The object that made this one."""

    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class ObjectMeta(KubeModel):
    """Metadata the mesh reads; resourceVersion and managedFields are left out on purpose."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    labels: StringMap = Field(default_factory=dict)
    annotations: StringMap = Field(default_factory=dict)
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    owner_references: Annotated[tuple[OwnerReference, ...], NullAsTuple] = ()


class KubeObject(KubeModel):
    """An object with metadata; ``kind`` is fixed by each subclass in ``scheme``."""

    metadata: ObjectMeta = Field(default_factory=ObjectMeta)

    @property
    def name(self) -> str:
        """metadata.name."""
        return self.metadata.name

    @property
    def namespace(self) -> str:
        """metadata.namespace."""
        return self.metadata.namespace


def soft_error(kind: str, reason: str) -> PydanticCustomError:
    """The error to raise in a field's validator; ``reason`` follows the field's name."""
    # The text is an argument, not the template: a user's braces are no placeholders.
    return PydanticCustomError(kind, "{reason}", {"reason": reason})


def shown(value: Any) -> str:
    """A user's value, short enough for a message."""
    match value:
        case None:
            return "nothing"
        case Mapping():
            return "an object"
        case list() | tuple():
            return "a list"
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}… ({len(text)} characters)"


def field_path(location: tuple[int | str, ...]) -> str:
    """A path as users write it: ``spec.backends[0].weight``."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def kept_out_by(labels: Mapping[str, object]) -> str:
    """The label, of whatever value, for which webhooks leave a namespace alone; empty: none."""
    return next((name for name in (IGNORE_LABEL, CONTROL_PLANE_LABEL) if name in labels), "")


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """True when the selector is not empty and every pair of it is among the labels."""
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())
