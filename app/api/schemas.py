"""The admin API's answers, as documented JSON; the CLI prints the same.

Changed on purpose only. Lists are sorted; times are RFC 3339 in UTC; keys and certificates never
appear. Source: kubernetes-surface 8.2.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """Base of all answers: immutable."""

    model_config = ConfigDict(frozen=True)


class Problem(Answer):
    """Why a request was not answered, and what to do."""

    detail: str
    code: str
    """Error code, such as E3003; docs/errors.md tells it."""


PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The request cannot be meant so"},
    401: {"model": Problem, "description": "No token, or one that is not known"},
    403: {"model": Problem, "description": "The caller lacks a right"},
    404: {"model": Problem, "description": "No such thing"},
    409: {"model": Problem, "description": "The mesh is not in a state for it"},
    500: {"model": Problem, "description": "A fault of the control plane"},
    502: {"model": Problem, "description": "Not read yet, or a sidecar does not answer"},
    503: {"model": Problem, "description": "Too many requests, or the caller cannot be checked"},
}
"""How requests about the mesh may fail, for the OpenAPI document."""


class RejectedUpdate(Answer):
    """What a proxy refused: the version and Envoy's own words."""

    version: str
    detail: str
    at: datetime


class KindState(Answer):
    """One kind of configuration on one proxy; in sync when sent and acknowledged are equal."""

    kind: str
    sent: str | None
    acknowledged: str | None
    rejected: RejectedUpdate | None


class ProxySummary(Answer):
    """One connected proxy."""

    uuid: str
    identity: str
    namespace: str
    pod: str | None
    peer: str
    connected_at: datetime
    in_sync: bool
    rejected: tuple[str, ...]
    """Kinds whose last version the proxy refused."""


class ProxyDetail(ProxySummary):
    """One connected proxy with the state of every kind."""

    kinds: tuple[KindState, ...]


class ResourceContent(Answer):
    """One Envoy resource as it was published; private keys are left out."""

    kind: str
    name: str
    version: str
    content: dict[str, Any]


class EndpointState(Answer):
    """One workload behind a service."""

    address: str
    port: int
    pod: str
    draining: bool


class Service(Answer):
    """One mesh service: a port of a Service, with who serves it."""

    namespace: str
    name: str
    host: str
    port: int
    target: int
    protocol: str
    addresses: tuple[str, ...]
    identities: tuple[str, ...]
    endpoints: tuple[EndpointState, ...]


class Access(Answer):
    """A TrafficTarget in force: sources may send these requests or reach these ports."""

    kind: str = "TrafficTarget"
    namespace: str
    name: str
    destination: str
    sources: tuple[str, ...]
    requests: tuple[str, ...]
    """``METHODS path [headers]`` per match."""
    ports: tuple[str, ...]


class SplitBackend(Answer):
    """A share of a root's traffic."""

    service: str
    weight: int


class Split(Answer):
    """A TrafficSplit in force."""

    kind: str = "TrafficSplit"
    namespace: str
    name: str
    root: str
    backends: tuple[SplitBackend, ...]
    requests: tuple[str, ...] | None = None
    """Those that are split, as in Access; null: all of them."""


class Denial(Answer):
    """A TrafficDeny in force."""

    kind: str = "TrafficDeny"
    namespace: str
    name: str
    destination: str
    sources: tuple[str, ...]
    """``*``: everybody."""
    requests: tuple[str, ...]
    ports: tuple[str, ...]
    """Target ports on which all traffic is denied, or ``any``."""


class Policies(Answer):
    """What decides who may call whom, now."""

    permissive: bool
    egress: bool
    access: tuple[Access, ...]
    denials: tuple[Denial, ...] = ()
    """They beat ``access`` and permissive mode."""
    splits: tuple[Split, ...]


class RejectedObject(Answer):
    """An object, or a part of one, that is not in force."""

    where: str
    field: str
    reason: str
    code: str


class Health(Answer):
    """Whether the process may be used, and why not."""

    status: str
    reasons: tuple[str, ...] = ()


class Version(Answer):
    """Which build answers."""

    version: str
    mesh_name: str
    git_commit: str = ""
    build_date: str = ""
    envoy_api: str = "v3"


class Mesh(Answer):
    """The mesh as a whole."""

    name: str
    version: str
    namespace: str
    """Of the control plane."""
    trust_domain: str
    namespaces: tuple[str, ...]
    """Monitored ones."""
    proxies: int
    """Connected to this replica."""


class Config(Answer):
    """The MeshConfig in force, every default written out."""

    name: str
    namespace: str
    spec: dict[str, Any]


class Namespace(Answer):
    """A monitored namespace; values as written, null where there are none."""

    name: str
    mesh: str
    injection: str | None
    metrics: str | None
    ignored: bool


class NamespaceChange(Answer):
    """What became of a wish."""

    namespace: str
    changed: bool
    """False: it was so already."""
    message: str


class Certificate(Answer):
    """A certificate in use; no key."""

    name: str
    """The identity, or the server, it belongs to."""
    subject: str
    issuer: str
    serial: str
    not_before: datetime
    not_after: datetime
    renew_at: datetime
    is_ca: bool
    dns_names: tuple[str, ...]
    uris: tuple[str, ...]
    signature_algorithm: str
    sha256: str
    """Of the certificate itself (DER)."""
    chain_sha256: str
    """Of the chain as it is shown (PEM)."""
    trusted_sha256: str
    """Of the roots that are accepted now (PEM)."""


class ErrorCode(Answer):
    """An error code and what it means."""

    code: str
    name: str
    meaning: str


class Injection(Answer):
    """What became of a Pod that was asked about."""

    at: datetime
    namespace: str
    pod: str
    """Its name, or the prefix of the name it got followed by ``*``."""
    outcome: str
    """injected, skipped or refused."""
    reason: str
    uuid: str
    """Of the sidecar; empty where there is none."""
    dry_run: bool


class ConflictingObject(Answer):
    """One of two objects that claim the same."""

    kind: str
    namespace: str
    name: str


class Conflict(Answer):
    """Two objects of which only one can be in force."""

    first: ConflictingObject
    second: ConflictingObject
    over: tuple[str, ...]
    """What both claim."""
    message: str


class Source(Answer):
    """How fresh what is known of a kind is."""

    kind: str
    stale_seconds: float
    """Since when the API server was not heard of it; grows while it does not answer."""
