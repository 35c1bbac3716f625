"""``osm explain`` and ``osm policy check-pods|check-conflicts``: who may call whom, and why.

Asked of the admin API. Exit status 0: allowed; 2: not. Specification: kubernetes-surface 7.4, 8.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from app.cli.output import Output, OutputFormat, emit_json, say
from app.cli.reach import Api, AsServiceAccount, open_admin
from app.errors import SettingError

NOT_ALLOWED = 2
_SIGNS = {"ok": "✓", "failed": "✗", "unknown": "?"}
_PASSING = frozenset({"allowed", "would be denied"})
_CONFLICTING = "IngressBackend"


def explain(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="FROM", help="namespace/workload that calls")],
    to: Annotated[str, typer.Argument(help="namespace/service, or host:port outside the mesh")],
    port: Annotated[int | None, typer.Option("--port", "-p", help="port of the Service")] = None,
    method: Annotated[str, typer.Option("--method", "-X", help="HTTP method")] = "GET",
    path: Annotated[str, typer.Option("--path", help="HTTP path")] = "/",
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", help="name:value, may be repeated")
    ] = None,
    api: Api = None,
    account: AsServiceAccount = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """May one workload call another, and why, step by step; status 2: it may not."""
    asked: list[tuple[str, str]] = [("from", source), ("to", to), ("method", method)]
    asked += [("path", path), *(("header", one) for one in header or ())]
    asked += [("port", str(port))] if port is not None else []
    with open_admin(context, api, account) as client:
        found = client.get(f"/api/v1/explain?{urlencode(asked)}")
    if output is OutputFormat.JSON:
        emit_json(found)
    else:
        for line in lines(found):
            say(line)
    if found["outcome"] not in _PASSING:
        raise typer.Exit(NOT_ALLOWED)


def check_pods(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SRC", help="namespace/pod that calls")],
    to: Annotated[str, typer.Argument(metavar="DST", help="namespace/pod that is called")],
    api: Api = None,
    account: AsServiceAccount = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Which TrafficTargets let one Pod call another; status 2: none does."""
    asked = {"from": with_namespace(source), "to": with_namespace(to)}
    with open_admin(context, api, account) as client:
        found = client.get(f"/api/v1/explain/pods?{urlencode(asked)}")
    if output is OutputFormat.JSON:
        emit_json(found)
    else:
        for line in pod_lines(found, asked["from"], asked["to"]):
            say(line)
    if not found["allowed"]:
        raise typer.Exit(NOT_ALLOWED)


def check_conflicts(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(help=_CONFLICTING)],
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="namespace to look at")],
    api: Api = None,
    account: AsServiceAccount = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Objects of a namespace that claim the same."""
    if kind.lower() != _CONFLICTING.lower():
        raise SettingError(f"{kind}: only {_CONFLICTING} is checked for conflicts")
    with open_admin(context, api, account) as client:
        answer = client.get(f"/api/v1/conflicts?{urlencode({'namespace': namespace})}")
    found = [one for one in answer if one["first"]["kind"] == _CONFLICTING]
    if output is OutputFormat.JSON:
        emit_json(found)
    elif not found:
        say(f"No conflicts among {_CONFLICTING} objects in namespace {namespace}")
    else:
        for one in found:
            say(str(one["message"]))


def with_namespace(pod: str) -> str:
    """``namespace/pod``; the namespace is ``default`` where there is none."""
    namespace, slash, name = pod.rpartition("/")
    if not name or "/" in namespace or (slash and not namespace):
        raise SettingError(f"{pod!r}: write POD or NAMESPACE/POD")
    return f"{namespace or 'default'}/{name}"


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The walk for people."""
    yield f"{found['source']} → {found['to']}: {found['request']}"
    for step in found["steps"]:
        yield f"  {_SIGNS[step['check']]} {step['what']}: {step['sentence']}"
        yield from (f"      {one['where']}" for one in step["objects"] if _is_file(one))
    yield f"{found['outcome']}: the client sees {found['seen']}"
    if found["remedy"]:
        yield f"to change that: {found['remedy']}"


def pod_lines(found: Mapping[str, Any], source: str, to: str) -> Iterator[str]:
    """What ``check-pods`` says."""
    if found["permissive"]:
        yield f"Pod [{source}] is allowed to communicate to pod [{to}] in permissive mode"
        return
    for one in found["targets"]:
        yield (
            f"Pod [{source}] is allowed to communicate to pod [{to}] via the SMI TrafficTarget "
            f"policy [{one['name']}] in namespace [{one['namespace']}]"
        )
    if not found["targets"]:
        yield f"Pod [{source}] is not allowed to communicate to pod [{to}], missing TrafficTarget"


def _is_file(place: Mapping[str, Any]) -> bool:
    """True for ``file:line``; else it says no more than the sentence."""
    return not str(place["where"]).startswith(str(place["kind"]))
