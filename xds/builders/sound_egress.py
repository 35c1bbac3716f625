"""Traffic to outside in, the same without what Envoy would refuse or read as more; losses are told.

Part of ``sound``: the mesh drops such parts already and tells their author; this page is why a
mistake there costs one name and never a listener. Specification: data-plane appendix C.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import replace
from functools import partial

from xds.builders import names
from xds.policy.egress import EgressHost, EgressStream
from xds.policy.http import HttpMatch

Drop = Callable[[str], None]
Tell = Callable[[str, str], None]
"""Takes the unit and the reason."""
_MAX_PORT = 65535


def sound_stream(stream: EgressStream, known: Container[str], tell: Tell) -> EgressStream | None:
    """The stream with its right names; None where none is left, or it leads nowhere.

    Without names it would take them all.
    """
    drop = partial(tell, names.egress_chain(stream.protocol, stream.port))
    bare = ((name, name.removeprefix("*.")) for name in stream.server_names)
    kept = tuple(name for name, rest in bare if rest and "*" not in rest)
    for name in stream.server_names:
        if name not in kept:
            drop(f"{name!r} is not a server name")
    if stream.cluster not in known:
        drop(f"cluster {stream.cluster} does not exist")
    elif not 0 < stream.port <= _MAX_PORT:
        drop(f"port {stream.port} is not between 1 and {_MAX_PORT}")
    elif kept or not stream.server_names:
        return replace(stream, server_names=kept)
    return None


def sound_host(
    host: EgressHost, known: Container[str], drop: Drop, *, is_match: Callable[[HttpMatch], bool]
) -> EgressHost:
    """The host with the routes that lead somewhere and whose match Envoy takes."""
    routes = []
    for route in host.routes:
        if route.cluster not in known:
            drop(f"cluster {route.cluster} does not exist")
        elif is_match(route.match):
            routes.append(route)
    return replace(host, routes=tuple(routes))
