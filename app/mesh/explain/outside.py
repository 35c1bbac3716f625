"""A call to a destination outside the mesh: which Egress lets it out, or what is missing."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address

from app.errors import NotFoundError
from app.mesh.catalog.compile import Catalog
from app.mesh.egress import Decision, Departure, Leaving, decide_egress
from app.mesh.explain.answer import ANSWERED, CLOSED, End, Outcome, Question, Walk
from app.mesh.explain.remedy import Remedies
from app.objects.meta import ObjectKey, ObjectKind
from xds.policy.egress import Egress

_NOWHERE = "255.255.255.255"
"""For a host whose address is not known: it is in nobody's network."""
_SEEN = {Departure.NOT_FOUND: "404", Departure.MALFORMED: "400"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A destination outside the mesh."""

    host: str
    """As the request names it."""
    address: str
    """Empty: not known."""
    port: int

    def __str__(self) -> str:
        return f"{self.host} port {self.port}"


def explain_outside(remedies: Remedies, walk: Walk) -> End:
    """How a call to ``host:port`` ends; raise ``NotFoundError`` where the port is missing."""
    host, port = host_and_port(remedies.question)
    address = ""
    with suppress(ValueError):
        address = str(ip_address(host))
    place = Place(host=host, address=address, port=port)
    walk.ok("destination", f"{place}, outside the mesh")
    if remedies.client.profile is None:
        walk.ok("listener", "no sidecar of the mesh is on the way")
        return End(outcome=Outcome.ALLOWED, seen=ANSWERED)
    source = remedies.client.identity
    missing = (
        f"create an Egress in namespace {source.namespace} with the source "
        f"{source.service_account}, the host {host} and the port {port}"
    )
    return leave(remedies, walk, place, missing=missing)


def leave(remedies: Remedies, walk: Walk, place: Place, *, missing: str) -> End:
    """How a call out of the mesh ends; ``missing`` is the remedy where nothing lets it out."""
    config, client = remedies.config, remedies.client
    if remedies.snapshot.config.traffic.enable_egress:
        walk.ok("listener", f"mesh-wide egress lets {client} out to {place}", config)
        remedy = f"turn off spec.traffic.enableEgress in {config}"
        return End(outcome=Outcome.ALLOWED, seen=ANSWERED, remedy=remedy, objects=(config,))
    assert client.profile is not None  # noqa: S101 callers have asked
    egress = Catalog(remedies.snapshot).compile(client.profile).outbound.egress
    found = _decided(egress, place, remedies.question)
    if found.departure is Departure.ALLOWED:
        keys = tuple(_egress_key(name) for name in found.granted_by)
        named = " and ".join(map(str, keys))
        walk.ok("egress", f"{named} {'lets' if len(keys) == 1 else 'let'} {client} out", *keys)
        remedy = f"take {client} out of spec.sources of {named}"
        return End(outcome=Outcome.ALLOWED, seen=ANSWERED, remedy=remedy, objects=keys)
    walk.failed("egress", f"no Egress lets {client} out to {place} with this request")
    seen = _SEEN.get(found.departure, CLOSED)
    return End(outcome=Outcome.DENIED, seen=seen, remedy=missing)


def host_and_port(question: Question) -> tuple[str, int]:
    """Where ``to`` leads; the port may stand in it or beside it."""
    host, colon, written = question.to.rpartition(":")
    if colon and written.isdecimal() and written.isascii():
        return host, int(written)
    if question.port is None:
        raise NotFoundError(f"{question.to}: write namespace/service, or host:port for others")
    return question.to, question.port


def _decided(egress: Egress, place: Place, question: Question) -> Decision:
    """A port that Egresses open for HTTP is asked in HTTP, any other in TLS or as it comes."""
    address = place.address or _NOWHERE
    if any(http.port == place.port for http in egress.http):
        request = question.request(f"{place.host}:{place.port}")
        leaving = Leaving(address=address, port=place.port, request=request)
        return decide_egress(egress, leaving)
    name = "" if place.host == place.address else place.host
    return decide_egress(egress, Leaving(address=address, port=place.port, server_name=name))


def _egress_key(name: str) -> ObjectKey:
    namespace, _, own = name.partition("/")
    return ObjectKey(kind=ObjectKind.EGRESS, namespace=namespace, name=own)
