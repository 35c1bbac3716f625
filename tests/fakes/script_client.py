"""A scripted client of one ``Subscription``: it asks and answers, and keeps the books for that."""

from __future__ import annotations

from xds.resource import Layer, Resource, ResourceKind, ResourceSet
from xds.stream.subscription import Asked, Outcome, Subscription
from xds.stream.wire import Protocol, Push, Request

SDS, CDS, EDS, LDS, RDS = ResourceKind


def res(kind: ResourceKind, name: str, body: str = "1") -> Resource:
    return Resource.of(kind, name, body.encode())


def config(**bodies: dict[str, str]) -> ResourceSet:
    """A set from names and bodies per kind: ``config(CDS={"a": "1"})``."""
    return ResourceSet(
        [Layer(res(ResourceKind(k), n, b) for k, named in bodies.items() for n, b in named.items())]
    )


def ask(kind: ResourceKind, *names: str, **more: object) -> Request:
    return Request(type_url=kind.type_url, names=frozenset(names), **more)  # type: ignore[arg-type]


class Client:
    """Keeps the books that a state-of-the-world answer needs: the names it wants."""

    def __init__(self, protocol: Protocol = Protocol.DELTA) -> None:
        self.stream = Subscription(protocol)
        self.protocol = protocol
        self.names: dict[ResourceKind, tuple[str, ...]] = {}
        self.nonces: dict[ResourceKind, str] = {}

    def subscribe(self, kind: ResourceKind, *names: str, **more: object) -> tuple[Push, ...]:
        self.names[kind] = (*self.names.get(kind, ()), *names)
        asked = names
        if self.protocol is Protocol.SOTW:
            asked = self.names[kind]
            more["nonce"] = self.nonces.get(kind, "")
        assert self.stream.receive(ask(kind, *asked, **more)) == Asked(kind=kind)
        return self.stream.tick(0)

    def answer(self, push: Push, error: str | None = None, now: float = 0) -> tuple[Push, ...]:
        self.nonces[push.kind] = push.nonce
        names = self.names[push.kind] if self.protocol is Protocol.SOTW else ()
        self.last = self.outcome(ask(push.kind, *names, nonce=push.nonce, error=error))
        return self.stream.tick(now)

    def outcome(self, request: Request) -> Outcome:
        return self.stream.receive(request)

    def take(self, *pushes: Push) -> None:
        """Accept the pushes and all that follows from it."""
        for push in pushes:
            self.take(*self.answer(push))

    def connect(self, target: ResourceSet) -> None:
        """Subscribe to everything the set has and accept it."""
        self.stream.update(target)
        for kind in (CDS, EDS, SDS, LDS, RDS):
            names = () if kind.is_wildcard else tuple(target.names(kind))
            self.take(*self.subscribe(kind, *names))
        assert self.stream.is_settled


def brief(pushes: tuple[Push, ...]) -> list[tuple[ResourceKind, list[str], list[str]]]:
    return [(p.kind, [r.name for r in p.resources], list(p.removed)) for p in pushes]


MESH = {
    "SDS": {"service-cert": "1"},
    "CDS": {"a": "1", "b": "1"},
    "EDS": {"a": "1", "b": "1"},
    "LDS": {"in": "1", "out": "1"},
    "RDS": {"r": "1"},
}
