"""``osm proxy|service|policy``: what the running mesh knows, as the admin API tells it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.client import DEFAULT_API, AdminClient
from app.cli.output import Output, OutputFormat, console, emit_json, emit_rows, fail

Api = Annotated[str, typer.Option(help="admin API of the mesh")]

proxy_app = typer.Typer(help="Connected sidecars.", no_args_is_help=True)
service_app = typer.Typer(help="Services of the mesh.", no_args_is_help=True)
policy_app = typer.Typer(help="Policies in force, and objects that are not.", no_args_is_help=True)


@proxy_app.command("list")
def list_proxies(api: Api = DEFAULT_API, output: Output = OutputFormat.TABLE) -> None:
    """Connected proxies, and whether each has what it was sent."""
    columns = {
        "namespace": "NAMESPACE",
        "pod": "POD",
        "identity": "IDENTITY",
        "uuid": "UUID",
        "in_sync": "IN SYNC",
        "rejected": "REJECTED",
        "connected_at": "CONNECTED",
    }
    emit_rows(AdminClient(api).get("/api/v1/proxies"), columns, output)


@proxy_app.command("get")
def get_proxy(
    query: Annotated[str, typer.Argument(help="Envoy admin path, such as config_dump or stats")],
    pod: Annotated[str, typer.Argument(help="name of the Pod")],
    namespace: Annotated[str, typer.Option("--namespace", "-n")] = "default",
    file: Annotated[Path | None, typer.Option("--file", "-f", help="write there instead")] = None,
    api: Api = DEFAULT_API,
) -> None:
    """Print what the sidecar of a Pod answers on its admin interface."""
    client = AdminClient(api)
    uuid = _uuid_of(client.get("/api/v1/proxies"), namespace, pod)
    text = client.text("GET", f"/api/v1/proxies/{uuid}/envoy/{query}")
    if file is None:
        sys.stdout.write(text)
    else:
        file.write_text(text, encoding="utf-8")


def _uuid_of(proxies: list[dict[str, Any]], namespace: str, pod: str) -> str:
    for proxy in proxies:
        if (proxy["namespace"], proxy["pod"]) == (namespace, pod):
            return str(proxy["uuid"])
    known = ", ".join(f"{p['namespace']}/{p['pod']}" for p in proxies) or "none"
    raise fail(f"Pod {namespace}/{pod} has no connected proxy; connected: {known}")


@service_app.command("list")
def list_services(api: Api = DEFAULT_API, output: Output = OutputFormat.TABLE) -> None:
    """Services of the mesh, one line per port, with who serves them."""
    rows = AdminClient(api).get("/api/v1/services")
    if output is OutputFormat.TABLE:
        for row in rows:
            row["served_by"] = [f"{e['address']}:{e['port']}" for e in row["endpoints"]]
    columns = {
        "namespace": "NAMESPACE",
        "host": "HOST",
        "port": "PORT",
        "target": "TARGET",
        "protocol": "PROTOCOL",
        "addresses": "ADDRESSES",
        "identities": "IDENTITIES",
        "served_by": "ENDPOINTS",
    }
    emit_rows(rows, columns, output)


@policy_app.command("list")
def list_policies(api: Api = DEFAULT_API, output: Output = OutputFormat.TABLE) -> None:
    """Policies in force."""
    policies = AdminClient(api).get("/api/v1/policies")
    if output is OutputFormat.JSON:
        emit_json(policies)
        return
    mode = (
        "permissive: all may call all" if policies["permissive"] else "SMI: TrafficTargets decide"
    )
    console.print(f"{mode}; egress {'open' if policies['egress'] else 'closed'}", highlight=False)
    access = {
        "namespace": "NAMESPACE",
        "name": "TRAFFIC TARGET",
        "sources": "SOURCES",
        "destination": "DESTINATION",
        "requests": "REQUESTS",
        "ports": "PORTS",
    }
    emit_rows(policies["access"], access, output)
    for split in policies["splits"]:
        split["shares"] = [f"{b['service']}={b['weight']}" for b in split["backends"]]
    splits = {"namespace": "NAMESPACE", "name": "TRAFFIC SPLIT", "root": "ROOT", "shares": "SHARES"}
    emit_rows(policies["splits"], splits, output)


@policy_app.command("rejected")
def list_rejected(api: Api = DEFAULT_API, output: Output = OutputFormat.TABLE) -> None:
    """Objects, or parts of them, that are not in force, and what to do."""
    columns = {"where": "WHERE", "field": "FIELD", "code": "CODE", "reason": "REASON"}
    emit_rows(AdminClient(api).get("/api/v1/rejected"), columns, output)
