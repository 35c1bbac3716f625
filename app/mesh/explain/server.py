"""One share of a call at its servers: endpoints, certificates, and the rules of each sidecar."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from app.mesh.authorize import Verdict, authorize
from app.mesh.catalog.compile import Catalog
from app.mesh.explain.answer import ANSWERED, CLOSED, End, Outcome, Walk
from app.mesh.explain.parties import pod_key
from app.mesh.explain.remedy import Remedies, target_key
from app.mesh.ingress import Arrival, authorize_ingress
from app.mesh.profiles import profile_of
from app.mesh.snapshot import AccessRule, MeshPod
from xds.policy.http import RequestSeen
from xds.policy.proxy import ProxyProfile
from xds.policy.service import Endpoint, MeshService
from xds.policy.traffic import Upstream

_STATUS = {Verdict.FORBIDDEN: "403", Verdict.NOT_FOUND: "404", Verdict.MALFORMED: "400"}
_NOBODY = "255.255.255.255"
_ANY = RequestSeen(method="", path="/")


class Servers:
    """The servers that a client's sidecar would choose from."""

    def __init__(self, catalog: Catalog, walk: Walk, remedies: Remedies) -> None:
        self._catalog = catalog
        self._walk = walk
        self._remedies = remedies
        self._snapshot = remedies.snapshot
        self._client = remedies.client
        self._is_open = self._snapshot.config.traffic.enable_permissive_traffic_policy_mode
        pods = self._snapshot.workloads.pods.values()
        self._pods = {(pod.namespace, pod.name): pod for pod in pods}

    def ends(self, upstream: Upstream, request: RequestSeen | None) -> Iterator[End]:
        """How the call ends at each kind of server; without a request it is a connection."""
        service = upstream.service
        endpoints = self._snapshot.endpoints.endpoints(service, upstream.endpoints_of)
        serving = [one for one in endpoints if not one.draining] or list(endpoints)
        seen = CLOSED if request is None else "503"
        if not serving:
            sentence = f"{service.full_name} has no ready Pod with a sidecar"
            self._walk.failed("endpoints", f"{sentence} that {self._client} may call")
            remedy = f"have a ready Pod with a sidecar stand behind {service.parent}"
            yield End(outcome=Outcome.UNREACHABLE, seen=seen, remedy=remedy)
            return
        for profile, pods in self._profiles(serving).items():
            keys = tuple(pod_key(service.namespace, name) for name in pods)
            where = f"{service.full_name} is served by {', '.join(pods)}"
            self._walk.ok("endpoints", f"{where} as {profile.identity}", *keys)
            yield self._at(profile, service, request)

    def plain_ends(self, service: MeshService, request: RequestSeen) -> Iterator[End]:
        """How a call in plain HTTP, without a certificate, ends at each kind of server."""
        endpoints = list(self._snapshot.endpoints.endpoints(service, None))
        if not endpoints:
            self._walk.failed("endpoints", f"{service.full_name} has no ready Pod with a sidecar")
            remedy = f"have a ready Pod with a sidecar stand behind {service.parent}"
            yield End(outcome=Outcome.UNREACHABLE, seen=CLOSED, remedy=remedy)
        for profile in self._profiles(endpoints):
            yield self._plain_at(profile, service, request)

    def _plain_at(self, profile: ProxyProfile, service: MeshService, request: RequestSeen) -> End:
        address = self._client.address or _NOBODY
        arrival = Arrival(target=service.target, address=address, request=request)
        verdict = authorize_ingress(self._catalog.compile(profile).inbound, arrival)
        if verdict is Verdict.ALLOWED:
            self._walk.ok("rules", f"an IngressBackend lets {address} call {service.full_name}")
            remedy = f"take {address} out of spec.sources of the IngressBackend"
            return End(outcome=Outcome.ALLOWED, seen=ANSWERED, remedy=remedy)
        self._walk.failed("rules", f"no IngressBackend lets it call {service.full_name}")
        seen = _STATUS.get(verdict, CLOSED)
        return End(outcome=Outcome.DENIED, seen=seen, remedy=self._remedies.without_sidecar())

    def _profiles(self, endpoints: list[Endpoint]) -> dict[ProxyProfile, list[str]]:
        found: dict[ProxyProfile, list[str]] = {}
        for endpoint in endpoints:
            pod = self._pod(endpoint)
            if pod is not None:
                found.setdefault(profile_of(pod), []).append(pod.name)
        return found

    def _pod(self, endpoint: Endpoint) -> MeshPod | None:
        return self._pods.get((endpoint.identity.namespace, endpoint.pod))

    def _at(self, profile: ProxyProfile, service: MeshService, request: RequestSeen | None) -> End:
        inbound = self._catalog.compile(profile).inbound
        signing = self._snapshot.issuers.signing
        names = (signing.subject_name(self._client.identity),)
        verdict = authorize(inbound, service, names, request)
        if verdict is Verdict.ALLOWED:
            return self._allowed(profile, service, request)
        return self._refused(profile, service, request, verdict)

    def _allowed(
        self, profile: ProxyProfile, service: MeshService, request: RequestSeen | None
    ) -> End:
        if request is not None and self._asks_others():
            sentence = "the service of inboundExternalAuthorization is asked too, and may refuse"
            self._walk.unknown("authorization", sentence, self._remedies.config)
        if self._is_open:
            sentence = "permissive mode: all accounts of the mesh may call each other"
            self._walk.ok("rules", sentence, self._remedies.config)
            return self._remedies.granted(())
        rules = self._granting(profile, service, request)
        if not rules:
            sentence = f"no rule lets {self._client} call {profile.identity}, but none is enforced"
            self._walk.unknown("rules", sentence)
            end = self._remedies.denied([profile.identity], service, request or _ANY, seen=ANSWERED)
            return replace(end, outcome=Outcome.AUDITED)
        keys = tuple(target_key(rule) for rule in rules)
        named = " and ".join(map(str, keys))
        lets = "lets" if len(keys) == 1 else "let"
        self._walk.ok("rules", f"{named} {lets} {self._client} call {profile.identity}", *keys)
        return self._remedies.granted(rules)

    def _granting(
        self, profile: ProxyProfile, service: MeshService, request: RequestSeen | None
    ) -> list[AccessRule]:
        """The rules of the server that let the client send the request."""
        return [
            rule
            for rule in self._remedies.rules_for(profile.identity)
            if self._client.identity in rule.sources
            and self._remedies.names(rule, service, request or _ANY)
        ]

    def _asks_others(self) -> bool:
        return self._snapshot.config.traffic.inbound_external_authorization.enable

    def _refused(
        self,
        profile: ProxyProfile,
        service: MeshService,
        request: RequestSeen | None,
        verdict: Verdict,
    ) -> End:
        server = profile.identity
        closed = CLOSED if request is None else "503"
        seen = _STATUS.get(verdict, closed)
        if verdict is Verdict.MALFORMED:
            self._walk.failed("rules", f"the path is none that {server} takes")
            remedy = "send a path that begins with / and has no # and no control characters"
            return End(outcome=Outcome.DENIED, seen=seen, remedy=remedy)
        let_in = self._is_open or bool(self._granting(profile, service, request))
        if let_in and verdict is not Verdict.NOT_FOUND:
            self._walk.failed("rules", f"something that {server} enforces names {self._client}")
            remedy = f"take {self._client} out of what denies it"
            return End(outcome=Outcome.DENIED, seen=seen, remedy=remedy)
        end = self._remedies.denied([server], service, request or _ANY, seen=seen)
        why = {
            Verdict.FORBIDDEN: f"rules of {server} name the request, none of them {self._client}",
            Verdict.NOT_FOUND: f"no rule of {server} names the request",
        }.get(verdict, f"{server} takes no connections of {self._client}")
        self._walk.failed("rules", why, *end.objects)
        return end
