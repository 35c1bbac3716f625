"""MeshConfig is only told about; roots are refused before a mesh has none, or two alike."""

from __future__ import annotations

from typing import Any

import factory
import pytest
from judged import judge, reasons, warnings

from app.objects.meta import RawObject
from app.validate.check import Operation

NOT_YET = "is read, but this release does not enforce it yet"


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        pytest.param({}, {}, id="empty"),
        pytest.param(
            {"sidecar": {"tlsMinProtocolVersion": "TLS_AUTO", "tlsMaxProtocolVersion": "TLSv1_0"}},
            {},
            id="tls-auto",
        ),
        pytest.param(
            {"sidecar": {"tlsMaxProtocolVersion": "TLSv1_1"}},
            {
                "spec.sidecar.tlsMaxProtocolVersion": "TLSv1_1 is below tlsMinProtocolVersion "
                "TLSv1_2: no handshake can succeed"
            },
            id="tls-range",
        ),
        pytest.param(
            {"sidecar": {"envoyWindowsImage": "x", "drainDelay": "2h"}},
            {
                "spec.sidecar.envoyWindowsImage": "is not used: sidecars run on Linux only; "
                "leave it out",
                "spec.sidecar.drainDelay": "must lie between 0s and 60s, not '2h'",
            },
            id="windows-and-nonsense",
        ),
        pytest.param(
            {
                "observability": {"tracing": {"enable": True}},
                "featureFlags": {
                    "enableEnvoyActiveHealthChecks": True,
                    "enableMeshRootCertificate": True,
                },
            },
            {
                "spec.observability.tracing": NOT_YET,
                "spec.featureFlags.enableMeshRootCertificate": NOT_YET,
            },
            id="not-enforced",
        ),
        *(
            pytest.param(
                {"certificate": {"ingressGateway": gateway}},
                {
                    "spec.certificate.ingressGateway": "must have subjectAltNames, none of them "
                    "empty, secret.name and secret.namespace: no certificate is issued until then"
                },
                id=name,
            )
            for name, gateway in {
                "gateway-without-a-secret": {"subjectAltNames": ["a"]},
                "gateway-without-a-name": {"secret": {"name": "s", "namespace": "edge"}},
                "gateway-with-an-empty-name": {
                    "subjectAltNames": ["a", ""],
                    "secret": {"name": "s", "namespace": "edge"},
                },
            }.items()
        ),
        pytest.param(
            {
                "traffic": {
                    "inboundExternalAuthorization": {
                        "enable": True,
                        "address": "a b",
                        "timeout": "0s",
                        "failureModeAllow": True,
                    }
                }
            },
            {
                f"spec.traffic.inboundExternalAuthorization.{field}": reason
                for field, reason in {
                    "address": "is not the name or address of a host: 'a b', so all requests are "
                    "let through: correct it",
                    "port": "is missing, so all requests are let through: write it",
                    "timeout": "must lie between 1ms and 24h; 1s is used instead",
                }.items()
            },
            id="nobody-to-ask",
        ),
        pytest.param(
            {
                "featureFlags": {
                    "enableMulticlusterMode": True,
                    "enableSnapshotCacheMode": True,
                    "enableAsyncProxyServiceMapping": True,
                }
            },
            {
                f"spec.featureFlags.enable{flag}": "has no effect: leave it out"
                for flag in ("MulticlusterMode", "SnapshotCacheMode", "AsyncProxyServiceMapping")
            },
            id="flags-without-effect",
        ),
        pytest.param(
            {"sidecar": {"logLevel": "loud"}},
            {
                "spec.sidecar.logLevel": "must be one of 'trace', 'debug', 'info', 'warning', "
                "'warn', 'error', 'critical' or 'off', not 'loud'; the object is not in force"
            },
            id="what-cannot-be-read",
        ),
    ],
)
def test_mesh_config_is_taken_and_told_about(spec: dict[str, Any], told: dict[str, str]) -> None:
    raw = factory.mesh_config(**spec)
    assert judge(raw, factory.namespace("shop")).allowed
    assert warnings(raw, factory.namespace("shop")) == told


def test_opening_all_destinations_tells_of_egress_objects() -> None:
    raw = factory.mesh_config(traffic={"enableEgress": True})
    world = (factory.namespace("shop"), factory.egress("shop/a"), factory.egress("shop/b"))
    assert warnings(raw, *world) == {
        "spec.traffic.enableEgress": "opens all destinations, so the 2 Egress objects of the mesh "
        "have no effect"
    }


