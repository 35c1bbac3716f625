"""Rules for MeshConfig and MeshRootCertificate.

A MeshConfig is never refused: a mesh must stay repairable, and each bad value falls back to a safe
one. Roots are refused whenever they would leave the mesh without a signer, or with two that are
mistaken for each other.
Source: kubernetes-surface 1.1, 1.3 and 5.6, whose rows the comments number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from app.mesh.policies.authorization import wrong_settings
from app.objects.config import MeshConfig, MeshConfigSpec, not_enforced
from app.objects.meta import ObjectKind, shown
from app.objects.root import MeshRootCertificate, MeshRootCertificateSpec
from app.validate.context import Context
from app.validate.verdict import Remark, refuse, warn

_TLS_ORDER = ("TLSv1_0", "TLSv1_1", "TLSv1_2", "TLSv1_3")
_OWN_CHOICE = "TLS_AUTO"
_ACTIVE, _PASSIVE, _INACTIVE = "active", "passive", "inactive"
_IN_USE = frozenset({_ACTIVE, _PASSIVE})
_MOST_IN_USE = 2
_DOMAIN = "spec.trustDomain"
_ROLE = "spec.role"


# MeshConfig


def mesh_config(new: MeshConfig, _: MeshConfig | None, context: Context) -> Iterator[Remark]:
    """What is not in force as written, and what switches something else off."""
    for problem in (*wrong_settings(new), *not_enforced(new.spec)):
        yield warn(problem.field, problem.reason)
    yield from _tls(new.spec)
    yield from _ignored(new.spec)
    objects = context.objects.by_place
    count = sum(len(found) for (kind, _), found in objects.items() if kind is ObjectKind.EGRESS)
    if new.spec.traffic.enable_egress and count:
        reason = f"opens all destinations, so the {count} Egress objects of the mesh have no effect"
        yield warn("spec.traffic.enableEgress", reason)


def _tls(spec: MeshConfigSpec) -> Iterator[Remark]:
    low, high = spec.sidecar.tls_min_protocol_version, spec.sidecar.tls_max_protocol_version
    if _OWN_CHOICE not in (low, high) and _TLS_ORDER.index(low) > _TLS_ORDER.index(high):
        reason = f"{high} is below tlsMinProtocolVersion {low}: no handshake can succeed"
        yield warn("spec.sidecar.tlsMaxProtocolVersion", reason)


def _ignored(spec: MeshConfigSpec) -> Iterator[Remark]:
    if spec.sidecar.envoy_windows_image:
        reason = "is not used: sidecars run on Linux only; leave it out"
        yield warn("spec.sidecar.envoyWindowsImage", reason)
    unused = {
        "enableMulticlusterMode": spec.feature_flags.enable_multicluster_mode,
        "enableSnapshotCacheMode": spec.feature_flags.enable_snapshot_cache_mode,
        "enableAsyncProxyServiceMapping": spec.feature_flags.enable_async_proxy_service_mapping,
    }
    for flag, is_on in unused.items():
        if is_on:
            yield warn(f"spec.featureFlags.{flag}", "has no effect: leave it out")


# MeshRootCertificate


def mesh_root_certificate(
    new: MeshRootCertificate, old: MeshRootCertificate | None, context: Context
) -> Iterator[Remark]:
    """Whatever is stored, one root signs, and no two in use are mistaken for each other."""
    if new.namespace != context.osm_namespace:
        reason = f"is not read: only roots in namespace {context.osm_namespace!r} count"
        yield warn("metadata.namespace", reason)
        return
    others = [
        one.spec
        for one in context.objects.all(MeshRootCertificate, new.namespace)
        if one.name != new.name and one.spec.role in _IN_USE
    ]
    if new.spec.role not in _IN_USE | {_INACTIVE}:  # create 10
        known = f"{_ACTIVE}, {_PASSIVE} or {_INACTIVE}"
        yield refuse(_ROLE, f"must be {known}, not {shown(new.spec.role)}: correct it")
        return
    if old is None:
        yield from _created(new.spec, others)
    else:
        yield from _changed(new.spec, old.spec, others)
    yield from _nested(new.spec, others, context)


def deleted_root(old: MeshRootCertificate, context: Context) -> Iterator[Remark]:
    """The root that signs stays (E4019)."""
    if old.namespace == context.osm_namespace and old.spec.role == _ACTIVE:
        reason = "is active, so nothing could be signed without it: make another one active first"
        yield refuse(_ROLE, f"{reason}, and this one passive, then inactive")


def _created(
    new: MeshRootCertificateSpec, others: Sequence[MeshRootCertificateSpec]
) -> Iterator[Remark]:
    if not new.trust_domain:  # 1
        yield refuse(_DOMAIN, "must not be empty: write one such as cluster.local")
    yield from _wrong_provider(new)  # 2 to 6
    if new.role == _INACTIVE:  # 9
        return
    if any(other.role == new.role for other in others):  # 7
        reason = f"another MeshRootCertificate is {new.role} already: give one of them another role"
        yield refuse(_ROLE, reason)
    if len(others) >= _MOST_IN_USE:  # 8
        reason = (
            f"{len(others)} others are in use, so a rotation is in progress: wait for its end, or "
            "make one inactive"
        )
        yield refuse(_ROLE, reason)


def _wrong_provider(new: MeshRootCertificateSpec) -> Iterator[Remark]:
    provider = new.provider
    kinds = {
        "tresor": provider.tresor,
        "vault": provider.vault,
        "certManager": provider.cert_manager,
    }
    given = [name for name, found in kinds.items() if found is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        reason = f"must have exactly one of {', '.join(kinds)}, not {found}: keep one"
        yield refuse("spec.provider", reason)
    for field, texts in _required_texts(new):
        empty = sorted(name for name, text in texts.items() if not text)
        if empty:
            reason = f"must have {', '.join(empty)}, which may not be empty: write it"
            yield refuse(f"spec.provider.{field}", reason)


def _required_texts(new: MeshRootCertificateSpec) -> Iterator[tuple[str, dict[str, str]]]:
    tresor, vault, manager = new.provider.tresor, new.provider.vault, new.provider.cert_manager
    if tresor is not None:
        secret = tresor.ca.secret_ref
        yield "tresor.ca.secretRef", {"name": secret.name, "namespace": secret.namespace}
    if vault is not None:
        token = vault.token.secret_key_ref
        yield "vault", {"host": vault.host, "protocol": vault.protocol, "role": vault.role}
        texts = {"key": token.key, "name": token.name, "namespace": token.namespace}
        yield "vault.token.secretKeyRef", texts
    if manager is not None:
        yield (
            "certManager",
            {
                "issuerName": manager.issuer_name,
                "issuerKind": manager.issuer_kind,
                "issuerGroup": manager.issuer_group,
            },
        )


def _changed(
    new: MeshRootCertificateSpec,
    old: MeshRootCertificateSpec,
    others: Sequence[MeshRootCertificateSpec],
) -> Iterator[Remark]:
    same = {
        "spec.provider": new.provider == old.provider,
        _DOMAIN: new.trust_domain == old.trust_domain,
        "spec.spiffeEnabled": new.spiffe_enabled == old.spiffe_enabled,
    }
    for field, is_same in same.items():  # 1
        if not is_same:
            reason = "cannot be changed: create a new MeshRootCertificate and rotate to it"
            yield refuse(field, reason)
    if (old.role, new.role) in _FORBIDDEN_STEPS:  # 2 and 3
        reason = f"cannot go from {old.role} to {new.role}: make it {_PASSIVE} in between"
        yield refuse(_ROLE, reason)
        return
    roles = [one.role for one in (*others, new) if one.role in _IN_USE]
    if len(roles) > _MOST_IN_USE:  # 5
        reason = f"{len(roles)} would be in use, of which {_MOST_IN_USE} are supported"
        yield refuse(_ROLE, f"{reason}: make one inactive first")
    elif _ACTIVE not in roles:  # 4 and 6
        reason = "no MeshRootCertificate would be active, so nothing could be signed"
        yield refuse(_ROLE, f"{reason}: make another one active first")


_FORBIDDEN_STEPS = frozenset({(_ACTIVE, _INACTIVE), (_INACTIVE, _ACTIVE)})


def _nested(
    new: MeshRootCertificateSpec, others: Sequence[MeshRootCertificateSpec], context: Context
) -> Iterator[Remark]:
    """Identities of nested trust domains could be mistaken for each other, but as SPIFFE ids."""
    if new.role == _INACTIVE or not new.trust_domain:
        return
    in_use = [(one.trust_domain, one.spiffe_enabled) for one in others]
    if context.snapshot is not None:
        signing = context.snapshot.issuers.signing
        in_use.append((signing.trust_domain, signing.spiffe))
    for domain, spiffe in in_use:
        nest = _is_inside(domain, new.trust_domain) or _is_inside(new.trust_domain, domain)
        if nest and not (spiffe and new.spiffe_enabled):
            reason = (
                f"{new.trust_domain!r} and {domain!r}, which is in use, lie one in the other: "
                "choose another, or set spiffeEnabled on both"
            )
            yield refuse(_DOMAIN, reason)


def _is_inside(domain: str, other: str) -> bool:
    return domain.lower().endswith(f".{other.lower()}")
