"""The mesh's DNS server: a process of its own in the node's namespace; answers from a zone file.

Skeleton: signatures are final, bodies follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path


def zone_path(state_dir: Path) -> Path:
    """Where the server reads its zone: ``<state>/dns/zone.json``."""
    raise NotImplementedError


def write_zone(path: Path, names: Mapping[str, Sequence[str]]) -> None:
    """The server answers exactly these names from now on; the file is swapped in one step.

    Names are complete, without final dot (``web.shop.svc.cluster.local``); values are IPv4 addresses, given
    out in turn; an empty sequence is a name without addresses (no error). All else is NXDOMAIN.
    """
    raise NotImplementedError
