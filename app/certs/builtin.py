"""Provider: the mesh's own CA, whose root lives in one Secret.

At start every replica offers a new root and then uses what the Secret holds, so that all of them
sign with the same one. Called by ``controller.runtime``, and through ``CertificateProvider`` by
``certs.manager``. Specification: data-plane 2.3.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
from typing import Any

from app.certs.x509 import SigningRoot, new_root
from app.errors import CaError, WriteConflict
from app.objects.meta import (
    NAME_LABEL,
    PRODUCT,
    VERSION_LABEL,
    ObjectKey,
    ObjectKind,
    RawObject,
)
from app.ports import (
    CertificateRequest,
    Clock,
    IssuedCertificate,
    ObjectWriter,
)
from xds.policy.proxy import KeyPair, TrustBundle

CERTIFICATE_FIELD = "ca.crt"
KEY_FIELD = "private.key"


class BuiltinCa:
    """Signs with the mesh's own root; implements ``CertificateProvider``, safe across threads."""

    def __init__(self, root: SigningRoot, clock: Clock) -> None:
        self._root = root
        self._clock = clock

    def issue(self, request: CertificateRequest) -> IssuedCertificate:
        """A new key and a certificate for it."""
        return self._root.issue(request, now=self._clock.now())

    def trust_bundle(self) -> TrustBundle:
        """The root alone."""
        return TrustBundle(roots=self._root.certificate_pem)

    def remaining_life(self) -> float:
        """The share of the root's life that is left, 0 to 1; below 0.1 it should be replaced."""
        whole = self._root.not_after - self._root.not_before
        return max(0.0, (self._root.not_after - self._clock.now()) / whole)


def open_builtin_ca(
    writer: ObjectWriter,
    clock: Clock,
    *,
    secret: ObjectKey,
    rsa_bits: int | None = None,
    version: str = "",
) -> BuiltinCa:
    """The CA whose root the Secret holds; a root is made where there is none.

    Raise :class:`CaError` when the Secret's pair is missing, damaged, mismatched or expired.
    """
    raw = writer.read(secret)
    if raw is None:
        pair = new_root(now=clock.now(), rsa_bits=rsa_bits)
        with contextlib.suppress(WriteConflict):
            writer.create(_secret(secret, pair, version))
        raw = writer.read(secret)
    if raw is None:
        raise CaError(f"{secret}: was written but cannot be read back")
    return BuiltinCa(
        SigningRoot.parse(_pair(raw, secret), now=clock.now(), where=str(secret)), clock
    )


def ca_secret_key(namespace: str, name: str) -> ObjectKey:
    """Where the root is kept."""
    return ObjectKey(kind=ObjectKind.SECRET, namespace=namespace, name=name)


def _secret(key: ObjectKey, pair: KeyPair, version: str) -> RawObject:
    labels = {NAME_LABEL: PRODUCT, VERSION_LABEL: version}
    metadata = {"namespace": key.namespace, "name": key.name, "labels": labels}
    contents = {CERTIFICATE_FIELD: pair.certificate_chain, KEY_FIELD: pair.private_key}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": "Opaque",
        "data": {name: base64.b64encode(pem).decode() for name, pem in contents.items()},
    }


def _pair(raw: RawObject, where: ObjectKey) -> KeyPair:
    return KeyPair(
        certificate_chain=_field(raw, CERTIFICATE_FIELD, where),
        private_key=_field(raw, KEY_FIELD, where),
    )


def _field(raw: RawObject, name: str, where: ObjectKey) -> bytes:
    text: Any = (raw.get("data") or {}).get(name)
    if not isinstance(text, str) or not text:
        raise CaError(f"{where}: has no {name}; restore the mesh's root")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise CaError(f"{where}: {name} is not base64; restore the mesh's root") from error
