"""Health probes moved to the sidecar's listeners: the kubelet asks Envoy, Envoy asks the container.

Comes in a copy of a raw Pod, which is edited in place, and its view; goes out what the bootstrap
must answer. The table is kubernetes-surface 3.7. Init containers and ``exec`` probes stay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never
from urllib.parse import quote

from app.errors import InjectionError
from app.inject.pod import Container, ContainerProbe, PodView
from app.objects.meta import RawObject
from xds.policy.bootstrap import Probe, ProbeCheck, ProbeType

_FIELDS = {
    ProbeType.LIVENESS: "livenessProbe",
    ProbeType.READINESS: "readinessProbe",
    ProbeType.STARTUP: "startupProbe",
}
_ACTIONS = {ProbeCheck.HTTPS: "httpGet", ProbeCheck.GRPC: "grpc"}
_PATH_SAFE = "/%:@!$&'()*+,;=~"
"""Left as they are in a path, as the kubelet does; a percent sign begins an escape already."""
_MAX_PORT = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedProbes:
    """What the sidecar answers, and the ports that the kubelet must go on reaching directly."""

    probes: tuple[Probe, ...]
    direct_ports: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    position: int
    probe: Probe
    query: str = ""


def move_probes(pod: RawObject, view: PodView) -> MovedProbes:
    """The Pod's probes ask the sidecar from now on; ``pod`` is edited.

    A listener can pass TLS on to one container only, so where two containers have an HTTPS probe of
    one type, both stay; of several gRPC probes of one type the first moves. Raises
    :class:`InjectionError` for a port that no container names.
    """
    probes: list[Probe] = []
    direct: list[int] = []
    for probe_type in ProbeType:
        found = list(_find(view, probe_type))
        many_https = Counter(f.probe.check for f in found)[ProbeCheck.HTTPS] > 1
        has_grpc = False
        for one in found:
            check = one.probe.check
            if (check is ProbeCheck.HTTPS and many_https) or (
                check is ProbeCheck.GRPC and has_grpc
            ):
                direct.append(one.probe.port)
                continue
            has_grpc = has_grpc or check is ProbeCheck.GRPC
            _edit(pod["spec"]["containers"][one.position][_FIELDS[probe_type]], one)
            probes.append(one.probe)
    return MovedProbes(probes=tuple(probes), direct_ports=tuple(direct))


def _find(view: PodView, probe_type: ProbeType) -> Iterator[_Found]:
    for position, container in enumerate(view.spec.containers):
        written: ContainerProbe | None = getattr(container, f"{probe_type}_probe")
        if written is not None:
            field = f"spec.containers[{position}].{_FIELDS[probe_type]}"
            yield from _read(written, container, probe_type, field=field, position=position)


def _read(
    written: ContainerProbe,
    container: Container,
    probe_type: ProbeType,
    *,
    field: str,
    position: int,
) -> Iterator[_Found]:
    path, query = "/", ""
    if written.http_get is not None:
        action, port = "httpGet", written.http_get.port
        is_https = (written.http_get.scheme or "").upper() == "HTTPS"
        check = ProbeCheck.HTTPS if is_https else ProbeCheck.HTTP
        path, query = _split_path(written.http_get.path or "/", f"{field}.httpGet.path")
    elif written.tcp_socket is not None:
        action, port, check = "tcpSocket", written.tcp_socket.port, ProbeCheck.TCP
    elif written.grpc is not None:
        action, port, check = "grpc", written.grpc.port, ProbeCheck.GRPC
    else:
        return
    probe = Probe(
        container=container.name,
        type=probe_type,
        check=check,
        port=_resolve(port, container, f"{field}.{action}.port"),
        path=path,
        timeout_seconds=max(written.timeout_seconds or 1, 1),
        period_seconds=max(written.period_seconds or 10, 1),
    )
    yield _Found(position=position, probe=probe, query=query)


def _split_path(text: str, field: str) -> tuple[str, str]:
    """The path as the kubelet would send it, and the query with its question mark or ""."""
    path, mark, query = text.partition("#")[0].partition("?")
    if not text.isprintable():
        raise InjectionError(f"{field}: {text!r} has characters that no path may have")
    encoded = quote(path, safe=_PATH_SAFE)
    return (encoded if encoded.startswith("/") else f"/{encoded}"), mark + query


def _resolve(port: int | str, container: Container, field: str) -> int:
    if isinstance(port, str) and not (port.isascii() and port.isdigit()):
        for declared in container.ports:
            if declared.name == port:
                return _bounded(declared.container_port, field)
        raise InjectionError(f"{field}: container {container.name} has no port named {port!r}")
    return _bounded(int(port), field)


def _bounded(port: int, field: str) -> int:
    if not 0 < port <= _MAX_PORT:
        raise InjectionError(f"{field}: {port} is not a port number")
    return port


def _edit(raw: RawObject, found: _Found) -> None:
    probe = found.probe
    match probe.check:
        case ProbeCheck.HTTP:
            raw["httpGet"]["path"] = probe.moved_path + found.query
            raw["httpGet"]["port"] = probe.type.port
        case ProbeCheck.TCP:
            host = raw.pop("tcpSocket").get("host")
            raw["httpGet"] = {"path": probe.moved_path, "port": probe.type.port}
            if host is not None:
                raw["httpGet"]["host"] = host
        case ProbeCheck.HTTPS | ProbeCheck.GRPC:
            raw[_ACTIONS[probe.check]]["port"] = probe.type.port
        case _:
            assert_never(probe.check)
