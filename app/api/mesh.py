"""GET /mesh, /config, /certificates, /sources, /injections: the mesh as a whole.

Its settings in force, who shows which certificate, how fresh what is known is, and what became of
Pods.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query

from app.api import schemas
from app.certs.manager import CertificateRecord
from app.certs.x509 import describe
from app.controller.decisions import MOST_KEPT
from app.deps import CurrentRuntime, CurrentSnapshot
from app.objects.config import MeshConfigSpec
from app.ports import AgingSource

router = APIRouter(prefix="/api/v1", tags=["mesh"], responses=schemas.PROBLEMS)
_UNITS = ((3600, "h"), (60, "m"), (1, "s"))


@router.get("/mesh")
def read_mesh(runtime: CurrentRuntime, snapshot: CurrentSnapshot) -> schemas.Mesh:
    """Name, version, namespaces and how many proxies this replica serves."""
    settings = runtime.settings
    return schemas.Mesh(
        name=settings.mesh_name,
        version=runtime.product_version,
        namespace=settings.osm_namespace,
        trust_domain=settings.trust_domain,
        namespaces=tuple(sorted(snapshot.workloads.namespaces)),
        proxies=len(runtime.connected()),
    )


@router.get("/config")
def read_config(runtime: CurrentRuntime, snapshot: CurrentSnapshot) -> schemas.Config:
    """The MeshConfig in force with its defaults, feature flags included; spelled as in YAML."""
    settings = runtime.settings
    return schemas.Config(
        name=settings.osm_config_name,
        namespace=settings.osm_namespace,
        spec=written(snapshot.config),
    )


@router.get("/certificates")
def list_certificates(runtime: CurrentRuntime) -> list[schemas.Certificate]:
    """Certificates this replica uses, sorted by name; never a key."""
    records = runtime.certificates()
    trusted = _sha256(runtime.trusted_roots()) if records else ""
    return [_certificate(record, trusted) for record in records]


@router.get("/sources")
def list_sources(runtime: CurrentRuntime) -> list[schemas.Source]:
    """How fresh what is known of each kind is, sorted; empty where files are watched."""
    source = runtime.compute.source
    ages = source.staleness_seconds() if isinstance(source, AgingSource) else {}
    return [
        schemas.Source(kind=kind, stale_seconds=seconds) for kind, seconds in sorted(ages.items())
    ]


@router.get("/injections")
def list_injections(
    runtime: CurrentRuntime,
    limit: Annotated[int, Query(ge=1, le=MOST_KEPT)] = 100,
    namespace: str | None = None,
) -> list[schemas.Injection]:
    """What became of the Pods this replica was asked about lately, the newest first."""
    found = [
        decision
        for decision in reversed(runtime.injector.recent())
        if namespace in (None, decision.namespace)
    ]
    return [
        schemas.Injection(
            at=decision.at,
            namespace=decision.namespace,
            pod=decision.pod,
            outcome=decision.outcome,
            reason=decision.reason,
            uuid=decision.uuid,
            dry_run=decision.dry_run,
        )
        for decision in found[:limit]
    ]


def written(spec: MeshConfigSpec) -> dict[str, Any]:
    """The settings as users write them: camelCase, durations such as ``1h30m0s``."""
    found: dict[str, Any] = _plain(spec.model_dump(by_alias=True))
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return _duration(value) if isinstance(value, timedelta) else value


def _duration(value: timedelta) -> str:
    """As Go writes it, ``500ms`` or ``1h0m0s``."""
    seconds, micros = divmod(value // timedelta(microseconds=1), 1_000_000)
    if not seconds:
        return f"{micros / 1000:g}ms" if micros else "0s"
    text = ""
    for size, unit in _UNITS[:-1]:
        count, seconds = divmod(seconds, size)
        text += f"{count}{unit}" if count or text else ""
    return f"{text}{seconds + micros / 1_000_000:g}s"


def _certificate(record: CertificateRecord, trusted: str) -> schemas.Certificate:
    facts = describe(record.certificate_chain)
    return schemas.Certificate(
        name=record.name,
        subject=facts.subject,
        issuer=facts.issuer,
        serial=facts.serial,
        not_before=facts.not_before,
        not_after=facts.not_after,
        renew_at=record.renew_at,
        is_ca=facts.is_ca,
        dns_names=facts.dns_names,
        uris=facts.uris,
        signature_algorithm=facts.signature_algorithm,
        sha256=facts.sha256,
        chain_sha256=_sha256(record.certificate_chain),
        trusted_sha256=trusted,
    )


def _sha256(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()
