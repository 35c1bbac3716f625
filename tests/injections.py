"""What an injection needs besides the Pod, with sane defaults; for injection and webhooks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from app.inject.decide import Inject, Skip, decide
from app.inject.plan import InjectionOptions, NewSidecar, Plan, plan
from app.inject.secret import Credentials
from app.mesh.snapshot import MeshNamespace
from app.objects.config import MeshConfigSpec
from app.objects.meta import RawObject
from xds.policy.bootstrap import AdsServer
from xds.policy.proxy import KeyPair, TrustBundle

UUID = "6e1a5b2c-0000-4000-8000-000000000001"
OTHER_UUID = "6e1a5b2c-0000-4000-8000-000000000002"
FQDN = "osm-controller.osm-system.svc.cluster.local"


def container(name: str = "app", **fields: Any) -> RawObject:
    return {"name": name, "image": f"registry.test/{name}:1", **fields}


def pod(*containers: RawObject, spec: RawObject | None = None, **metadata: Any) -> RawObject:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "pod", **metadata},
        "spec": {"containers": list(containers or [container()]), **(spec or {})},
    }


def shop(
    *, ignored: bool = False, injection: str | None = "enabled", metrics: str | None = None
) -> MeshNamespace:
    ignored_by = "openservicemesh.io/ignore" if ignored else ""
    return MeshNamespace(name="shop", ignored_by=ignored_by, injection=injection, metrics=metrics)


def options(*, native: bool = True, **fields: Any) -> InjectionOptions:
    given = {
        "mesh_name": "osm",
        "product_version": "2.0.0",
        "ads": AdsServer(host=FQDN, server_name=FQDN, certificate_names=("ads.cluster.local",)),
        "envoy_image": "registry.test/envoy:1.40",
        "init_container_image": "registry.test/init:1",
    }
    return InjectionOptions(native=native, **{**given, **fields})


def credentials(number: int = 1) -> Credentials:
    return Credentials(
        key_pair=KeyPair(
            certificate_chain=f"chain {number}\n".encode(), private_key=f"key {number}\n".encode()
        ),
        trust=TrustBundle(roots=b"roots\n"),
        expires=datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=UTC),
        signing_issuer_id="signer",
        validating_issuer_id="validator",
    )


def sidecar(uuid: str = UUID, **fields: Any) -> NewSidecar:
    return NewSidecar(uuid=uuid, **{"credentials": credentials(), **fields})


def decision_of(raw: RawObject, namespace: MeshNamespace | None = None) -> Inject | Skip:
    return decide(raw, namespace or shop(), namespace_name="shop", osm_namespace="osm-system")


def wanted(raw: RawObject, namespace: MeshNamespace | None = None) -> Inject:
    """The decision on a Pod that gets a sidecar."""
    decision = decision_of(raw, namespace)
    assert isinstance(decision, Inject), decision
    return decision


def injected(
    raw: RawObject,
    config: RawObject | None = None,
    *,
    native: bool = True,
    namespace: MeshNamespace | None = None,
    new: NewSidecar | None = None,
) -> Plan:
    """The plan for a Pod of namespace ``shop``."""
    return plan(
        raw,
        wanted(raw, namespace),
        sidecar=new or sidecar(),
        config=MeshConfigSpec.model_validate(config or {}),
        options=options(native=native),
    )
