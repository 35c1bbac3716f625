"""The two containers an injected Pod has besides its own: ``osm-init`` and ``envoy``.

Pure functions to raw containers, exactly as kubernetes-surface 3.5 and 3.6 list them; ``plan``
puts them into the Pod.
"""

from __future__ import annotations

from collections.abc import Iterable

from app.inject.pod import BOOTSTRAP_VOLUME, ENVOY_CONTAINER, ENVOY_UID, INIT_CONTAINER
from app.objects.config import SidecarConfig
from app.objects.meta import RawObject
from xds.policy.bootstrap import ProbeType
from xds.policy.identity import ServiceIdentity

BOOTSTRAP_DIRECTORY = "/etc/envoy"
_LOG_FLUSH_MILLISECONDS = "1000"
_DRAIN_SECONDS = "60"
_OWN_PORTS = (("proxy-admin", 15000), ("proxy-inbound", 15003), ("proxy-metrics", 15010))
_ENVIRONMENT = (
    ("POD_UID", "metadata.uid"),
    ("POD_NAME", "metadata.name"),
    ("POD_NAMESPACE", "metadata.namespace"),
    ("POD_IP", "status.podIP"),
    ("SERVICE_ACCOUNT", "spec.serviceAccountName"),
)


def osm_init(script: str, *, image: str, pull_policy: str, privileged: bool) -> RawObject:
    """The init container that redirects traffic; an empty pull policy is the cluster's."""
    container: RawObject = {
        "name": INIT_CONTAINER,
        "image": image,
        "command": ["/bin/sh"],
        "args": ["-c", script],
        "env": [_from_field("POD_IP", "status.podIP")],
        "securityContext": {
            "privileged": privileged,
            "capabilities": {"add": ["NET_ADMIN"]},
            "runAsNonRoot": False,
            "runAsUser": 0,
        },
    }
    if pull_policy:
        container["imagePullPolicy"] = pull_policy
    return container


def envoy(
    config: SidecarConfig,
    *,
    identity: ServiceIdentity,
    image: str,
    probe_types: Iterable[ProbeType],
    native: bool,
) -> RawObject:
    """The sidecar; natively a restartable init container, else a container with a preStop hook."""
    container: RawObject = {
        "name": ENVOY_CONTAINER,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["envoy"],
        "args": _arguments(config, identity),
        "env": [_from_field(name, path) for name, path in _ENVIRONMENT],
        "ports": [{"name": name, "containerPort": port} for name, port in _ports(probe_types)],
        "resources": config.resources.model_dump(exclude_defaults=True),
        "securityContext": {
            "runAsUser": ENVOY_UID,
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": BOOTSTRAP_VOLUME, "mountPath": BOOTSTRAP_DIRECTORY, "readOnly": True}
        ],
    }
    if native:
        container["restartPolicy"] = "Always"
        container["startupProbe"] = {
            "httpGet": _own_path("/osm-ready"),
            "periodSeconds": 1,
            "failureThreshold": 600,
        }
    elif config.drain_delay:
        container["lifecycle"] = {"preStop": {"httpGet": _own_path("/osm-drain")}}
    return container


def _arguments(config: SidecarConfig, identity: ServiceIdentity) -> list[str]:
    arguments = ["--log-level", config.log_level]
    arguments += ["--config-path", f"{BOOTSTRAP_DIRECTORY}/bootstrap.yaml"]
    arguments += ["--service-cluster", str(identity)]
    if config.concurrency:
        arguments += ["--concurrency", str(config.concurrency)]
    arguments += ["--drain-time-s", _DRAIN_SECONDS]
    # Ready for a hot restart, Envoy ends with its parent: a standalone controller may die alone.
    arguments += ["--disable-hot-restart"]
    # Access logs are shown to people; Envoy's own interval is 10 s.
    return [*arguments, "--file-flush-interval-msec", _LOG_FLUSH_MILLISECONDS]


def _ports(probe_types: Iterable[ProbeType]) -> list[tuple[str, int]]:
    # The readiness listener is always open: /osm-ready and /osm-drain live there.
    wanted = {ProbeType.READINESS, *probe_types}
    return [*_OWN_PORTS, *((f"{kind}-port", kind.port) for kind in ProbeType if kind in wanted)]


def _from_field(name: str, path: str) -> RawObject:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _own_path(path: str) -> RawObject:
    return {"path": path, "port": ProbeType.READINESS.port}
