"""MeshRootCertificate: a root of trust of the mesh and the part it plays.

Here only types are checked: an empty text, an unknown role or a wrong number of providers has its
own message in ``app/validate``. Source: kubernetes-surface 1.3.
"""

from __future__ import annotations

from pydantic import Field

from app.objects.config import SecretRef
from app.objects.core import PortNumber
from app.objects.meta import KubeModel, KubeObject

DEFAULT_TRUST_DOMAIN = "cluster.local"


class SecretKeyRef(KubeModel):
    """One key of a Secret."""

    name: str = ""
    key: str = ""
    namespace: str = ""


class TresorCa(KubeModel):
    """Where the built-in CA keeps its root."""

    secret_ref: SecretRef = Field(default_factory=SecretRef)


class TresorProvider(KubeModel):
    """The built-in CA."""

    ca: TresorCa = Field(default_factory=TresorCa)


class VaultToken(KubeModel):
    """Where Vault's token is."""

    secret_key_ref: SecretKeyRef = Field(default_factory=SecretKeyRef)


class VaultProvider(KubeModel):
    """A CA in HashiCorp Vault."""

    host: str = ""
    port: PortNumber
    role: str = ""
    protocol: str = ""
    token: VaultToken = Field(default_factory=VaultToken)


class CertManagerProvider(KubeModel):
    """An issuer of cert-manager."""

    issuer_name: str = ""
    issuer_kind: str = ""
    issuer_group: str = ""


class RootProvider(KubeModel):
    """Who signs: one of the three; the validation tells when it is none or several."""

    tresor: TresorProvider | None = None
    vault: VaultProvider | None = None
    cert_manager: CertManagerProvider | None = None


class MeshRootCertificateSpec(KubeModel):
    """A root of trust and the part it plays; empty texts are for the validation to refuse."""

    provider: RootProvider = Field(default_factory=RootProvider)
    trust_domain: str = DEFAULT_TRUST_DOMAIN
    role: str
    spiffe_enabled: bool = False


class MeshRootCertificate(KubeObject):
    """Counts in the control plane's namespace only."""

    spec: MeshRootCertificateSpec
