"""The bootstrap Secret: what the kubelet mounts at /etc/envoy, and its renewal.

Layout, labels and annotations are those of kubernetes-surface 3.4. The annotations repeat what
decides a renewal, so that nobody has to read the keys to find out. Written by
``controller.injector``, renewed by ``controller.upkeep``.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from app.errors import InjectionError
from app.objects.meta import ObjectKey, ObjectKind, RawObject
from xds.policy.proxy import KeyPair, TrustBundle

SIGNING_ISSUER_ANNOTATION = "openservicemesh.io/signing-issuer-id"
VALIDATING_ISSUER_ANNOTATION = "openservicemesh.io/validating-issuer-id"
EXPIRY_ANNOTATION = "openservicemesh.io/xds-certificate-expiry"
BOOTSTRAP_ENTRY = "bootstrap.yaml"

_NAME_PREFIX = "envoy-bootstrap-config-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a sidecar shows to and expects of its control plane, and when it must be renewed."""

    key_pair: KeyPair = field(repr=False)
    trust: TrustBundle
    """Roots of the signing and the validating issuer."""
    expires: datetime
    signing_issuer_id: str
    validating_issuer_id: str


def bootstrap_key(namespace: str, uuid: str) -> ObjectKey:
    """The Secret that a sidecar starts from."""
    return ObjectKey(kind=ObjectKind.SECRET, namespace=namespace, name=f"{_NAME_PREFIX}{uuid}")


def sidecar_uuid(secret_name: str) -> str | None:
    """The UUID of the sidecar that starts from a Secret of this name; None for any other Secret."""
    uuid = secret_name.removeprefix(_NAME_PREFIX)
    return uuid if uuid and uuid != secret_name else None


def bootstrap_secret(
    key: ObjectKey, files: Mapping[str, str], *, credentials: Credentials, labels: Mapping[str, str]
) -> RawObject:
    """The complete Secret, as it is created."""
    renewed = renewal(credentials)
    texts = {name: _encode(text.encode()) for name, text in sorted(files.items())}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": key.name,
            "namespace": key.namespace,
            "labels": dict(labels),
            "annotations": renewed["metadata"]["annotations"],
        },
        "type": "Opaque",
        "data": texts | renewed["data"],
    }


def renewal(credentials: Credentials) -> RawObject:
    """The merge patch (RFC 7386) that gives a bootstrap Secret new credentials."""
    ids = {
        "signing_issuer_id": credentials.signing_issuer_id,
        "validating_issuer_id": credentials.validating_issuer_id,
    }
    entries = {
        "cacert.pem": credentials.trust.roots,
        "sds_cert.pem": credentials.key_pair.certificate_chain,
        "sds_key.pem": credentials.key_pair.private_key,
    } | {name: text.encode() for name, text in ids.items()}
    expiry = credentials.expires.astimezone(UTC).replace(microsecond=0)
    return {
        "metadata": {
            "annotations": {
                SIGNING_ISSUER_ANNOTATION: credentials.signing_issuer_id,
                VALIDATING_ISSUER_ANNOTATION: credentials.validating_issuer_id,
                EXPIRY_ANNOTATION: expiry.isoformat().replace("+00:00", "Z"),
            }
        },
        "data": {name: _encode(content) for name, content in sorted(entries.items())},
    }


def secret_files(secret: RawObject) -> dict[str, bytes]:
    """File name → content, as the kubelet mounts the Secret."""
    return {name: b64decode(text) for name, text in (secret.get("data") or {}).items()}


def read_bootstrap(secret: RawObject) -> str:
    """The bootstrap document of a Secret; raise :class:`InjectionError` when it has none."""
    text = (secret.get("data") or {}).get(BOOTSTRAP_ENTRY)
    if text is None:
        name = (secret.get("metadata") or {}).get("name")
        raise InjectionError(f"Secret {name} has no {BOOTSTRAP_ENTRY}; create the Pod anew")
    return b64decode(text).decode()


def _encode(content: bytes) -> str:
    return b64encode(content).decode()
