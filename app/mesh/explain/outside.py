"""A call to a host outside the mesh: who lets it out, or what is missing."""

from __future__ import annotations

from app.errors import NotFoundError
from app.mesh.explain.answer import ANSWERED, CLOSED, End, Outcome, Question, Walk
from app.mesh.explain.parties import Client
from app.mesh.explain.remedy import Remedies


def explain_outside(remedies: Remedies, walk: Walk) -> End:
    """How the call ends; raise ``NotFoundError`` where the port is missing."""
    host, port = host_and_port(remedies.question)
    walk.ok("destination", f"{host} port {port}, outside the mesh")
    client, config = remedies.client, remedies.config
    if client.profile is None:
        walk.ok("listener", "no sidecar of the mesh is on the way")
        return End(outcome=Outcome.ALLOWED, seen=ANSWERED)
    if remedies.snapshot.config.traffic.enable_egress:
        walk.ok("listener", "mesh-wide egress lets everybody out", config)
        remedy = f"turn off spec.traffic.enableEgress in {config}"
        return End(outcome=Outcome.ALLOWED, seen=ANSWERED, remedy=remedy, objects=(config,))
    walk.failed("listener", f"no Egress lets {client} out to {host} port {port}")
    return End(outcome=Outcome.DENIED, seen=CLOSED, remedy=_new_egress(client, host, port))


def host_and_port(question: Question) -> tuple[str, int]:
    """Where ``to`` leads; the port may stand in it or beside it."""
    host, colon, written = question.to.rpartition(":")
    if colon and written.isdecimal() and written.isascii():
        return host, int(written)
    if question.port is None:
        raise NotFoundError(f"{question.to}: write namespace/service, or host:port for others")
    return question.to, question.port


def _new_egress(client: Client, host: str, port: int) -> str:
    source = client.identity
    return (
        f"create an Egress in namespace {source.namespace} with the source "
        f"{source.service_account}, the host {host} and the port {port}"
    )
