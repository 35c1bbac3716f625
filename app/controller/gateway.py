"""The certificate of a gateway in front of the mesh: a TLS Secret that the gateway mounts; a job.

The MeshConfig says for which names and where. The Secret's annotations say what it was issued for
and when it is due, so that any replica goes on where another one stopped, and no key is ever read
back. Specification: data-plane 1.4 row 6, 1.5 and 2.8; kubernetes-surface 1.1.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from app import logs
from app.certs.manager import Certificates, renewal_time
from app.controller.secrets import BootstrapSecrets
from app.errors import CertificateError, KubernetesError, SettingError, WriteConflict
from app.inject.secret import sidecar_uuid
from app.mesh.snapshot import MeshSnapshot
from app.objects.config import GatewayCertificate
from app.objects.meta import (
    GATEWAY_LABEL,
    INSTANCE_LABEL,
    NAME_LABEL,
    PRODUCT,
    ObjectKey,
    ObjectKind,
    ObjectMeta,
    RawObject,
)
from app.ports import Clock, IssuedCertificate, ObjectWriter
from xds.policy.proxy import TrustBundle

REQUEST_ANNOTATION = "openservicemesh.io/gateway-certificate-request"
RENEWAL_ANNOTATION = "openservicemesh.io/gateway-certificate-renewal"
_WATCH_LAG = timedelta(seconds=30)
"""After a Secret was written: by then the source has told of it."""
_LOOK_AGAIN = timedelta(minutes=1)
"""After a Secret could not be written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayScope:
    """Which mesh it is."""

    mesh_name: str
    root: ObjectKey
    """The Secret of the mesh's root, which is never written over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """The Secret there should be."""

    key: ObjectKey
    spec: GatewayCertificate
    trust: TrustBundle

    @property
    def stamp(self) -> str:
        """Changes with all that the Secret's content follows from."""
        lifetime = self.spec.validity_duration.total_seconds()
        asked = [self.spec.subject_alt_names, lifetime, self.trust.roots.decode()]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


class GatewaySecret:
    """Keeps the Secret as the MeshConfig wants it; deletes one that is no longer asked for."""

    def __init__(
        self,
        secrets: BootstrapSecrets,
        certificates: Certificates,
        clock: Clock,
        *,
        writer: ObjectWriter,
        snapshot: Callable[[], MeshSnapshot | None],
        scope: GatewayScope,
    ) -> None:
        self._secrets = secrets
        self._certificates = certificates
        self._clock = clock
        self._writer = writer
        self._snapshot = snapshot
        self._scope = scope
        self._log = logs.logger("upkeep")
        self._tried: tuple[_Wanted, datetime] | None = None
        """What was written last, or could not be, and until when that is left at that."""

    def step(self, go_on: Callable[[], bool]) -> bool:
        """The Secret is as it should be, or is looked at again soon."""
        snapshot = self._snapshot()
        # A MeshConfig that cannot be read takes nothing away.
        if snapshot is None or not snapshot.has_config or not self._secrets.synced or not go_on():
            return False
        spec = snapshot.config.certificate.ingress_gateway
        if spec is not None and not spec.is_complete:
            return False
        found = {
            key: metadata
            for key, metadata in self._secrets.gateways().items()
            if metadata.labels.get(INSTANCE_LABEL) == self._scope.mesh_name
        }
        wanted = None if spec is None else self._wanted(spec)
        self._drop(key for key in sorted(found) if wanted is None or key != wanted.key)
        if wanted is None:
            self._tried = None
        elif self._is_due(wanted, found.get(wanted.key)):
            self._tried = (wanted, self._clock.now() + self._write(wanted))
        return False

    def _wanted(self, spec: GatewayCertificate) -> _Wanted:
        secret = spec.secret
        key = ObjectKey(kind=ObjectKind.SECRET, namespace=secret.namespace, name=secret.name)
        return _Wanted(key=key, spec=spec, trust=self._certificates.trust)

    def _is_due(self, wanted: _Wanted, held: ObjectMeta | None) -> bool:
        now = self._clock.now()
        if self._tried is not None and self._tried[0] == wanted and now < self._tried[1]:
            return False
        if held is None or held.annotations.get(REQUEST_ANNOTATION) != wanted.stamp:
            return True
        return _renewal(held) <= now

    def _drop(self, keys: Iterable[ObjectKey]) -> None:
        for key in keys:
            try:
                self._writer.delete(key)
            except Exception as error:  # one Secret must not hold up another
                code = getattr(error, "code", KubernetesError.code)
                self._log.exception(
                    "gateway certificate not deleted", secret=str(key), error_code=code
                )
            else:
                self._log.info("gateway certificate deleted", secret=str(key))

    def _write(self, wanted: _Wanted) -> timedelta:
        """How long to wait before it is looked at again; it is written unless that failed."""
        try:
            self._require_free(wanted.key)
            issued = self._certificates.issue_gateway(
                wanted.spec.subject_alt_names, lifetime=wanted.spec.validity_duration
            )
            self._put(wanted, issued)
        except Exception as error:  # the other jobs go on, and this one is tried again
            code = getattr(error, "code", CertificateError.code)
            self._log.exception(
                "gateway certificate not written", secret=str(wanted.key), error_code=code
            )
            return _LOOK_AGAIN
        self._log.info(
            "gateway certificate written", secret=str(wanted.key), expires=str(issued.not_after)
        )
        return _WATCH_LAG

    def _require_free(self, key: ObjectKey) -> None:
        if key == self._scope.root or sidecar_uuid(key.name) is not None:
            reason = "is a Secret of the mesh itself: name another one"
            raise SettingError(f"certificate.ingressGateway.secret {key} {reason}")

    def _put(self, wanted: _Wanted, issued: IssuedCertificate) -> None:
        renewal = renewal_time(issued, jitter=0.0)
        content = {
            "ca.crt": wanted.trust.roots,
            "tls.crt": issued.key_pair.certificate_chain,
            "tls.key": issued.key_pair.private_key,
        }
        raw: RawObject = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "namespace": wanted.key.namespace,
                "name": wanted.key.name,
                "labels": {
                    NAME_LABEL: PRODUCT,
                    INSTANCE_LABEL: self._scope.mesh_name,
                    GATEWAY_LABEL: "certificate",
                },
                "annotations": {
                    REQUEST_ANNOTATION: wanted.stamp,
                    RENEWAL_ANNOTATION: renewal.isoformat().replace("+00:00", "Z"),
                },
            },
            "type": "kubernetes.io/tls",
            "data": {name: base64.b64encode(pem).decode() for name, pem in content.items()},
        }
        try:
            self._writer.create(raw)
        except WriteConflict:
            self._writer.patch(wanted.key, {part: raw[part] for part in ("metadata", "data")})


def _renewal(held: ObjectMeta) -> datetime:
    """When the Secret is due; long ago where it does not say so."""
    try:
        found = datetime.fromisoformat(held.annotations.get(RENEWAL_ANNOTATION, ""))
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return found if found.tzinfo is not None else datetime.min.replace(tzinfo=UTC)
