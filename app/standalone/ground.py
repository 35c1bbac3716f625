"""The node's own namespace, its link to the host, two routes there: made, recognized, removed.

    host ── osm-<mesh> ══ eth0 ┌─ osm-<mesh>@node ──────┐
             10.44.0.1   .2    │ br0 10.42.0.1          │
                               └────────────────────────┘

What is about to be made is written to ``<state>/node.json`` first, so a crash at any point leaves a
record that is not ``complete``, and the next start begins anew. Called by network.py.
"""

from __future__ import annotations

import hashlib
import json
from ipaddress import IPv4Network
from pathlib import Path

from app.errors import RightsError, SettingError
from app.standalone import files, namespaces
from app.standalone.subnets import Subnets, candidates, routed

_NODE_SYSCTLS = (
    ("net/ipv4/ip_forward", "1"),
    # All Pods are behind one interface, so the node would tell them to talk directly, past the
    # rules.
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
    # Else the rules act on frames within the bridge, and a Pod cannot reach itself by a ClusterIP.
    ("net/bridge/bridge-nf-call-iptables", "0"),
    # Containers do not run as root, and a server may well listen on port 53 or 80.
    ("net/ipv4/ip_unprivileged_port_start", "0"),
)
_LONGEST_LINK = 15
"""IFNAMSIZ, less the final zero byte."""


def node_namespace(mesh: str) -> str:
    """Name of the node's network namespace."""
    return f"{prefix(mesh)}node"


def prefix(mesh: str) -> str:
    """What all namespaces of the mesh begin with, and none of another mesh.

    No mesh, namespace or Pod name holds "@", so mesh "a" never takes what belongs to mesh "a-b".
    """
    return f"osm-{mesh}@"


def link_name(mesh: str) -> str:
    """Name of the host's end of the link, at most 15 characters as Linux wants it."""
    name = f"osm-{mesh}"
    if len(name) <= _LONGEST_LINK:
        return name
    return f"osm-{hashlib.sha256(mesh.encode()).hexdigest()[:10]}"


def refuse_other_owner(mesh: str, state_dir: Path) -> None:
    """Raise ``SettingError`` when the mesh is up with another state directory that still exists."""
    for link in _links(link_name(mesh)):
        owner = Path(link.get("ifalias", ""))
        if owner.is_absolute() and owner != state_dir.resolve() and _record(owner).exists():
            raise SettingError(
                f"mesh {mesh} is already up with the state directory {owner}: give this one,"
                f" or stop that one first (osm standalone down --state-dir {owner})"
            )


def recognize(mesh: str, state_dir: Path) -> Subnets | None:
    """The ranges of the node that is there, whole and of this boot; None when there is none."""
    record = files.read_json(_record(state_dir))
    known = (record.get("mesh"), record.get("boot"), record.get("complete"))
    if known != (mesh, files.boot_id(), True) or not namespaces.exists(node_namespace(mesh)):
        return None
    subnets = Subnets(**{name: IPv4Network(cidr) for name, cidr in record["subnets"].items()})
    link = link_name(mesh)
    if not _links(link):
        return None
    ours = {
        route["dst"]
        for route in json.loads(namespaces.run("ip", "-j", "route", "show", "dev", link))
    }
    return subnets if {str(subnets.pods), str(subnets.services)} <= ours else None


def make(mesh: str, state_dir: Path) -> Subnets:
    """The node is there, on the first ranges that are free; nothing of it may exist before.

    Raise ``RightsError`` when no range is free or the kernel refuses a step.
    """
    directory = namespaces.directory()
    for subnets in candidates(_taken()):
        record = {
            "mesh": mesh,
            "boot": files.boot_id(),
            "directory": directory,
            "subnets": {name: str(getattr(subnets, name)) for name in ("pods", "services", "link")},
        }
        files.replace(_record(state_dir), json.dumps(record))
        _make_namespace(mesh, state_dir, subnets)
        if _add_routes(link_name(mesh), subnets):
            files.replace(_record(state_dir), json.dumps({**record, "complete": True}))
            return subnets
        remove(mesh, state_dir)  # another mesh took the range since we looked
    raise RightsError("no private address range is free: the host's routes cover all of them")


def remove(mesh: str, state_dir: Path) -> None:
    """Namespaces, link, routes and record are gone, whether or not they existed."""
    namespaces.settle()
    names = namespaces.names(prefix(mesh))
    for name in names:
        namespaces.kill_processes(name)
    # First the link: with the namespace alone it would go too, but only some time later.
    delete_link(link_name(mesh))
    for name in names:
        namespaces.delete(name)
    namespaces.restore_directory(files.read_json(_record(state_dir)).get("directory", "mounted"))
    _record(state_dir).unlink(missing_ok=True)


def delete_link(name: str) -> None:
    """The link is gone from the namespace of the calling thread, whether or not it existed."""
    if _links(name):
        namespaces.run("ip", "link", "del", name)


def _make_namespace(mesh: str, state_dir: Path, subnets: Subnets) -> None:
    node, link = node_namespace(mesh), link_name(mesh)
    namespaces.create(node)
    namespaces.batch(
        [
            f"link add {link} type veth peer name eth0 netns {node}",
            f'link set {link} alias "{state_dir.resolve()}"',
            f"link set {link} addrgenmode none up",
            f"address add {subnets.host}/{subnets.link.prefixlen} dev {link}",
        ]
    )
    namespaces.inside(node, lambda: namespaces.write_sysctls(_NODE_SYSCTLS))
    commands = [
        "link set lo up",
        "link set eth0 addrgenmode none up",
        f"address add {subnets.node}/{subnets.link.prefixlen} dev eth0",
        # With an address of its own the bridge keeps it when ports come and go.
        "link add br0 address 02:42:00:00:00:01 type bridge stp_state 0 forward_delay 0",
        "link set br0 addrgenmode none up",
        f"address add {subnets.gateway}/{subnets.pods.prefixlen} dev br0",
        # Never taken: the rules turn or refuse before, but nothing gets there without a route.
        f"route add {subnets.services} dev br0",
    ]
    namespaces.inside(node, lambda: namespaces.batch(commands))


def _add_routes(link: str, subnets: Subnets) -> bool:
    """The host reaches Pods and ClusterIPs; False when somebody has routes to the same ranges."""
    try:
        namespaces.batch(
            f"route add {destination} via {subnets.node} dev {link} src {subnets.host}"
            for destination in (subnets.pods, subnets.services)
        )
    except RightsError as refused:
        if "File exists" in str(refused):
            return False
        raise
    return True


def _taken() -> tuple[IPv4Network, ...]:
    routes = json.loads(namespaces.run("ip", "-4", "-j", "route", "show", "table", "all"))
    return routed(route["dst"] for route in routes)


def _links(name: str) -> list[dict[str, str]]:
    """The link in the namespace of the calling thread; empty when there is none."""
    links: list[dict[str, str]] = json.loads(namespaces.run("ip", "-j", "link", "show") or "[]")
    return [link for link in links if link["ifname"] == name]


def _record(state_dir: Path) -> Path:
    return state_dir / "node.json"
