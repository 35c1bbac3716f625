"""Health, version and metrics, as the original served them on 9091 (kubernetes-surface 8.1).

Health needs no thread of the pool: it answers however busy the others are.
"""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from app.api.schemas import Health, Version
from app.deps import CurrentRuntime
from app.metrics import CONTENT_TYPE

router = APIRouter(tags=["health"])
_UNAVAILABLE = 503
_SMI = {
    "TrafficTarget": "access.smi-spec.io/v1alpha3",
    "HTTPRouteGroup": "specs.smi-spec.io/v1alpha4",
    "TCPRoute": "specs.smi-spec.io/v1alpha4",
    "TrafficSplit": "split.smi-spec.io/v1alpha2",
}


@router.get("/health/alive")
@router.get("/healthz")
async def alive() -> Health:
    """The event loop answers."""
    return Health(status="alive")


@router.get("/health/ready", responses={_UNAVAILABLE: {"model": Health}})
async def ready(runtime: CurrentRuntime, response: Response) -> Health:
    """Whether objects are read, certificates loaded, ADS listening; 503 with reasons if not."""
    reasons = runtime.not_ready()
    if reasons:
        response.status_code = _UNAVAILABLE
        return Health(status="not ready", reasons=reasons)
    return Health(status="ready")


@router.get("/version")
def read_version(runtime: CurrentRuntime) -> Version:
    """Which build answers for which mesh."""
    return Version(
        version=runtime.product_version,
        mesh_name=runtime.settings.mesh_name,
        git_commit=runtime.settings.git_commit,
        build_date=runtime.settings.build_date,
    )


@router.get("/smi/version")
def read_smi_versions() -> dict[str, str]:
    """The SMI kinds that are read, and in which version."""
    return dict(_SMI)


@router.get("/metrics", response_class=PlainTextResponse)
def read_metrics(runtime: CurrentRuntime) -> Response:
    """Metrics of the control plane as Prometheus text."""
    return Response(runtime.metrics.render(), media_type=CONTENT_TYPE)
