"""The smallest change that would alter the outcome, and the objects it is about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from app.mesh.authorize import fits
from app.mesh.explain.answer import ANSWERED, End, Outcome, Question
from app.mesh.explain.parties import Client
from app.mesh.snapshot import AccessRule, MeshSnapshot
from app.objects.meta import ObjectKey, ObjectKind
from xds.policy.http import RequestSeen
from xds.policy.identity import ServiceIdentity
from xds.policy.service import MeshService

MESH_CONFIG = ObjectKey(kind=ObjectKind.MESH_CONFIG, namespace="osm-system", name="osm-mesh-config")


class Remedies:
    """What would alter the outcome of one question."""

    def __init__(
        self, snapshot: MeshSnapshot, client: Client, question: Question, *, config: ObjectKey
    ) -> None:
        self.snapshot = snapshot
        self.client = client
        self.question = question
        self.config = config

    def without_sidecar(self) -> str:
        """For a client that shows no certificate of the mesh."""
        return (
            f"have the Pods of {self.client} injected (add namespace "
            f"{self.client.identity.namespace} to the mesh and create them anew), or let them in "
            "with an IngressBackend"
        )

    def beside(self, key: ObjectKey) -> str:
        """For a Service that is not of the mesh."""
        return (
            f"add namespace {key.namespace} to the mesh and create its Pods anew, or let "
            f"{self.client} out with an Egress"
        )

    def granted(self, rules: Sequence[AccessRule]) -> End:
        """For a call that TrafficTargets allow, or permissive mode."""
        if self.snapshot.config.traffic.enable_permissive_traffic_policy_mode:
            remedy = f"turn off spec.traffic.enablePermissiveTrafficPolicyMode in {self.config}"
            return End(
                outcome=Outcome.ALLOWED, seen=ANSWERED, remedy=remedy, objects=(self.config,)
            )
        keys = tuple(target_key(rule) for rule in rules)
        named = " and of ".join(map(str, keys))
        remedy = f"take {self.client} out of spec.sources of {named}" if keys else ""
        return End(outcome=Outcome.ALLOWED, seen=ANSWERED, remedy=remedy, objects=keys)

    def denied(
        self,
        servers: Iterable[ServiceIdentity],
        service: MeshService,
        request: RequestSeen,
        *,
        seen: str,
    ) -> End:
        """For a call that no TrafficTarget allows: one that nearly does, or a new one."""
        known = sorted(set(servers))
        rules = [rule for one in known for rule in self.rules_for(one) if rule.sources]
        for rule in rules:
            if self.names(rule, service, request):
                remedy = f"add {self.client} to spec.sources of {target_key(rule)}"
                return _denied(seen, remedy, rule)
        for rule in rules:
            if self.client.identity in rule.sources:
                return _denied(seen, self._widened(rule, service), rule)
        if not known:
            remedy = f"have a Pod with a sidecar stand behind {service.parent}"
            return End(outcome=Outcome.UNREACHABLE, seen=seen, remedy=remedy)
        return _denied(seen, self._new_target(known[0], service))

    def names(self, rule: AccessRule, service: MeshService, request: RequestSeen) -> bool:
        """True where the rule speaks of the request, or of connections to the port."""
        if not service.protocol.is_http:
            return rule.admits_tcp(service.target)
        fitting = any(fits(match, request, normalize=True) for match in rule.matches)
        return rule.admits_http(service.target) and fitting

    def rules_for(self, server: ServiceIdentity) -> tuple[AccessRule, ...]:
        """TrafficTargets in force whose destination is the account."""
        return self.snapshot.rules.by_destination.get(server, ())

    def _widened(self, rule: AccessRule, service: MeshService) -> str:
        key = target_key(rule)
        if not service.protocol.is_http:
            return f"add a TCPRoute of port {service.target} to spec.rules of {key}"
        if not rule.admits_http(service.target):
            return f"add port {service.target} to a TCPRoute of {key}"
        request = f"{self.question.method} {self.question.path}"
        return f"add a match for {request} to an HTTPRouteGroup that {key} names"

    def _new_target(self, server: ServiceIdentity, service: MeshService) -> str:
        client = self.client.identity
        route = (
            f"an HTTPRouteGroup that matches {self.question.method} {self.question.path}"
            if service.protocol.is_http
            else f"a TCPRoute of port {service.target}"
        )
        return (
            f"create a TrafficTarget in namespace {server.namespace} with the source "
            f"{client.namespace}/{client.service_account}, the destination "
            f"{server.service_account} and {route}"
        )


def target_key(rule: AccessRule) -> ObjectKey:
    """The TrafficTarget that is the rule."""
    namespace, _, name = rule.name.partition("/")
    return ObjectKey(kind=ObjectKind.TRAFFIC_TARGET, namespace=namespace, name=name)


def _denied(seen: str, remedy: str, *rules: AccessRule) -> End:
    keys = tuple(target_key(rule) for rule in rules)
    return End(outcome=Outcome.DENIED, seen=seen, remedy=remedy, objects=keys)
