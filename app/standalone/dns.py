"""The mesh's names: the zone file, and the server that answers from it (nameserver.py).

The server is a process in the node's namespace that outlives the controller; both meet in one file,
replaced in one step. Called by kubelet.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from app.objects.meta import ObjectKey, ObjectKind
from app.standalone import files, nameserver
from app.standalone.network import Node
from app.standalone.process import Mount, Place, Processes, Program, Running

DNS_POD = ObjectKey(kind=ObjectKind.POD, namespace="", name="node")
"""Under this key the server is recorded and adopted; no Pod of a user has an empty namespace."""
_NOBODY = 65534


def zone_path(state_dir: Path) -> Path:
    """Where the server reads its zone: ``<state>/dns/zone.json``."""
    return state_dir / "dns" / "zone.json"


def write_zone(path: Path, names: Mapping[str, Sequence[str]]) -> None:
    """The server answers exactly these names from now on; the file is swapped in one step.

    Names are complete, without final dot (``web.shop.svc.cluster.local``); values are IPv4
    addresses, given out in turn; an empty sequence is a name without addresses (no error). All else
    is NXDOMAIN.
    """
    content = {"names": {name: list(names[name]) for name in sorted(names)}}
    files.replace(path, json.dumps(content, indent=1), mode=0o644)


def start_server(node: Node, processes: Processes, state_dir: Path) -> Running:
    """The server listens on ``node.dns_address``, or will within milliseconds.

    For a node without one: first look for ``DNS_POD`` among the adopted. When it ends (``Exited``
    of ``DNS_POD``), call this again.
    """
    script = Path(nameserver.__file__)
    zone = zone_path(state_dir)
    zone.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    zone.parent.chmod(
        0o755
    )  # its own user enters, through the mount; the state directory is closed
    place = Place(
        pod=DNS_POD,
        namespace=node.namespace,
        address=node.dns_address,
        hostname="dns",
        nameserver=node.dns_address,
        search=(),
    )
    program = Program(
        name="dns",
        argv=("python3", "-I", "-S", str(script), node.dns_address, "/zone/zone.json"),
        uid=_NOBODY,
        gid=_NOBODY,
        mounts=(Mount(source=zone.parent, target="/zone"),),
        visible=(script,),
    )
    return processes.start(place, program)