def root(name: str = "new", role: str = "active", **spec: Any) -> RawObject:
    return factory.root_certificate(f"osm-system/{name}", role=role, **spec)


def vault(**fields: Any) -> dict[str, Any]:
    token = {"secretKeyRef": {"name": "t", "key": "k", "namespace": "n"}}
    given = {"host": "v", "port": 8200, "role": "r", "protocol": "https", "token": token, **fields}
    return {"vault": given}


def manager(**fields: str) -> dict[str, Any]:
    given = {"issuerName": "i", "issuerKind": "Issuer", "issuerGroup": "g", **fields}
    return {"certManager": given}


def tresor(**fields: str) -> dict[str, Any]:
    return {"tresor": {"ca": {"secretRef": {"name": "s", "namespace": "n", **fields}}}}


OLD = root("old")
SPARE = root("spare", "passive")
ONE_OF = "must have exactly one of tresor, vault, certManager, not"
EMPTY = "which may not be empty: write it"


@pytest.mark.parametrize(
    ("new", "others"),
    [
        pytest.param(root(), (), id="first"),
        pytest.param(root(role="passive"), (OLD,), id="passive-beside-active"),
        pytest.param(root(role="inactive"), (OLD, SPARE), id="inactive-beside-two"),
        pytest.param(root(provider=vault()), (), id="vault"),
        pytest.param(root(provider=manager()), (), id="cert-manager"),
        pytest.param(root(trustDomain="other.example"), (SPARE,), id="other-domain"),
    ],
)
def test_new_root_is_taken(new: RawObject, others: tuple[RawObject, ...]) -> None:
    assert (reasons(new, factory.namespace("shop"), *others), reasons(new)) == ({}, {})


@pytest.mark.parametrize(
    ("new", "others", "expected"),
    [
        pytest.param(
            root(trustDomain=""),
            (),
            {"spec.trustDomain": "must not be empty: write one such as cluster.local"},
            id="1-no-domain",
        ),
        pytest.param(
            root(provider={}), (), {"spec.provider": f"{ONE_OF} none: keep one"}, id="2-no-provider"
        ),
        pytest.param(
            root(provider=vault() | manager()),
            (),
            {"spec.provider": f"{ONE_OF} vault and certManager: keep one"},
            id="2-two-providers",
        ),
        pytest.param(
            root(provider=tresor(name="", namespace="")),
            (),
            {"spec.provider.tresor.ca.secretRef": f"must have name, namespace, {EMPTY}"},
            id="3-tresor",
        ),
        pytest.param(
            root(provider=vault(host="", role="", protocol="")),
            (),
            {"spec.provider.vault": f"must have host, protocol, role, {EMPTY}"},
            id="4-vault",
        ),
        pytest.param(
            root(provider=vault(token={"secretKeyRef": {"name": "t"}})),
            (),
            {"spec.provider.vault.token.secretKeyRef": f"must have key, namespace, {EMPTY}"},
            id="5-token",
        ),
        pytest.param(
            root(provider=manager(issuerName="", issuerKind="", issuerGroup="")),
            (),
            {
                "spec.provider.certManager": "must have issuerGroup, issuerKind, issuerName, "
                f"{EMPTY}"
            },
            id="6-cert-manager",
        ),
        pytest.param(
            root(),
            (OLD,),
            {
                "spec.role": "another MeshRootCertificate is active already: give one of them "
                "another role"
            },
            id="7-same-role",
        ),
        pytest.param(
            root(role="passive"),
            (OLD, root("old2")),
            {
                "spec.role": "2 others are in use, so a rotation is in progress: wait for its end, "
                "or make one inactive"
            },
            id="8-rotation-in-progress",
        ),
        pytest.param(
            root(role="chief"),
            (),
            {"spec.role": "must be active, passive or inactive, not 'chief': correct it"},
            id="10-role",
        ),
        pytest.param(
            root(role="passive", trustDomain="a.example"),
            (root("old", trustDomain="X.a.Example"),),
            {
                "spec.trustDomain": "'a.example' and 'X.a.Example', which is in use, lie one in "
                "the other: choose another, or set spiffeEnabled on both"
            },
            id="11-nested",
        ),
        pytest.param(
            root(trustDomain="x.cluster.local", spiffeEnabled=True),
            (),
            {
                "spec.trustDomain": "'x.cluster.local' and 'cluster.local', which is in use, lie "
                "one in the other: choose another, or set spiffeEnabled on both"
            },
            id="11-nested-in-the-process-option",
        ),
    ],
)
def test_new_root_is_refused(
    new: RawObject, others: tuple[RawObject, ...], expected: dict[str, str]
) -> None:
    assert reasons(new, factory.namespace("shop"), *others) == expected


