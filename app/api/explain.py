"""GET /explain: may A call B, and why; GET /explain/pods: which TrafficTargets let one Pod in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from app.api import schemas
from app.api.schemas import Answer
from app.controller.runtime import Runtime
from app.deps import CurrentRuntime, CurrentSnapshot
from app.mesh.explain.answer import Check, Outcome, Question
from app.mesh.explain.call import explain
from app.mesh.explain.pods import pods_allowed
from app.objects.meta import ObjectKey, ObjectKind

router = APIRouter(prefix="/api/v1", tags=["explain"], responses=schemas.PROBLEMS)
_MOST = 2000
_PATH = "^[^/]+/[^/]"
"""``namespace/name``."""
_HEADER = "^[!-9;-~]+:"
"""``name:value``."""


class ObjectPlace(Answer):
    """An object that had a part in it."""

    kind: str
    namespace: str
    name: str
    where: str
    """``file:line`` on one machine; else kind, namespace and name."""


class Step(Answer):
    """One thing on the way of the request."""

    what: str
    check: Check
    sentence: str
    objects: tuple[ObjectPlace, ...]


class Explanation(Answer):
    """What becomes of a call, and why."""

    source: str
    to: str
    request: str
    outcome: Outcome
    seen: str
    """What the client sees."""
    decided_by: tuple[ObjectPlace, ...]
    steps: tuple[Step, ...]
    remedy: str
    """The smallest change that would alter the outcome."""


class PodsAllowed(Answer):
    """Whether TrafficTargets, or permissive mode, let one Pod call another."""

    source: str
    destination: str
    permissive: bool
    allowed: bool
    targets: tuple[ObjectPlace, ...]


class AskedCall(BaseModel):
    """``from=ns/workload``, ``to=ns/service`` or ``to=host:port``, and the request."""

    source: str = Field(alias="from", max_length=_MOST, pattern=_PATH)
    to: str = Field(max_length=_MOST)
    port: int | None = Field(None, ge=1, le=65535)
    method: str = Field("GET", max_length=_MOST)
    path: str = Field("/", max_length=_MOST)
    header: list[Annotated[str, Field(pattern=_HEADER)]] = Field([], max_length=50)
    """``name:value``, several times."""

    def question(self) -> Question:
        """The same for the mesh."""
        namespace, workload = _parts(self.source)
        return Question(
            namespace=namespace,
            workload=workload,
            to=self.to,
            port=self.port,
            method=self.method,
            path=self.path,
            headers=tuple(_header(text) for text in self.header),
        )


@router.get("/explain")
def explain_call(
    runtime: CurrentRuntime, snapshot: CurrentSnapshot, asked: Annotated[AskedCall, Query()]
) -> Explanation:
    """What becomes of one call, step by step; ``header=name:value`` may be given several times."""
    found = explain(
        snapshot,
        runtime.objects,
        asked.question(),
        config=_config(runtime),
        certified=frozenset(record.name for record in runtime.certificates()),
    )
    return Explanation(
        source=asked.source,
        to=asked.to,
        request=f"{asked.method} {asked.path}",
        outcome=found.outcome,
        seen=found.seen,
        decided_by=_places(runtime, found.decided_by),
        steps=tuple(
            Step(
                what=step.what,
                check=step.check,
                sentence=step.sentence,
                objects=_places(runtime, step.objects),
            )
            for step in found.steps
        ),
        remedy=found.remedy,
    )


@router.get("/explain/pods")
def explain_pods(
    runtime: CurrentRuntime,
    snapshot: CurrentSnapshot,
    *,
    source: Annotated[str, Query(alias="from", max_length=_MOST, pattern=_PATH)],
    to: Annotated[str, Query(max_length=_MOST, pattern=_PATH)],
) -> PodsAllowed:
    """Which TrafficTargets let one Pod call another, whatever is asked; both ``ns/pod``."""
    found = pods_allowed(snapshot, runtime.objects, _parts(source), _parts(to))
    return PodsAllowed(
        source=str(found.source),
        destination=str(found.destination),
        permissive=found.permissive,
        allowed=found.allowed,
        targets=_places(runtime, found.targets),
    )


def _config(runtime: Runtime) -> ObjectKey:
    settings = runtime.settings
    return ObjectKey(
        kind=ObjectKind.MESH_CONFIG,
        namespace=settings.osm_namespace,
        name=settings.osm_config_name,
    )


def _places(runtime: Runtime, keys: Iterable[ObjectKey]) -> tuple[ObjectPlace, ...]:
    return tuple(
        ObjectPlace(
            kind=key.kind,
            namespace=key.namespace,
            name=key.name,
            where=runtime.objects.where(key),
        )
        for key in keys
    )


def _parts(text: str) -> tuple[str, str]:
    namespace, _, name = text.partition("/")
    return namespace, name


def _header(text: str) -> tuple[str, str]:
    name, _, value = text.partition(":")
    return name.lower(), value.strip()
