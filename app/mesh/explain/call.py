"""One call as the client's sidecar sends it: listener, route, split, cluster, endpoints.

``explain`` is the door of this package. Everything is read from the policies that Envoy is given.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from app.mesh.authorize import fits, host_named
from app.mesh.catalog.compile import Catalog
from app.mesh.explain.answer import (
    ANSWERED,
    CLOSED,
    End,
    Explanation,
    Outcome,
    Question,
    Walk,
    joined,
)
from app.mesh.explain.outside import Place, explain_outside, leave
from app.mesh.explain.parties import Client, Objects, Target, find_client, find_target
from app.mesh.explain.remedy import MESH_CONFIG, Remedies
from app.mesh.explain.server import Servers
from app.mesh.snapshot import MeshSnapshot
from app.objects.meta import ObjectKey, ObjectKind
from xds.policy.http import RequestSeen
from xds.policy.service import MeshService
from xds.policy.traffic import Outbound, OutboundHost, OutboundHttpPort, WeightedUpstream


def explain(
    snapshot: MeshSnapshot,
    objects: Objects,
    question: Question,
    *,
    config: ObjectKey = MESH_CONFIG,
    certified: Collection[str] | None = None,
) -> Explanation:
    """What becomes of the call, and why; raise ``NotFoundError`` where nobody has such a name.

    ``config`` names the MeshConfig in force, ``certified`` the identities that have a certificate
    (None: that is not known).
    """
    walk = Walk()
    client = find_client(snapshot, objects, question.namespace, question.workload, walk)
    remedies = Remedies(snapshot, client, question, config=config)
    if "/" not in question.to:
        return walk.ended(explain_outside(remedies, walk))
    target = find_target(snapshot, objects, question, walk)
    call = _Call(snapshot, walk, client=client, target=target, remedies=remedies)
    if certified is not None and client.profile is not None:
        _tell_certificate(walk, str(client), certified)
    return walk.ended(call.end())


def _tell_certificate(walk: Walk, identity: str, certified: Collection[str]) -> None:
    if identity in certified:
        walk.ok("certificate", f"{identity} has a certificate")
    else:
        walk.unknown("certificate", f"no certificate of {identity} is issued by this replica")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Route:
    """Where the client's sidecar sends the request."""

    service: MeshService
    shares: tuple[WeightedUpstream, ...]


