"""Both webhooks of a control plane on one machine, behind TLS as a controller opens them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from app.certs.x509 import SigningRoot, new_root
from app.compute.local import LocalObjects
from app.controller.runtime import Runtime
from app.listeners import HttpServer, Listener
from app.main import body_budget, create_injection, create_validation
from app.ports import CertificateRequest, Compute
from app.settings import Settings
from app.standalone.admission import Admission

_NOW = datetime.now(UTC)
_ROOT = new_root(now=_NOW)
ROOTS = _ROOT.certificate_chain
"""By which clients know the listeners, as ``localhost``."""
_MESH_CONFIG = ("osm-system", "osm-mesh-config")
_MOST_CONNECTIONS = 512


@contextlib.contextmanager
def serving(folders: Sequence[Path], state: Path) -> Iterator[HttpServer]:
    """The listeners ``injector`` and ``validator`` of a mesh of the objects in these folders."""
    objects = LocalObjects(
        folders, admit=Admission(lambda _: "10.43.0.1", mesh_config=_MESH_CONFIG)
    )
    objects.load()
    runtime = Runtime(
        Settings(ads_host="127.0.0.1", ads_port=0, state_dir=state),
        Compute(source=objects, writer=objects, envoy_admin=None),
    )
    runtime.start()
    request = CertificateRequest(
        common_name="localhost", dns_names=("localhost",), lifetime=timedelta(hours=1)
    )
    pair = SigningRoot.parse(_ROOT, now=_NOW, where="here").issue(request, now=_NOW).key_pair
    server, budget = HttpServer(), body_budget()
    server.start()
    try:
        for name, create in (("injector", create_injection), ("validator", create_validation)):
            server.open(
                Listener(
                    name=name,
                    app=create(runtime, budget),
                    host="127.0.0.1",
                    port=0,
                    option="",
                    certificate=lambda: pair,
                    most_connections=_MOST_CONNECTIONS,
                )
            )
        yield server
    finally:
        server.stop()
        runtime.stop()


def port_of(server: HttpServer, name: str) -> int:
    """The port of a listener."""
    return int(server.url(name).rpartition(":")[2])
