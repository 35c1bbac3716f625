"""``osm proxy|service|policy``: what the running mesh knows, as the admin API tells it.

``osm proxy get|set`` ask the sidecar itself: ``app/cli/envoy.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import typer

from app.cli.client import AdminClient
from app.cli.envoy import get_proxy, set_proxy
from app.cli.explain_call import check_conflicts, check_pods
from app.cli.output import Output, OutputFormat, console, emit_json, emit_rows, warn
from app.cli.reach import Api, AsServiceAccount, open_admin, open_admins
from app.errors import AppError, NotFoundError, UnreachableError

proxy_app = typer.Typer(help="Connected sidecars, and what each answers.", no_args_is_help=True)
service_app = typer.Typer(help="Services of the mesh.", no_args_is_help=True)
policy_app = typer.Typer(help="Policies in force, and objects that are not.", no_args_is_help=True)

policy_app.command("check-pods")(check_pods)
policy_app.command("check-conflicts")(check_conflicts)
proxy_app.command("get")(get_proxy)
proxy_app.command("set")(set_proxy)


@proxy_app.command("list")
def list_proxies(
    context: typer.Context,
    api: Api = None,
    account: AsServiceAccount = None,
    output: Output = OutputFormat.TABLE,
) -> None:
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
    emit_rows(all_proxies(open_admins(context, api, account)), columns, output)


def all_proxies(controllers: Iterable[AdminClient]) -> list[dict[str, Any]]:
    """Proxies of all replicas, sorted: each knows those that are connected to it.

    A replica that does not answer is left out with a warning, unless none does: then its error is
    raised.
    """
    newest: dict[str, dict[str, Any]] = {}
    answered = False
    last: AppError = UnreachableError("there is no controller")
    for controller in controllers:
        with controller:
            try:
                proxies = controller.get("/api/v1/proxies")
            except (UnreachableError, NotFoundError) as error:  # its Pod may have just ended
                last = error
                warn(f"{error}; proxies connected there are missing below")
                continue
        answered = True
        for proxy in proxies:
            # One that moves from replica to replica may be told by both for a moment.
            known = newest.get(proxy["uuid"])
            if known is None or proxy["connected_at"] > known["connected_at"]:
                newest[proxy["uuid"]] = proxy
    if not answered:
        raise last
    return sorted(newest.values(), key=lambda p: (p["namespace"], p["pod"] or "", p["uuid"]))


@service_app.command("list")
def list_services(
    context: typer.Context,
    api: Api = None,
    account: AsServiceAccount = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Services of the mesh, one line per port, with who serves them."""
    with open_admin(context, api, account) as client:
        rows = client.get("/api/v1/services")
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
def list_policies(
    context: typer.Context,
    api: Api = None,
    account: AsServiceAccount = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Policies in force."""
    with open_admin(context, api, account) as client:
        policies = client.get("/api/v1/policies")
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
    if policies["denials"]:
        emit_rows(policies["denials"], {**access, "name": "TRAFFIC DENY"}, output)
    for split in policies["splits"]:
        split["shares"] = [f"{b['service']}={b['weight']}" for b in split["backends"]]
        if split["requests"] is None:
            split["requests"] = ["all"]
    splits = {
        "namespace": "NAMESPACE",
        "name": "TRAFFIC SPLIT",
        "root": "ROOT",
        "requests": "REQUESTS",
        "shares": "SHARES",
    }
    emit_rows(policies["splits"], splits, output)


@policy_app.command("rejected")
def list_rejected(
    context: typer.Context,
    api: Api = None,
    account: AsServiceAccount = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Objects, or parts of them, that are not in force, and what to do."""
    columns = {"where": "WHERE", "field": "FIELD", "code": "CODE", "reason": "REASON"}
    with open_admin(context, api, account) as client:
        emit_rows(client.get("/api/v1/rejected"), columns, output)
