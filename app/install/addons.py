"""Prometheus, Grafana and Jaeger: which of them somebody wants, and the values for them.

Each object of ``manifests/observability`` has the name of its add-on as the label ``app``. Pure;
called by ``app.install.render`` and ``app.install.preset``. Specification: kubernetes-surface 6.4
and 6.7.
"""

from __future__ import annotations

from typing import Final

import yaml

from app.install.pods import fill_pod, fill_resources
from app.install.values import AddOn, OsmValues, Port
from app.objects.meta import RawObject

PROMETHEUS: Final = "osm-prometheus"
GRAFANA: Final = "osm-grafana"
JAEGER: Final = "jaeger"

_DATASOURCES = "osm-grafana-datasources"
_DATASOURCES_KEY = "prometheus.yaml"
_DEFAULT_PORT = 7070
_RENDERER_PORT = 8081


def is_deployed(addon: str, osm: OsmValues) -> bool:
    """True when somebody wants the add-on."""
    wanted = {
        PROMETHEUS: osm.deploy_prometheus,
        GRAFANA: osm.deploy_grafana,
        JAEGER: osm.deploy_jaeger,
    }
    return wanted[addon]


def addon_of(raw: RawObject) -> str | None:
    """The add-on that the object is a part of; None for what belongs to the control plane."""
    app = (raw["metadata"].get("labels") or {}).get("app")
    return app if app in (PROMETHEUS, GRAFANA, JAEGER) else None


def prometheus_url(osm: OsmValues, namespace: str = "") -> str:
    """Where the Prometheus of the mesh answers; without a namespace: to its neighbours."""
    host = f"{PROMETHEUS}.{namespace}.svc.cluster.local" if namespace else PROMETHEUS
    return f"http://{host}:{osm.prometheus.port or _DEFAULT_PORT}"


def fill_addon(raw: RawObject, addon: str, osm: OsmValues) -> None:
    """The object has the values that somebody set."""
    match raw["kind"]:
        case "ClusterRole" | "ClusterRoleBinding":
            _name_like_the_mesh(raw, osm.mesh_name)
        case "Service":
            _fill_service(raw, addon, osm)
        case "Deployment":
            _fill_deployment(raw, addon, osm)
        case "ConfigMap" if raw["metadata"]["name"] == _DATASOURCES:
            _fill_datasources(raw, osm)


def _name_like_the_mesh(raw: RawObject, mesh: str) -> None:
    """Two meshes of a cluster must not share what is cluster-wide."""
    for named in (raw["metadata"], raw.get("roleRef", {})):
        if named.get("name") == PROMETHEUS:
            named["name"] = f"{mesh}-{PROMETHEUS.removeprefix('osm-')}"


def _values_of(addon: str, osm: OsmValues) -> tuple[AddOn, Port | None]:
    match addon:
        case "osm-prometheus":
            return osm.prometheus, osm.prometheus.port
        case "osm-grafana":
            return osm.grafana, osm.grafana.port
    return osm.tracing, osm.tracing.port


def _fill_service(raw: RawObject, addon: str, osm: OsmValues) -> None:
    """The port is that of the Service; containers keep theirs, which it finds by name."""
    ports = raw["spec"]["ports"]
    _, port = _values_of(addon, osm)
    if port is not None:
        ports[0]["port"] = port
    if addon == GRAFANA and osm.grafana.enable_remote_rendering:
        renderer = {"name": "grafana-renderer", "port": _RENDERER_PORT, "targetPort": "renderer"}
        ports.append({**renderer, "protocol": "TCP"})


def _fill_deployment(raw: RawObject, addon: str, osm: OsmValues) -> None:
    values, _ = _values_of(addon, osm)
    pod = raw["spec"]["template"]["spec"]
    fill_pod(
        pod,
        affinity=values.affinity,
        nodeSelector=values.node_selector,
        tolerations=values.tolerations,
        imagePullSecrets=osm.image_pull_secrets,
    )
    container = pod["containers"][0]
    if values.image is not None:
        container["image"] = values.image
    if addon == PROMETHEUS:
        fill_resources(container, osm.prometheus.resources)
        if osm.prometheus.retention.time is not None:
            option = "--storage.tsdb.retention.time="
            rest = [arg for arg in container["args"] if not arg.startswith(option)]
            container["args"] = [*rest, f"{option}{osm.prometheus.retention.time}"]
    if addon == GRAFANA and osm.grafana.enable_remote_rendering:
        _add_renderer(pod, osm.grafana.renderer_image)


def _add_renderer(pod: RawObject, image: str) -> None:
    """A browser beside Grafana makes pictures of its panels; both talk over loopback."""
    grafana = pod["containers"][0]
    grafana["env"] = [
        {"name": "GF_RENDERING_SERVER_URL", "value": f"http://127.0.0.1:{_RENDERER_PORT}/render"},
        {"name": "GF_RENDERING_CALLBACK_URL", "value": "http://127.0.0.1:3000/"},
    ]
    pod["containers"].append(
        {
            "name": "renderer",
            "image": image,
            "imagePullPolicy": grafana["imagePullPolicy"],
            "ports": [{"name": "renderer", "containerPort": _RENDERER_PORT, "protocol": "TCP"}],
            "resources": {
                "requests": {"cpu": "100m", "memory": "128M"},
                "limits": {"cpu": "1", "memory": "1G"},
            },
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            },
        }
    )


def _fill_datasources(raw: RawObject, osm: OsmValues) -> None:
    if osm.prometheus.port is None:
        return
    config = yaml.safe_load(raw["data"][_DATASOURCES_KEY])
    for source in config["datasources"]:
        source["url"] = prometheus_url(osm)
    raw["data"][_DATASOURCES_KEY] = yaml.safe_dump(config, sort_keys=False)
