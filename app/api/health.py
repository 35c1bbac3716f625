"""Health, version and metrics, as the original served them on 9091 (kubernetes-surface 8.1)."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from app.api.schemas import Health, Version
from app.deps import CurrentRuntime
from app.metrics import CONTENT_TYPE

router = APIRouter(tags=["health"])
_UNAVAILABLE = 503


@router.get("/health/alive")
@router.get("/healthz")
def alive() -> Health:
    """The event loop answers."""
    return Health(status="alive")


@router.get("/health/ready", responses={_UNAVAILABLE: {"model": Health}})
def ready(runtime: CurrentRuntime, response: Response) -> Health:
    """Whether objects are read, certificates loaded, ADS listening; 503 with reasons if not."""
    reasons = runtime.not_ready()
    if reasons:
        response.status_code = _UNAVAILABLE
        return Health(status="not ready", reasons=reasons)
    return Health(status="ready")


@router.get("/version")
def read_version(runtime: CurrentRuntime) -> Version:
    """Which build answers for which mesh."""
    return Version(version=version("openservicemesh"), mesh_name=runtime.settings.mesh_name)


@router.get("/metrics", response_class=PlainTextResponse)
def read_metrics(runtime: CurrentRuntime) -> Response:
    """Metrics of the control plane as Prometheus text."""
    return Response(runtime.metrics.render(), media_type=CONTENT_TYPE)
