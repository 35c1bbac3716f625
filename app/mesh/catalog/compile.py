"""What each profile may do: ``compile_policy``, and ``Catalog`` for many profiles.

Comes in: ``MeshSnapshot`` and ``ProxyProfile``. Goes out: ``ProxyPolicy``, the input of the
builders. A policy depends on the profile and on the snapshot's config, issuers, services, rules
and policies, never on endpoints; so one ``Catalog`` serves every snapshot that has the same of
these parts (data-plane 7.8).
"""

from __future__ import annotations

from dataclasses import replace

from app.mesh.catalog.access import Reach, reach_of
from app.mesh.catalog.egress import EgressCompiler
from app.mesh.catalog.inbound import compile_inbound
from app.mesh.catalog.ingress import compile_ingress
from app.mesh.catalog.outbound import OutboundCompiler
from app.mesh.snapshot import MeshSnapshot
from app.objects.config import MeshConfigSpec
from xds.policy.identity import ServiceIdentity
from xds.policy.proxy import ProxyPolicy, ProxyProfile, TlsParameters
from xds.policy.traffic import Inbound


def compile_policy(snapshot: MeshSnapshot, profile: ProxyProfile) -> ProxyPolicy:
    """All that the proxies of the profile may do. For many profiles, make one ``Catalog``."""
    return Catalog(snapshot).compile(profile)


class Catalog:
    """The policies of one mesh; what profiles have in common is compiled once and shared.

    Used by one thread. In permissive mode all profiles of a namespace share one ``Outbound``.
    """

    def __init__(self, snapshot: MeshSnapshot) -> None:
        self._snapshot = snapshot
        self._permissive = snapshot.config.traffic.enable_permissive_traffic_policy_mode
        self._outbound = OutboundCompiler(snapshot)
        self._egress = EgressCompiler(snapshot.policies.egress, self._outbound.addresses)
        self._tls = tls_parameters(snapshot.config)

    def serves(self, snapshot: MeshSnapshot) -> bool:
        """True when the snapshot has the parts this catalog was made of: policies are the same."""
        mine = self._snapshot
        return (
            mine.config is snapshot.config
            and mine.issuers is snapshot.issuers
            and mine.services is snapshot.services
            and mine.rules is snapshot.rules
            and mine.policies is snapshot.policies
            and mine.dns_suffix == snapshot.dns_suffix
        )

    def compile(self, profile: ProxyProfile) -> ProxyPolicy:
        """All that the proxies of the profile may do."""
        snapshot = self._snapshot
        reach = self._reach(profile.identity)
        outbound = self._outbound.compile(
            reach,
            profile.identity.namespace,
            snapshot.policies.retries.get(profile.identity, ()),
        )
        return ProxyPolicy(
            identity=profile.identity,
            workload=profile.workload,
            inbound=self._inbound(profile),
            outbound=self._egress.add(outbound, reach, profile.identity),
            tls=self._tls,
            scrape=profile.scrape,
            request_metrics=snapshot.config.feature_flags.enable_wasm_stats,
            dns_suffix=snapshot.dns_suffix,
        )

    def _inbound(self, profile: ProxyProfile) -> Inbound:
        snapshot = self._snapshot
        inbound = compile_inbound(snapshot, profile.identity, profile.services)
        grants = snapshot.policies.ingress
        ingress = compile_ingress(grants, profile.services, snapshot.dns_suffix) if grants else ()
        return replace(inbound, ingress=ingress) if ingress else inbound

    def _reach(self, caller: ServiceIdentity) -> Reach:
        return None if self._permissive else reach_of(self._snapshot.rules, caller)


def tls_parameters(config: MeshConfigSpec) -> TlsParameters:
    """The TLS bounds of the mesh as MeshConfig sets them."""
    sidecar = config.sidecar
    return TlsParameters(
        min_version=sidecar.tls_min_protocol_version,
        max_version=sidecar.tls_max_protocol_version,
        cipher_suites=tuple(sidecar.cipher_suites),
        ecdh_curves=tuple(sidecar.ecdh_curves),
    )
