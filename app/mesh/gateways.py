"""Addresses of the gateways that IngressBackends name: the ready endpoints of Services.

A gateway's Pods need no sidecar, but its namespace must be one of the mesh: others are not seen.
``refresh`` asks at every step; few Services are named. Specification: data-plane 4.7.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet

from app.mesh.services import address_order, is_address
from app.mesh.store import ObjectStore
from app.mesh.table import ObjectTable
from app.objects.core import Endpoints, EndpointSlice
from app.objects.meta import SERVICE_NAME_LABEL
from app.objects.policy import IngressBackend


def gateway_addresses(
    store: ObjectStore, objects: ObjectTable, monitored: AbstractSet[str]
) -> Mapping[str, tuple[str, ...]]:
    """By ``<namespace>/<name>`` of a named Service: its ready addresses, in numeric order."""
    named = sorted(
        {
            (source.namespace, source.name)
            for namespace in monitored
            for backend in objects.all(IngressBackend, namespace)
            for source in backend.spec.sources
            if source.kind == "Service" and source.namespace in monitored
        }
    )
    return {
        f"{namespace}/{name}": tuple(
            sorted(set(_addresses(store, namespace, name)), key=address_order)
        )
        for namespace, name in named
    }


def _addresses(store: ObjectStore, namespace: str, name: str) -> Iterator[str]:
    slices = store.labelled(EndpointSlice, namespace, {SERVICE_NAME_LABEL: name})
    if slices:
        for one in slices:
            for entry in one.endpoints:
                if entry.conditions.is_ready:
                    yield from filter(is_address, entry.addresses)
        return
    found = store.get(Endpoints, namespace, name)
    for subset in found.subsets if found else ():
        yield from (address.ip for address in subset.addresses if is_address(address.ip))