class _Call:
    def __init__(
        self,
        snapshot: MeshSnapshot,
        walk: Walk,
        *,
        client: Client,
        target: Target,
        remedies: Remedies,
    ) -> None:
        self._snapshot = snapshot
        self._walk = walk
        self._client = client
        self._target = target
        self._question = remedies.question
        self._remedies = remedies
        self._catalog = Catalog(snapshot)

    def end(self) -> End:
        """How it ends."""
        missing = self._missing()
        if missing is not None:
            return missing
        if self._client.profile is None or self._leaves_unseen():
            return self._plain()
        if not self._target.views:
            return self._beside_the_mesh()
        outbound = self._catalog.compile(self._client.profile).outbound
        return self._dialled(outbound)

    def _missing(self) -> End | None:
        """The end where there is no such port, or nothing to dial."""
        target, walk = self._target, self._walk
        known = {view.service.port for view in target.views}
        if not target.views and target.service is not None:
            known = {port.port for port in target.service.spec.ports}
        if target.port not in known:
            walk.failed("destination", f"{target.key} has no port {target.port}", target.key)
            remedy = f"call a port that {target.key.path} has, or add {target.port} to it"
            return End(outcome=Outcome.UNREACHABLE, seen=CLOSED, remedy=remedy)
        if not target.addresses:
            walk.failed("destination", f"{target.key} has no address to dial", target.key)
            remedy = "have a ready Pod with a sidecar stand behind it"
            return End(outcome=Outcome.UNREACHABLE, seen="no address", remedy=remedy)
        protocols = sorted({str(view.service.protocol) for view in target.views})
        spoken = f", {', '.join(protocols)}" if protocols else ", which is not of the mesh"
        shown = ", ".join(target.addresses)
        walk.ok("destination", f"{target.key} port {target.port} at {shown}{spoken}", target.key)
        return None

    def _leaves_unseen(self) -> bool:
        """True where MeshConfig leaves the traffic to the Pod itself."""
        traffic = self._snapshot.config.traffic
        address = ip_address(self._target.addresses[0])
        excluded = any(address in ip_network(r) for r in traffic.outbound_ip_range_exclusion_list)
        included = traffic.outbound_ip_range_inclusion_list
        if included and not any(address in ip_network(one) for one in included):
            excluded = True
        if not excluded and self._target.port not in traffic.outbound_port_exclusion_list:
            return False
        self._walk.failed("interception", "MeshConfig excludes the destination from interception")
        return True

    def _plain(self) -> End:
        """The request goes as it is, without a certificate of the mesh."""
        if not self._target.views:
            self._walk.ok("listener", "no sidecar of the mesh is on either side")
            return End(outcome=Outcome.ALLOWED, seen=ANSWERED)
        sentence = "the client shows no certificate of the mesh"
        self._walk.unknown("certificate", f"{sentence}: only an IngressBackend can let it in")
        servers = Servers(self._catalog, self._walk, self._remedies)
        request = self._request()
        return joined(
            end for view in self._target.views for end in servers.plain_ends(view.service, request)
        )

    def _beside_the_mesh(self) -> End:
        key, port = self._target.key, self._target.port
        sentence = "is not of the mesh: its namespace is not, or no Pod has a sidecar"
        self._walk.unknown("membership", f"{key.path} {sentence}", key)
        host = f"{key.name}.{key.namespace}"
        place = Place(host=host, address=self._target.addresses[0], port=port)
        return leave(self._remedies, self._walk, place, missing=self._remedies.beside(key))

    # Through the client's sidecar

    def _dialled(self, outbound: Outbound) -> End:
        address, port = self._target.addresses[0], self._target.port
        for tcp in outbound.tcp:
            if tcp.rule.service.port == port and address in tcp.addresses:
                self._walk.ok("listener", f"the client's sidecar proxies TCP to {address}:{port}")
                route = _Route(service=tcp.rule.service, shares=tcp.rule.upstreams)
                return self._sent(outbound, route, None)
        for http in outbound.http:
            if http.port == port and address in http.addresses:
                self._walk.ok("listener", f"the client's sidecar routes HTTP to {address}:{port}")
                return self._routed(outbound, http)
        sentence = f"the client's sidecar has nothing for {address}:{port}"
        identities = [one for view in self._target.views for one in view.identities]
        why = f"no TrafficTarget lets {self._client} call a server of it"
        self._walk.failed("listener", f"{sentence}: {why if identities else 'no Pod serves it'}")
        target = self._target.views[0].service
        return self._remedies.denied(identities, target, self._request(), seen=CLOSED)

    def _routed(self, outbound: Outbound, http: OutboundHttpPort) -> End:
        request = self._request()
        name = host_named(request)
        host = next((h for h in http.hosts if name in {d.lower() for d in h.domains}), None)
        if host is None:
            self._walk.failed("route", f"the Host header {name} names no service of the port")
            remedy = f"send a Host header of {self._target.key.path}, or none"
            return End(outcome=Outcome.DENIED, seen="404", remedy=remedy)
        called = host.rule.service
        self._walk.ok("route", f"the Host header {name} means {called.full_name}")
        shares = self._shares(host, request)
        if not shares:
            self._walk.failed("split", "no match of the TrafficSplit fits, and nothing else serves")
            remedy = f"let {self._client} call {called.full_name} itself, or send what is split"
            return End(outcome=Outcome.DENIED, seen="404", remedy=remedy)
        return self._sent(outbound, _Route(service=called, shares=shares), request)

    def _request(self) -> RequestSeen:
        service = self._target.views[0].service
        return self._question.request(f"{service.host}.{service.namespace}:{self._target.port}")

    def _shares(self, host: OutboundHost, request: RequestSeen) -> tuple[WeightedUpstream, ...]:
        rule = host.rule
        if not rule.matches or any(fits(match, request) for match in rule.matches):
            return rule.upstreams
        return rule.others

    def _sent(self, outbound: Outbound, route: _Route, request: RequestSeen | None) -> End:
        self._tell_split(route)
        servers = Servers(self._catalog, self._walk, self._remedies)
        upstreams = {upstream.service: upstream for upstream in outbound.upstreams}
        return joined(
            end for share in route.shares for end in servers.ends(upstreams[share.service], request)
        )

    def _tell_split(self, route: _Route) -> None:
        split = self._snapshot.rules.splits.get(route.service.parent)
        if split is None or route.service.subdomain:
            return
        total = sum(share.weight for share in route.shares)
        shown = ", ".join(
            f"{s.service.full_name} {100 * s.weight // total} %" for s in route.shares
        )
        kind = ObjectKind.TRAFFIC_SPLIT
        key = ObjectKey(kind=kind, namespace=split.namespace, name=split.name)
        self._walk.ok("split", f"{key} sends it to {shown}", key)
