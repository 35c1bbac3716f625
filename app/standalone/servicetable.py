"""Services in step with Pods: Endpoints objects, ClusterIP forwards, the DNS zone.

The kubelet calls ``sync`` after every change; a Pod's worker calls it before it waits for the Pod's
withdrawal.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from app.compute.declared import RawKey, Stored
from app.objects.core import Service
from app.objects.meta import ObjectKey, ObjectKind, RawObject
from app.standalone.dns import write_zone, zone_path
from app.standalone.machine import Machine
from app.standalone.services import Backend, backends, endpoints_of, forwards, zone


class ServiceTable:
    """What follows from Services and Pods; any thread may call it."""

    def __init__(self, machine: Machine, state_dir: Path) -> None:
        self._machine = machine
        self._zone_path = zone_path(state_dir)
        self._lock = threading.Lock()
        self._zone: Mapping[str, tuple[str, ...]] | None = None
        self._known: set[ObjectKey] = set()

    def sync(self) -> None:
        """Endpoints first, since proxies read them; then what Pods without a sidecar use."""
        with self._lock:
            objects = self._machine.objects
            services = [
                s.object for s in objects.objects("Service") if isinstance(s.object, Service)
            ]
            pods = backends(stored.raw for stored in objects.objects("Pod"))
            self._write_endpoints(services, pods)
            self._machine.network.forward(forwards(services, pods))
            self._write_zone(services, pods)
            self._release(services)

    def _write_endpoints(self, services: list[Service], pods: tuple[Backend, ...]) -> None:
        objects = self._machine.objects
        wanted = {RawKey.of(e): e for s in services if (e := endpoints_of(s, pods)) is not None}
        for stored in objects.objects("Endpoints"):
            if stored.key not in wanted and stored.document is None:
                objects.delete(_endpoints_key(stored))
        for key, endpoints in wanted.items():
            found = objects.find(key)
            if found is None or found.raw.get("subsets") != endpoints["subsets"]:
                objects.replace(_with_metadata(endpoints, found))

    def _write_zone(self, services: list[Service], pods: tuple[Backend, ...]) -> None:
        names = zone(
            services,
            pods,
            dns_suffix=self._machine.dns_suffix,
            control_plane=self._machine.control_plane,
        )
        if names != self._zone:
            write_zone(self._zone_path, names)
            self._zone = names

    def _release(self, services: list[Service]) -> None:
        known = {
            ObjectKey(kind=ObjectKind.SERVICE, namespace=s.namespace, name=s.name) for s in services
        }
        for gone in sorted(self._known - known):
            self._machine.network.release_service_address(gone)
        self._known = known


def _endpoints_key(stored: Stored) -> ObjectKey:
    return ObjectKey(
        kind=ObjectKind.ENDPOINTS, namespace=stored.key.namespace, name=stored.key.name
    )


def _with_metadata(endpoints: RawObject, found: Stored | None) -> RawObject:
    """The same object goes on, with new subsets."""
    return endpoints if found is None else {**endpoints, "metadata": found.raw["metadata"]}
