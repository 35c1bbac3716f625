"""The debug server: what the control plane holds, as text and plain HTML for people.

It has no authentication, as the original's: closed unless MeshConfig opens it, and never a key or a
Secret. Specification: kubernetes-surface 8.2.
"""

from __future__ import annotations

import html
import json
import sys
import threading
import traceback
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse

from app.api.mesh import list_certificates, written
from app.controller.runtime import Runtime
from app.deps import CurrentRuntime, CurrentSnapshot, QueryParameters
from app.errors import NotFoundError, SettingError
from xds.protos import to_json
from xds.resource import ResourceKind
from xds.stream.ledger import KindStatus, ProxyStatus

router = APIRouter(tags=["debug"])
_PAGES = ("certs", "xds", "proxy", "namespaces", "feature-flags", "stacks")


@router.get("/debug", response_class=HTMLResponse)
def index() -> HTMLResponse:
    """Links to all pages."""
    links = "".join(f'<li><a href="/debug/{page}">/debug/{page}</a></li>' for page in _PAGES)
    return _page(f"<ul>{links}</ul>")


@router.get("/debug/certs", response_class=PlainTextResponse)
def certificates(runtime: CurrentRuntime) -> PlainTextResponse:
    """One block per certificate in use, sorted by name; never a key."""
    now = datetime.now(UTC)
    blocks = []
    for found in list_certificates(runtime):
        left = found.not_after - now
        lines = [f"---[ {found.name} ]---", f"\t remaining: {left}"]
        fields = found.model_dump(exclude={"name"})
        lines += [f"\t {name}: {_shown(value)}" for name, value in fields.items()]
        blocks.append("\n".join(lines))
    return PlainTextResponse("\n\n".join(blocks) + "\n")


@router.get("/debug/xds", response_class=PlainTextResponse)
def responses(runtime: CurrentRuntime) -> PlainTextResponse:
    """Per proxy and kind: what was sent, taken and refused last, and when; sorted."""
    lines = []
    for status in runtime.ledger.statuses():
        lines.append(f"---[ {status.proxy} ]---")
        lines += [
            f"\t {kind}: {_kind_line(status.kinds[kind])}"
            for kind in ResourceKind
            if kind in status.kinds
        ]
    return PlainTextResponse("\n".join(lines) + "\n")


# The original's name of the parameter has a dash, and "not a number" is 400, not FastAPI's 422.
@router.get("/debug/proxy", response_class=HTMLResponse, response_model=None)
def proxies(runtime: CurrentRuntime, query: QueryParameters) -> HTMLResponse | JSONResponse:
    """The connected proxies; with ``stream-id`` one stream, with ``cfg=true`` its resources."""
    wanted = query.get("stream-id")
    connected = [status for status in runtime.ledger.statuses() if status.gone_at is None]
    if wanted is None:
        return _page(_table(connected))
    if not wanted.isascii() or not wanted.isdigit():
        raise SettingError("stream-id must be a number; /debug/proxy has those that are open")
    for status in connected:
        if str(status.stream_id) == wanted.lstrip("0"):
            is_full = query.get("cfg") == "true"
            return JSONResponse(_resources(runtime, status) if is_full else _stream(status))
    raise NotFoundError(f"no stream {wanted[:20]} is open; /debug/proxy has those that are")


@router.get("/debug/namespaces")
def namespaces(snapshot: CurrentSnapshot) -> dict[str, list[str]]:
    """The monitored namespaces, sorted."""
    return {"namespaces": sorted(snapshot.workloads.namespaces)}


@router.get("/debug/feature-flags")
def feature_flags(snapshot: CurrentSnapshot) -> dict[str, Any]:
    """The feature flags of the MeshConfig in force."""
    flags: dict[str, Any] = written(snapshot.config)["featureFlags"]
    return flags


@router.get("/debug/stacks", response_class=PlainTextResponse)
def stacks() -> PlainTextResponse:
    """What every thread does now."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident, frame in sys._current_frames().items():  # noqa: SLF001 documented for debuggers
        text = "".join(traceback.format_stack(frame))
        parts.append((names.get(ident, "?"), f"---[ {names.get(ident, '?')} ]---\n{text}"))
    return PlainTextResponse("\n".join(text for _, text in sorted(parts)))


def _stream(status: ProxyStatus) -> dict[str, Any]:
    kinds = {
        kind: _kind_fields(status.kinds[kind]) for kind in ResourceKind if kind in status.kinds
    }
    return {"stream": status.stream_id, "proxy": str(status.proxy), "kinds": kinds}


def _resources(runtime: Runtime, status: ProxyStatus) -> dict[str, Any]:
    """Secrets by name only."""
    published = runtime.current(status.proxy)
    kinds: dict[str, Any] = {}
    for kind in sorted(ResourceKind):
        held = () if published is None else published.resources(kind)
        found = sorted(held, key=lambda resource: resource.name)
        kinds[kind] = (
            [resource.name for resource in found]
            if kind is ResourceKind.SDS
            else {resource.name: to_json(resource) for resource in found}
        )
    return {"stream": status.stream_id, "proxy": str(status.proxy), "resources": kinds}


def _kind_fields(status: KindStatus) -> dict[str, str | None]:
    return {
        "sent": status.sent_version,
        "sentAt": _time(status.sent_at),
        "acknowledged": status.acked_version,
        "acknowledgedAt": _time(status.acked_at),
        "rejected": status.rejected_version,
        "rejectedAt": _time(status.rejected_at),
        "rejectedBecause": status.rejected_detail,
    }


def _kind_line(status: KindStatus) -> str:
    fields = {name: value for name, value in _kind_fields(status).items() if value is not None}
    return json.dumps(fields)


def _table(connected: list[ProxyStatus]) -> str:
    now = datetime.now(UTC)
    rows = "".join(
        f"<tr><td>{number}</td><td>{html.escape(str(status.proxy.identity))}</td>"
        f"<td>{html.escape(status.proxy.uuid)}</td><td>{_time(status.connected_at)}</td>"
        f"<td>{now - status.connected_at}</td>"
        f'<td><a href="/debug/proxy?stream-id={status.stream_id}">stream</a> '
        f'<a href="/debug/proxy?stream-id={status.stream_id}&amp;cfg=true">resources</a></td></tr>'
        for number, status in enumerate(connected, start=1)
    )
    heads = ("", "Identity", "UUID", "Connected at", "Age", "")
    head = "".join(f"<th>{text}</th>" for text in heads)
    return f"<p>{len(connected)} connected</p><table><tr>{head}</tr>{rows}</table>"


def _page(body: str) -> HTMLResponse:
    return HTMLResponse(f"<!doctype html><title>Open Service Mesh</title>{body}\n")


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _shown(value: Any) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)
