"""IngressBackends to what gateways may send: per Service and target port, the oldest object's word.

Sources are addresses of gateways' endpoints and networks; a source Service without endpoints lets
nobody in, and says so. Specification: data-plane 4.7; kubernetes-surface 1.6.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network, ip_network

from app.mesh.findings import Finding, finding_of
from app.mesh.policies.part import IngressGrant
from app.mesh.policies.source import PolicySource
from app.mesh.ties import seniority
from app.objects.meta import shown
from app.objects.policy import IngressBackend, IngressTarget
from xds.policy.http import HttpMatch
from xds.policy.identity import NameType, SubjectName

Grants = Mapping[tuple[str, int], IngressGrant]
"""By ``<namespace>/<name>`` of the Service and target port."""

_ROUTES = "specs.smi-spec.io"


def ingress_in_force(source: PolicySource) -> tuple[Grants, tuple[Finding, ...]]:
    """What gateways may send to each Service, and what is not in force."""
    found: list[IngressBackend] = []
    for namespace in sorted(source.monitored):
        found += source.objects.all(IngressBackend, namespace)
    if not source.config.feature_flags.enable_ingress_backend_policy:
        reason = (
            "is not in force: set featureFlags.enableIngressBackendPolicy of the MeshConfig to true"
        )
        return {}, tuple(finding_of(one, "", reason, "E2012") for one in found)
    findings: list[Finding] = []
    grants: dict[tuple[str, int], IngressGrant] = {}
    for backend in sorted(found, key=seniority):
        for grant in _Reader(backend, source, findings).grants(grants):
            grants[grant.service, grant.target] = grant
    return {key: grants[key] for key in sorted(grants)}, tuple(findings)


class _Reader:
    """One IngressBackend and what its references lead to; writes to ``findings``."""

    def __init__(
        self, backend: IngressBackend, source: PolicySource, findings: list[Finding]
    ) -> None:
        self._backend = backend
        self._source = source
        self._findings = findings
        self._name = f"{backend.namespace}/{backend.name}"

    def grants(self, taken: Grants) -> Iterator[IngressGrant]:
        """One per backend that is not taken by an older object."""
        addresses, principals, matches = self._addresses(), self._principals(), self._matches()
        own: set[tuple[str, int]] = set()
        for index, target in enumerate(self._backend.spec.backends):
            field = f"spec.backends[{index}]"
            key = (f"{self._backend.namespace}/{target.name}", target.port.number)
            secure = self._secure(field, target)
            if secure is None or key in own or not self._is_free(field, key, taken):
                continue
            own.add(key)
            server_names = tuple(self._server_names(field, target)) if secure else ()
            if secure and target.tls.sni_hosts and not server_names:
                continue  # what was meant to narrow must not open to every name
            self._look_for(field, key)
            checked = secure and not target.tls.skip_client_cert_validation
            if checked and not principals:
                reason = "has no AuthenticatedPrincipal, so nobody is let in: name one"
                self._report("spec.sources", reason, "E2014")
            yield IngressGrant(
                name=self._name,
                service=key[0],
                target=key[1],
                tls=secure,
                client_certificate=checked,
                server_names=server_names,
                addresses=addresses,
                principals=principals if checked else None,
                matches=matches,
            )

    def _secure(self, field: str, target: IngressTarget) -> bool | None:
        """True for https, False for http, None for what is neither."""
        protocol = target.port.protocol.lower()
        if protocol in ("http", "https"):
            return protocol == "https"
        reason = f"must be http or https, not {shown(target.port.protocol)}: it is ignored"
        self._report(f"{field}.port.protocol", reason, "E5020")
        return None

    def _is_free(self, field: str, key: tuple[str, int], taken: Grants) -> bool:
        older = taken.get(key)
        if older is None:
            return True
        reason = (
            f"Service {key[0]} with port {key[1]} has IngressBackend {older.name} already, which "
            "is older or comes first by name: delete one"
        )
        self._report(field, reason, "E2013")
        return False

    def _look_for(self, field: str, key: tuple[str, int]) -> None:
        views = self._source.services.by_parent.get(key[0])
        if views is None:
            reason = f"there is no Service '{key[0]}' in the mesh: create it"
            self._report(f"{field}.name", reason, "E3003")
        elif key[1] not in {view.service.target for view in views}:
            reason = f"{key[1]} is no port that Pods of Service '{key[0]}' listen on: correct it"
            self._report(f"{field}.port.number", reason, "E3003")

    def _server_names(self, field: str, target: IngressTarget) -> Iterator[str]:
        for index, written in enumerate(target.tls.sni_hosts):
            name = written.lower()
            # Envoy takes whole labels as wildcards only, and would refuse the listener.
            if name and "*" not in name.removeprefix("*."):
                yield name
            else:
                reason = f"must be such as a.example.com or *.example.com, not {shown(written)}"
                self._report(f"{field}.tls.sniHosts[{index}]", f"{reason}: ignored", "E2003")

    def _addresses(self) -> tuple[str, ...] | None:
        """Networks that sources name; None where none names any."""
        found: set[str] = set()
        named = False
        for index, one in enumerate(self._backend.spec.sources):
            field = f"spec.sources[{index}]"
            if one.kind == "IPRange":
                named = True
                found |= set(self._range(field, one.name))
            elif one.kind == "Service":
                named = True
                found |= self._endpoints(field, f"{one.namespace}/{one.name}")
            elif one.kind != "AuthenticatedPrincipal":
                reason = (
                    "must be Service, AuthenticatedPrincipal or IPRange, not "
                    f"{shown(one.kind)}: this source is ignored"
                )
                self._report(f"{field}.kind", reason, "E2011")
        ordered = sorted(found, key=lambda text: (ip_network(text).version, ip_network(text)))
        return tuple(ordered) if named else None

    def _range(self, field: str, written: str) -> Iterator[str]:
        try:
            yield str(IPv4Network(written, strict=False))
        except ValueError:
            reason = f"must be an IPv4 network such as 10.0.0.0/8, not {shown(written)}"
            self._report(f"{field}.name", f"{reason}: it is ignored", "E2002")

    def _endpoints(self, field: str, service: str) -> set[str]:
        addresses = self._source.gateways.get(service, ())
        if not addresses:
            reason = f"endpoints not found for service {service}"
            self._report(f"{field}.name", reason, "E3000")
        return {str(ip_network(address)) for address in addresses}

    def _principals(self) -> tuple[SubjectName, ...]:
        named = {
            one.name for one in self._backend.spec.sources if one.kind == "AuthenticatedPrincipal"
        }
        return tuple(sorted(_subject(name) for name in named if name))

    def _matches(self) -> tuple[HttpMatch, ...] | None:
        """Requests that are let in; None: all."""
        matches: set[HttpMatch] | None = None
        for index, ref in enumerate(self._backend.spec.matches):
            field = f"spec.matches[{index}]"
            key = (self._backend.namespace, ref.name)
            group = self._source.routes.groups.get(key)
            matches = matches or set()
            if ref.group != _ROUTES or ref.kind != "HTTPRouteGroup":
                reason = f"must be an HTTPRouteGroup of {_ROUTES}/v1alpha4: it lets nothing in"
                self._report(f"{field}.kind", reason, "E2003")
            elif group is None:
                reason = (
                    f"there is no HTTPRouteGroup {ref.name!r} in this namespace, so it lets no "
                    "request in: create it"
                )
                self._report(f"{field}.name", reason, "E2004")
            else:
                matches |= {match for _, match in group}
        return None if matches is None else tuple(sorted(matches))

    def _report(self, field: str, reason: str, code: str) -> None:
        self._findings.append(finding_of(self._backend, field, reason, code))


def _subject(name: str) -> SubjectName:
    kind = NameType.URI if name.startswith("spiffe://") else NameType.DNS
    return SubjectName(type=kind, value=name)
