from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import factory
import pytest

from app.controller.secrets import BootstrapSecret, BootstrapSecrets, Owner, Stamp
from app.events import Event, ObjectDeleted, Synced
from app.inject.secret import bootstrap_key
from app.metrics import Metrics
from app.objects.meta import ObjectKey, ObjectKind, RawObject

UUID = factory.uuid_of("shop/cart")
KEY = bootstrap_key("shop", UUID)
POD_KEY = ObjectKey(kind=ObjectKind.POD, namespace="shop", name="cart")
EXPIRY = "2030-01-31T12:00:00Z"
POD = factory.changed(factory.pod("shop/cart", meta={"uid": "pod-1"}))


def secret(name: str = KEY.name, **meta: Any) -> RawObject:
    return factory.raw("Secret", f"shop/{name}", meta={"uid": "secret-1", **meta})


def owned_by(*uids: str) -> RawObject:
    return secret(ownerReferences=[{"kind": "Pod", "name": "x", "uid": uid} for uid in uids])


def told(*events: Event) -> BootstrapSecrets:
    secrets = BootstrapSecrets(Metrics())
    for event in events:
        secrets.take(event)
    return secrets


def test_metadata_is_kept() -> None:
    raw = secret(
        labels={"app.kubernetes.io/instance": "osm"},
        creationTimestamp="2030-01-01T00:00:00Z",
        annotations={
            "openservicemesh.io/signing-issuer-id": "old",
            "openservicemesh.io/validating-issuer-id": "new",
            "openservicemesh.io/xds-certificate-expiry": EXPIRY,
        },
        ownerReferences=[{"kind": "Pod", "name": "cart", "uid": "pod-1"}],
    )
    assert told(factory.changed(raw)).all() == (
        BootstrapSecret(
            key=KEY,
            uid="secret-1",
            uuid=UUID,
            mesh_name="osm",
            created=datetime(2030, 1, 1, tzinfo=UTC),
            stamp=Stamp(expiry=EXPIRY, signing_issuer="old", validating_issuer="new"),
            owners=frozenset({"pod-1"}),
        ),
    )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("osm-ca-bundle", id="root"),
        pytest.param("envoy-bootstrap-config-", id="no-uuid"),
        pytest.param("envoy-bootstrap-config-mine", id="not-a-uuid"),
    ],
)
def test_other_secrets_are_not_kept(name: str) -> None:
    assert told(factory.changed(secret(name))).all() == ()


@pytest.mark.parametrize(
    ("event", "is_taken"),
    [
        pytest.param(factory.changed(secret()), True, id="secret"),
        pytest.param(ObjectDeleted(key=KEY), True, id="secret-gone"),
        pytest.param(POD, False, id="pod"),
        pytest.param(ObjectDeleted(key=POD_KEY), False, id="pod-gone"),
        pytest.param(factory.changed(factory.service("shop/cart")), False, id="another-kind"),
        pytest.param(Synced(kinds=frozenset(ObjectKind)), False, id="synced"),
    ],
)
def test_events_of_secrets_end_here(event: Event, is_taken: bool) -> None:
    assert BootstrapSecrets(Metrics()).take(event) is is_taken


def test_events_of_secrets_are_counted() -> None:
    metrics = Metrics()
    secrets = BootstrapSecrets(metrics)
    secrets.take(factory.changed(secret()))
    secrets.take(ObjectDeleted(key=KEY))
    assert metrics.object_events.get("Secret changed", "shop") == 1
    assert metrics.object_events.get("Secret deleted", "shop") == 1


CART = Owner(name="cart", uid="pod-1")


@pytest.mark.parametrize(
    ("events", "owners"),
    [
        pytest.param([factory.changed(secret())], None, id="no-pod"),
        pytest.param([POD], None, id="no-secret"),
        pytest.param([POD, factory.changed(secret())], (CART,), id="pod-first"),
        pytest.param([factory.changed(secret()), POD], (CART,), id="secret-first"),
        pytest.param([factory.changed(owned_by("pod-1")), POD], None, id="owned"),
        pytest.param([factory.changed(owned_by("other")), POD], (CART,), id="owned-by-another"),
        pytest.param(
            [factory.changed(secret()), POD, factory.changed(owned_by("pod-1"))],
            None,
            id="owned-meanwhile",
        ),
        pytest.param(
            [factory.changed(secret()), POD, ObjectDeleted(key=POD_KEY)], None, id="pod-gone"
        ),
        pytest.param(
            [factory.changed(secret()), POD, ObjectDeleted(key=KEY)], None, id="secret-gone"
        ),
        pytest.param(
            [
                POD,
                factory.changed(owned_by("pod-1")),
                factory.changed(factory.pod("shop/cart", meta={"uid": "pod-2"})),
            ],
            (Owner(name="cart", uid="pod-2"),),
            id="pod-made-anew",
        ),
        pytest.param(
            [
                factory.changed(secret()),
                POD,
                factory.changed(factory.pod("shop/cart", sidecar=False, meta={"uid": "pod-1"})),
            ],
            None,
            id="label-taken-off",
        ),
        pytest.param(
            [factory.changed(secret()), factory.changed(factory.pod("shop/cart", phase="Failed"))],
            (Owner(name="cart", uid=""),),
            id="finished-pod",
        ),
    ],
)
def test_secret_lacks_the_pods_that_carry_its_uuid(
    events: Sequence[Event], owners: tuple[Owner, ...] | None
) -> None:
    secrets = told(*events)
    assert [found for _, found in secrets.unowned()] == ([] if owners is None else [owners])


def test_missing_owner_is_told() -> None:
    told_of: list[int] = []
    secrets = BootstrapSecrets(Metrics())
    secrets.on_unowned(lambda: told_of.append(len(told_of)))
    secrets.take(factory.changed(secret()))
    assert told_of == []
    secrets.take(POD)
    assert told_of == [0]


def test_pods_of_a_secret_are_known() -> None:
    secrets = told(factory.changed(secret()), POD)
    (found,) = secrets.all()
    assert secrets.has_pod(found)
    secrets.take(ObjectDeleted(key=POD_KEY))
    assert not secrets.has_pod(found)


def test_all_is_known_once_both_kinds_are_synced() -> None:
    secrets = told(Synced(kinds=frozenset({ObjectKind.POD})))
    assert not secrets.synced
    secrets.take(Synced(kinds=frozenset({ObjectKind.SECRET})))
    assert secrets.synced
