"""``osm proxy get|set``: the admin interface of one Pod's Envoy.

In a cluster straight to the Pod, through a tunnel that the user's own credentials open: the
controller has no such right and takes no part. On one machine through the admin API.
Specification: kubernetes-surface 7.5.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Final, Protocol
from urllib.parse import urlsplit

import typer

from app.cli.client import AdminClient
from app.cli.cluster import open_cluster
from app.cli.portforward import PodHttp, PodPort, Tunnels
from app.cli.reach import Api, Loopback, reach_of
from app.errors import NotFoundError, SettingError, UnreachableError
from app.objects.meta import PROXY_UUID_LABEL, ObjectRef, RawObject
from xds.policy.identity import is_uuid

ENVOY_PORT: Final = 15000
_OK = range(200, 300)

Query = Annotated[
    str,
    typer.Argument(help="path of Envoy's admin interface, such as config_dump or stats?usedonly"),
]
PodName = Annotated[str, typer.Argument(help="name of the Pod")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="namespace of the Pod")]
File = Annotated[
    Path | None, typer.Option("--file", "-f", help="write there instead of standard output")
]
LocalPort = Annotated[
    int | None,
    typer.Option(
        "--local-port", "-p", help="accepted as the original did; no local port is taken any more"
    ),
]


class Pods(Tunnels, Protocol):
    """The part of ``KubeClient`` that leads to a sidecar."""

    def read(self, ref: ObjectRef) -> RawObject | None:
        """As ``Cluster.read``."""
        ...


def get_proxy(
    context: typer.Context,
    query: Query,
    pod: PodName,
    namespace: Namespace = "default",
    file: File = None,
    _: LocalPort = None,
    api: Api = None,
) -> None:
    """Print what the sidecar of a Pod answers to a GET on its admin interface."""
    _write(_asked(context, "GET", query, pod=(namespace, pod), api=api), file)


def set_proxy(
    context: typer.Context,
    query: Query,
    pod: PodName,
    namespace: Namespace = "default",
    file: File = None,
    _: LocalPort = None,
    api: Api = None,
) -> None:
    """Change the sidecar of a Pod by a POST on its admin interface, such as logging?level=debug."""
    _write(_asked(context, "POST", query, pod=(namespace, pod), api=api), file)


def _asked(
    context: typer.Context, method: str, query: str, *, pod: tuple[str, str], api: str | None
) -> str:
    path = admin_path(query)
    namespace, name = pod
    reach = reach_of(context, api)
    if isinstance(reach, Loopback):
        with AdminClient(reach.url, token=reach.token) as client:
            return through_api(client, method, path, namespace=namespace, pod=name)
    target = PodPort(namespace=namespace, pod=name, port=ENVOY_PORT)
    return through_tunnel(open_cluster(context), method, path, target=target)


def admin_path(query: str) -> str:
    """The path and query to ask Envoy for; raise ``SettingError`` for what is none."""
    parts = urlsplit(query)
    whole = "/" + query.removeprefix("/")
    if parts.scheme or parts.netloc or parts.fragment or len(whole) == 1:
        raise SettingError(f"{query!r} is no path of Envoy's admin interface; try help")
    if not whole.isascii() or any(sign <= " " or sign == "\x7f" for sign in whole):
        raise SettingError(f"{query!r} holds spaces or signs that a URL cannot have; write %20")
    return whole


def through_tunnel(pods: Pods, method: str, path: str, *, target: PodPort) -> str:
    """What the Pod's Envoy answers; raise an error that names what is missing."""
    check_pod(
        pods.read(
            ObjectRef(api_version="v1", kind="Pod", namespace=target.namespace, name=target.pod)
        ),
        target,
    )
    with PodHttp(pods, target) as http:
        answer = http.request(method, path)
    text = answer.body.decode("utf-8", errors="replace")
    if answer.status not in _OK:
        # Envoy adds its whole help to what it does not know.
        words = text.strip().partition("\n")[0].partition(" admin commands are:")[0]
        raise UnreachableError(
            f"Envoy of Pod {target.namespace}/{target.pod} answers {answer.status} to "
            f"{method} {path}: {words} (GET help lists its paths)"
        )
    return text


def check_pod(pod: RawObject | None, target: PodPort) -> None:
    """Raise ``NotFoundError`` or ``UnreachableError`` for a Pod whose sidecar cannot be asked."""
    name = f"{target.namespace}/{target.pod}"
    if pod is None:
        raise NotFoundError(f"there is no Pod {name}; say its namespace with -n")
    uuid = (pod["metadata"].get("labels") or {}).get(PROXY_UUID_LABEL)
    if uuid is None:
        raise NotFoundError(
            f"Pod {name} has no sidecar (no label {PROXY_UUID_LABEL}); "
            "`osm inject --explain` says why"
        )
    if not is_uuid(uuid):
        raise NotFoundError(f"Pod {name}: label {PROXY_UUID_LABEL} is {uuid!r}, which is no UUID")
    phase = (pod.get("status") or {}).get("phase") or "Unknown"
    if phase != "Running":
        raise UnreachableError(f"Pod {name} is {phase}, not Running; wait until it runs")


def through_api(client: AdminClient, method: str, path: str, *, namespace: str, pod: str) -> str:
    """What the Pod's Envoy answers, handed through by the admin API of this machine."""
    if method != "GET":
        raise SettingError(
            "the admin API of this machine hands through GET only; change the sidecar with "
            f"`osm standalone exec {namespace}/{pod} -c envoy -- "
            f"curl -X {method} 'http://127.0.0.1:{ENVOY_PORT}{path}'`"
        )
    uuid = _uuid_of(client.get("/api/v1/proxies"), namespace, pod)
    return client.text(method, f"/api/v1/proxies/{uuid}/envoy{path}")


def _uuid_of(proxies: list[dict[str, Any]], namespace: str, pod: str) -> str:
    for proxy in proxies:
        if (proxy["namespace"], proxy["pod"]) == (namespace, pod):
            return str(proxy["uuid"])
    known = ", ".join(f"{p['namespace']}/{p['pod']}" for p in proxies) or "none"
    raise NotFoundError(f"Pod {namespace}/{pod} has no connected proxy; connected: {known}")


def _write(text: str, file: Path | None) -> None:
    if file is None:
        sys.stdout.write(text)
    else:
        file.write_text(text, encoding="utf-8")