def test_nested_domains_of_spiffe_roots_are_taken() -> None:
    old = root("old", trustDomain="a.example", spiffeEnabled=True)
    new = root(role="passive", trustDomain="x.a.example", spiffeEnabled=True)
    assert reasons(new, factory.namespace("shop"), old) == {}
    assert reasons(new | {"spec": {**new["spec"], "role": "inactive"}}, old) == {}


@pytest.mark.parametrize(
    ("before", "after", "others"),
    [
        pytest.param("active", "passive", (root("b"),), id="step-down-beside-active"),
        pytest.param("passive", "active", (OLD,), id="step-up"),
        pytest.param("passive", "inactive", (OLD,), id="retire"),
        pytest.param("inactive", "passive", (OLD,), id="come-back"),
        pytest.param("active", "active", (), id="same"),
    ],
)
def test_step_of_a_rotation_is_taken(
    before: str, after: str, others: tuple[RawObject, ...]
) -> None:
    world = (factory.namespace("shop"), root(role=before), *others)
    assert reasons(root(role=after), *world, old=root(role=before)) == {}


IMMUTABLE = "cannot be changed: create a new MeshRootCertificate and rotate to it"
NONE_ACTIVE = (
    "no MeshRootCertificate would be active, so nothing could be signed: make another one active "
    "first"
)


@pytest.mark.parametrize(
    ("old", "new", "others", "expected"),
    [
        pytest.param(
            root(),
            root(provider=vault(), trustDomain="b.example", spiffeEnabled=True),
            (),
            dict.fromkeys(("spec.provider", "spec.trustDomain", "spec.spiffeEnabled"), IMMUTABLE),
            id="1-immutable",
        ),
        pytest.param(
            root(),
            root(role="inactive"),
            (OLD,),
            {"spec.role": "cannot go from active to inactive: make it passive in between"},
            id="2-two-steps-down",
        ),
        pytest.param(
            root(role="inactive"),
            root(),
            (OLD,),
            {"spec.role": "cannot go from inactive to active: make it passive in between"},
            id="3-two-steps-up",
        ),
        pytest.param(
            root(role="passive"),
            root(role="inactive"),
            (),
            {"spec.role": NONE_ACTIVE},
            id="4-none-left",
        ),
        pytest.param(
            root(role="inactive"),
            root(role="passive"),
            (OLD, SPARE),
            {"spec.role": "3 would be in use, of which 2 are supported: make one inactive first"},
            id="5-three",
        ),
        pytest.param(
            root(), root(role="passive"), (), {"spec.role": NONE_ACTIVE}, id="6-one-passive"
        ),
        pytest.param(
            root(), root(role="passive"), (SPARE,), {"spec.role": NONE_ACTIVE}, id="6-two-passive"
        ),
        pytest.param(
            root(role="inactive", trustDomain="a.example"),
            root(role="passive", trustDomain="a.example"),
            (root("old", trustDomain="x.a.example"),),
            {
                "spec.trustDomain": "'a.example' and 'x.a.example', which is in use, lie one in "
                "the other: choose another, or set spiffeEnabled on both"
            },
            id="7-nested",
        ),
    ],
)
def test_change_of_a_root_is_refused(
    old: RawObject, new: RawObject, others: tuple[RawObject, ...], expected: dict[str, str]
) -> None:
    assert reasons(new, factory.namespace("shop"), old, *others, old=old) == expected


def test_root_elsewhere_is_taken_and_told_about() -> None:
    raw = factory.root_certificate("shop/r", role="chief")
    assert (reasons(raw), warnings(raw)) == (
        {},
        {
            "metadata.namespace": "is not read: only roots in namespace 'osm-system' count",
        },
    )


@pytest.mark.parametrize(
    ("old", "allowed"),
    [
        pytest.param(root(), False, id="active"),
        pytest.param(root(role="passive"), True, id="passive"),
        pytest.param(factory.root_certificate("shop/r"), True, id="elsewhere"),
        pytest.param(factory.egress("shop/e"), True, id="another-kind"),
        pytest.param({"kind": "MeshRootCertificate"}, True, id="what-cannot-be-read"),
        pytest.param(None, True, id="nothing"),
    ],
)
def test_active_root_is_not_deleted(old: RawObject | None, allowed: bool) -> None:
    verdict = judge(None, old=old, operation=Operation.DELETE)
    assert verdict.allowed is allowed
    assert [reason.field for reason in verdict.reasons] == ([] if allowed else ["spec.role"])
