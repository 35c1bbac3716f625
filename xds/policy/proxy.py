"""What makes proxies equal, all that equal proxies may do, and the secrets they are given.

Specification: data-plane 5.12 and 7.8. What is true of a single Pod (its name, its address) goes
into its bootstrap, never in here: replicas share everything on this page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from xds.policy.identity import ServiceIdentity
from xds.policy.service import MeshService, Workload
from xds.policy.traffic import Inbound, Outbound


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsParameters:
    """Bounds of the mesh's TLS, versions as Envoy writes them; empty lists mean its defaults."""

    min_version: str = "TLSv1_2"
    max_version: str = "TLSv1_3"
    cipher_suites: tuple[str, ...] = ()
    ecdh_curves: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyProfile:
    """The key of equality: proxies of one profile hold the same resources."""

    identity: ServiceIdentity
    services: tuple[MeshService, ...]
    """Services this workload backs; sorted."""
    scrape: bool
    """True when its metrics may be scraped on the Prometheus listener."""
    workload: Workload


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class ProxyPolicy:
    """All that the proxies of a profile may do."""

    identity: ServiceIdentity
    workload: Workload
    inbound: Inbound
    outbound: Outbound
    tls: TlsParameters
    scrape: bool
    request_metrics: bool
    """Count requests with the labels of both workloads (5.8)."""
    dns_suffix: str = "cluster.local"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """A certificate chain and its private key, PEM; the key never shows in ``repr``."""

    certificate_chain: bytes
    private_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustBundle:
    """Root certificates to accept, PEM, each block ended by a newline (2.1)."""

    roots: bytes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SecretTable:
    """What certificates the mesh has issued to its workloads; lives outside the snapshot."""

    trust: TrustBundle
    workloads: Mapping[ServiceIdentity, KeyPair] = field(repr=False)
