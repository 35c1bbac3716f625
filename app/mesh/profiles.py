"""From a connected proxy to the Pod behind it, and to the profile that decides its resources.

A :class:`ProxyId` from a client certificate comes in; ``controller/publish`` asks. Proxies of one
profile hold the same resources, so what is true of a single Pod (its name, address, UUID) is not in
a profile. Specification: data-plane 3.5, 7.2 and 7.8.
"""

from __future__ import annotations

from enum import StrEnum

from app.mesh.snapshot import MeshPod, Workloads
from xds.policy.identity import ProxyId
from xds.policy.proxy import ProxyProfile


class Stranger(StrEnum):
    """Why no Pod stands behind a proxy."""

    UNKNOWN_POD = "no Pod of the mesh carries its UUID"
    """It may be created a moment later."""
    TWINS = "several Pods carry its UUID"
    WRONG_ACCOUNT = "the Pod with its UUID runs as another service account"


def find_pod(workloads: Workloads, proxy: ProxyId) -> MeshPod | Stranger:
    """The one Pod, in the certificate's namespace and account, that carries the proxy's UUID."""
    if proxy.uuid in workloads.duplicate_uuids:
        return Stranger.TWINS
    pod = workloads.pods.get(proxy.uuid)
    if pod is None or pod.namespace != proxy.identity.namespace:
        return Stranger.UNKNOWN_POD
    return pod if pod.identity == proxy.identity else Stranger.WRONG_ACCOUNT


def profile_of(pod: MeshPod) -> ProxyProfile:
    """What the Pod's proxy shares with its replicas."""
    return ProxyProfile(
        identity=pod.identity, services=pod.services, scrape=pod.scrape, workload=pod.workload
    )
