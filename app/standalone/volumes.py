"""Files of ConfigMap and Secret volumes on disk, replaced as a kubelet does: by one swap of a link.

A reader, or Envoy watching the directory, sees all old or all new files, never a mix
(kubernetes-surface 3.4).

Skeleton: signatures are final, bodies follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def publish_files(
    directory: Path, files: Mapping[str, bytes], *, uid: int, gid: int, mode: int = 0o644
) -> bool:
    """``directory`` holds exactly these files (links through ``..data``), owned and with modes as given.

    File names are keys of the object: no ``/``. Swapped in one step; False when nothing had to change.
    Mount the directory into sandboxes: a mounted directory sees later swaps.
    """
    raise NotImplementedError
