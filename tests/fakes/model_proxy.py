"""An Envoy as far as the protocol goes: what it asks for, applies, refuses and must never see.

It speaks in ``Request`` and ``Push``, without bytes. Bodies are words: a listener names its routes
and clusters, a route its clusters. As in Envoy (data-plane 7.3): clusters are answered for when
their endpoints have come, a listener serves when its routes have, names are asked for when their
owner arrives, and a refused push of clusters or listeners may have been applied in part.
"""

from __future__ import annotations

from collections import deque

from xds.resource import Resource, ResourceKind
from xds.stream.wire import Protocol, Push, Request

SDS, CDS, EDS, LDS, RDS = ResourceKind
SECRET = "service-cert"


class BrokenReferenceError(AssertionError):
    """The proxy would have answered 503: something it serves by names a cluster it lacks."""


def named(resource: Resource, what: str) -> set[str]:
    """The names after ``what`` in a body like ``cluster=a,b route=r n=1``."""
    fields = dict(word.split("=") for word in resource.body.decode().split())
    return set(filter(None, fields.get(what, "").split(",")))


class ModelProxy:
    """One proxy; ``requests`` are on their way to the server, ``pushes`` on their way here."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self.held: dict[ResourceKind, dict[str, Resource]] = {kind: {} for kind in ResourceKind}
        self.serving: dict[str, Resource] = {}
        """Listeners in use; one with new routes serves when these are here."""
        self.is_clean = True
        """Clusters were never refused, nothing timed out: additions must be in order too."""
        self.connect(list(ResourceKind))

    def connect(self, order: list[ResourceKind]) -> None:
        """A new stream; what was on its way is lost. State of the world starts with nothing."""
        self.requests: deque[Request] = deque()
        self.pushes: deque[Push] = deque()
        self.wanted: dict[ResourceKind, set[str]] = {kind: set() for kind in ResourceKind}
        self.nonces: dict[ResourceKind, str] = {}
        self.warming: set[str] = set()
        self.cold: set[str] = set()
        """Those of the warming that are new: a request that is routed to one fails."""
        self.waiting: list[Push] = []
        """Clusters to answer for when none is warming."""
        if self.protocol is Protocol.SOTW:
            self.held = {kind: {} for kind in ResourceKind}
            self.serving = {}
        for kind in order:
            self.wanted[kind] = self._owned(kind)
            names = frozenset(self.wanted[kind])
            if names or kind.is_wildcard:
                versions = {name: r.version for name, r in self.held[kind].items()}
                self._send(kind, names, initial_versions=versions)

    def apply(self, push: Push, refuse: str | None, part: int) -> None:
        """Take or refuse the oldest push; ``part`` says how much of a refused one was applied."""
        self.nonces[push.kind] = push.nonce
        kind, held = push.kind, self.held[push.kind]
        if refuse is not None and not kind.is_wildcard:
            self._answer(push, refuse)
            return
        names = {resource.name for resource in push.resources}
        gone = set(push.removed)
        if self.protocol is Protocol.SOTW and kind.is_wildcard:
            gone = held.keys() - names
        if refuse is not None:
            self.is_clean = False
        changed = set()
        for n, resource in enumerate(push.resources):
            if refuse is not None and n >= part:
                continue
            if held.get(resource.name) is None or held[resource.name].version != resource.version:
                changed.add(resource.name)
            if kind is CDS and resource.name not in held:
                self.cold.add(resource.name)
            held[resource.name] = resource
        if kind.is_wildcard and refuse is None:
            for name in gone:
                held.pop(name, None)
                self._check_removed(kind, name)
        self._follow(push, names=names | gone, changed=changed, refuse=refuse)

    def wait_long(self) -> None:
        """Fifteen seconds pass: warming ends without endpoints."""
        self.is_clean = False
        self.warming.clear()
        self._answer_clusters()

    def _follow(
        self, push: Push, *, names: set[str], changed: set[str], refuse: str | None
    ) -> None:
        if push.kind is CDS:
            self.warming = (self.warming | changed) & self.held[CDS].keys()
        if push.kind is EDS:
            self.warming -= names
        if push.kind is CDS and refuse is None:
            self.waiting.append(push)
        else:
            self._answer(push, refuse)
        for kind in (EDS, SDS, RDS):
            self._want(kind, self._owned(kind))
        self._answer_clusters()
        self._serve()

    def _answer_clusters(self) -> None:
        while self.waiting and not self.warming:
            self._answer(self.waiting.pop(0), None)

    def _serve(self) -> None:
        """Listeners whose routes have come serve; what serves must find its clusters."""
        for name in list(self.serving):
            if name not in self.held[LDS]:
                del self.serving[name]
        for name, listener in self.held[LDS].items():
            if named(listener, "route") <= self.held[RDS].keys():
                self.serving[name] = listener
        self.cold &= self.warming
        missing = self.used() - (self.held[CDS].keys() - self.cold)
        if self.is_clean and missing:
            raise BrokenReferenceError(f"served by {sorted(missing)}, which are not ready")

    def used(self) -> set[str]:
        """Clusters that its listeners and routes name now."""
        routes = {name for listener in self.serving.values() for name in named(listener, "route")}
        by_route = (self.held[RDS][name] for name in sorted(routes & self.held[RDS].keys()))
        owners = (*self.serving.values(), *by_route)
        return {name for owner in owners for name in named(owner, "cluster")}

    def _check_removed(self, kind: ResourceKind, name: str) -> None:
        if kind is CDS and name in self.used():
            raise BrokenReferenceError(f"cluster {name} was removed while in use")

    def _owned(self, kind: ResourceKind) -> set[str]:
        """Names that follow from what it holds."""
        if kind is EDS:
            return set(self.held[CDS])
        if kind is SDS:
            return {SECRET}
        if kind is RDS:
            return {n for listener in self.held[LDS].values() for n in named(listener, "route")}
        return set()

    def _want(self, kind: ResourceKind, names: set[str]) -> None:
        more, less = names - self.wanted[kind], self.wanted[kind] - names
        if not more and not less:
            return
        self.wanted[kind] = names
        if self.protocol is Protocol.SOTW:
            self._send(kind, frozenset(names), nonce=self.nonces.get(kind, ""))
        else:
            self._send(kind, frozenset(more), unsubscribe=frozenset(less))
        for name in less:
            self.held[kind].pop(name, None)

    def _answer(self, push: Push, error: str | None) -> None:
        sotw = self.protocol is Protocol.SOTW
        names = frozenset(self.wanted[push.kind]) if sotw else frozenset[str]()
        if sotw and push.nonce != self.nonces[push.kind]:
            return
        self._send(push.kind, names, nonce=push.nonce, error=error)

    def _send(self, kind: ResourceKind, names: frozenset[str], **more: object) -> None:
        request = Request(type_url=kind.type_url, names=names, **more)  # type: ignore[arg-type]
        self.requests.append(request)
