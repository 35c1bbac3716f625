"""One stream as a state machine for both protocols: requests and updates in, pushes out.

It knows what the client wants, was sent and accepted of each kind, and sends make-before-break:
secrets, clusters (keeping what is to go) and endpoints at once; listeners and routes when the
client has answered for the clusters, or after 15 s; removals when it has taken the routes that no
longer need what goes. It does no I/O and reads no clock: the servicer passes both in.
Specification: data-plane 7.3 to 7.6.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from xds.resource import Resource, ResourceKind, ResourceSet
from xds.stream.held import Held, Sent
from xds.stream.wire import MAX_NAMES, Protocol, ProtocolError, Push, Request

ALL_KINDS = frozenset(ResourceKind)
CLUSTER_WAIT_SECONDS = 15.0
"""How long listeners and routes wait for the answer to clusters."""

_WILDCARD = "*"
_CHUNK_BYTES = 4 * 1024 * 1024
_ROUTING = (ResourceKind.LDS, ResourceKind.RDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """The client took a push."""

    kind: ResourceKind
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Nack:
    """The client refused a push; ``detail`` is Envoy's text."""

    kind: ResourceKind
    version: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The client said what it wants and answered nothing."""

    kind: ResourceKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """The client answered a push that a newer one has overtaken."""

    kind: ResourceKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignored:
    """The request is for a type that is not served."""

    type_url: str


Outcome = Ack | Nack | Asked | Stale | Ignored


class Subscription:
    """One stream. Owned by one thread.

    ``now`` is in seconds of any steady clock. What ``receive`` makes due is returned by the next
    ``tick``.
    """

    __slots__ = ("_awaited", "_cancelled", "_gate", "_held", "_order", "_protocol", "_target")

    def __init__(
        self, protocol: Protocol = Protocol.DELTA, kinds: frozenset[ResourceKind] = ALL_KINDS
    ) -> None:
        self._protocol = protocol
        self._held = {kind: Held(kind) for kind in ResourceKind if kind in kinds}
        self._target: ResourceSet | None = None
        self._order = 0
        self._awaited: set[str] = set()
        """Nonces of clusters that listeners and routes wait for."""
        self._gate: float | None = None
        """When listeners and routes stop waiting."""
        self._cancelled: ResourceSet | None = None
        """The set whose removals a NACK has cancelled."""

    @property
    def deadline(self) -> float | None:
        """When ``tick`` is due even if nothing happens, or None."""
        return self._gate

    @property
    def is_settled(self) -> bool:
        """True when the client took all that it wants of the newest set."""
        target = self._target
        return target is not None and all(
            held.is_settled(target) and not held.keeps_removed
            for held in self._held.values()
            if held.subscribed
        )

    def accepted(self, kind: ResourceKind) -> str | None:
        """The version of the newest set if the client took all it wants of the kind, else None."""
        held = self._held.get(kind)
        if held is None or self._target is None or not held.is_settled(self._target):
            return None
        return self._target.versions[kind]

    def update(self, target: ResourceSet, *, now: float = 0.0) -> tuple[Push, ...]:
        """The pushes that bring the client nearer to the set; empty when it has nothing new."""
        self._target = target
        return self.tick(now)

    def receive(self, request: Request) -> Outcome:
        """What the request means; raise :class:`ProtocolError` when it wants too many names."""
        kind = ResourceKind.from_type_url(request.type_url)
        if kind is None or kind not in self._held:
            return Ignored(type_url=request.type_url)
        held = self._held[kind]
        if self._protocol is Protocol.SOTW:
            return self._receive_sotw(held, request)
        outcome = self._answered(held, request)
        _subscribe_delta(held, request)
        return outcome

    def tick(self, now: float) -> tuple[Push, ...]:
        """The pushes that are due now, in the order in which they are to be sent."""
        if self._target is None:
            return ()
        return tuple(self._due(self._target, now))

    def _receive_sotw(self, held: Held, request: Request) -> Outcome:
        if held.subscribed and request.nonce != held.newest_nonce:
            return Stale(kind=held.kind)
        outcome = self._answered(held, request)
        _subscribe_sotw(held, request)
        return outcome

    def _answered(self, held: Held, request: Request) -> Outcome:
        if not request.nonce or not held.subscribed:
            return Asked(kind=held.kind)
        sent = held.outstanding.pop(request.nonce, None)
        self._awaited.discard(request.nonce)
        if not self._awaited:
            self._gate = None
        if sent is None:
            # State of the world: an answer already counted may come again with other names.
            again = request.nonce == held.newest_nonce
            return Asked(kind=held.kind) if again else Stale(kind=held.kind)
        version = sent.target.versions[held.kind]
        if request.error is None:
            return Ack(kind=held.kind, version=version)
        held.refused(sent)
        self._cancelled = sent.target
        return Nack(kind=held.kind, version=version, detail=request.error)

    def _due(self, target: ResourceSet, now: float) -> Iterator[Push]:
        yield from self._additions(ResourceKind.SDS, target)
        clusters = tuple(self._additions(ResourceKind.CDS, target))
        yield from clusters
        self._renew_endpoints(clusters)
        self._wait_for(clusters, now)
        yield from self._additions(ResourceKind.EDS, target)
        if self._gate is None or now >= self._gate:
            self._gate = None
            self._awaited.clear()
            for kind in _ROUTING:
                yield from self._additions(kind, target)
        if self._may_remove(target):
            yield from self._removals(target)

    def _additions(self, kind: ResourceKind, target: ResourceSet) -> Iterator[Push]:
        """Additions and changes of a kind; of listeners, removals too."""
        held = self._held.get(kind)
        if held is None or held.is_quiet(target):
            return
        blocked = held.is_blocked(target)
        changed = _owed(held, target) if blocked else held.changed(target)
        gone = {} if blocked or not kind.is_wildcard else held.vanished(target)
        keeps = kind is ResourceKind.CDS
        removed = held.unknown(target) + (() if keeps else tuple(gone))
        due = bool(changed or removed or held.answer_due)
        first = self._order + 1
        if due and self._protocol is Protocol.DELTA:
            yield from self._push_chunks(held, target, changed, removed)
        elif due and (changed or kind.is_wildcard):
            everything = changed if blocked else held.wanted(target)
            yield self._push(held, target, _with_kept(everything, gone if keeps else {}))
        if blocked:
            held.owed = frozenset()
        else:
            held.settle(target, gone if keeps else {}, first if self._order >= first else None)

    def _push_chunks(
        self,
        held: Held,
        target: ResourceSet,
        resources: tuple[Resource, ...],
        removed: tuple[str, ...],
    ) -> Iterator[Push]:
        chunks = list(_chunks(resources)) or [()]
        for chunk in chunks[:-1]:
            yield self._push(held, target, chunk)
        yield self._push(held, target, chunks[-1], removed)

    def _push(
        self,
        held: Held,
        target: ResourceSet,
        resources: tuple[Resource, ...],
        removed: tuple[str, ...] = (),
    ) -> Push:
        self._order += 1
        nonce = str(self._order)
        if self._protocol is Protocol.SOTW:
            # Only the newest push of a kind can be answered; older answers are stale.
            self._awaited.difference_update(held.outstanding)
            held.outstanding.clear()
        held.sent(nonce, Sent(order=self._order, target=target, removed=removed))
        version = target.versions[held.kind]
        return Push(
            kind=held.kind, version=version, nonce=nonce, resources=resources, removed=removed
        )

    def _renew_endpoints(self, clusters: tuple[Push, ...]) -> None:
        # Envoy keeps a changed cluster in warming until its endpoints come again (7.3).
        endpoints = self._held.get(ResourceKind.EDS)
        if endpoints is not None:
            changed = frozenset(r.name for push in clusters for r in push.resources)
            # Before they are asked for, all are owed: the client may say it holds them already.
            endpoints.owed |= changed & endpoints.names if endpoints.subscribed else changed

    def _wait_for(self, clusters: tuple[Push, ...], now: float) -> None:
        if clusters:
            self._awaited.update(push.nonce for push in clusters)
            if self._gate is None:
                self._gate = now + CLUSTER_WAIT_SECONDS

    def _may_remove(self, target: ResourceSet) -> bool:
        """True when nothing the client holds can name what is to go, and no NACK forbids it."""
        clusters = self._held.get(ResourceKind.CDS)
        if clusters is None or not clusters.keeps_removed:
            return False
        if self._cancelled is not None and self._cancelled.versions == target.versions:
            return False
        if any(held.outstanding for held in self._held.values()):
            return False
        listeners, routes = (self._held[kind] for kind in _ROUTING)
        return (
            clusters.is_settled(target)
            and listeners.is_settled(target)
            and (routes.is_settled(target) or not routes.subscribed)
            and all(routes.wants(name) for name in target.names(ResourceKind.RDS))
        )

    def _removals(self, target: ResourceSet) -> Iterator[Push]:
        held = self._held[ResourceKind.CDS]
        gone = tuple(held.vanished(target))
        if self._protocol is Protocol.DELTA:
            yield self._push(held, target, (), gone)
        else:
            yield self._push(held, target, held.wanted(target))
        held.settle(target, {}, self._order)


def _subscribe_sotw(held: Held, request: Request) -> None:
    if not held.subscribed:
        held.start({})
        held.wildcard = held.kind.is_wildcard
        held.answer_due = held.wildcard
    if not held.wildcard:
        held.owed = (held.owed & request.names) | (request.names - held.names)
        held.names = request.names


def _subscribe_delta(held: Held, request: Request) -> None:
    named = request.names - {_WILDCARD}
    if not held.subscribed:
        held.start(
            {
                name: Resource(held.kind, name, b"", v)
                for name, v in request.initial_versions.items()
            }
        )
        held.wildcard = held.kind.is_wildcard and (not request.names or _WILDCARD in request.names)
        held.answer_due = held.wildcard and not request.initial_versions
        held.owed = (held.owed & named) | (named - request.initial_versions.keys())
    else:
        if _WILDCARD in request.names and held.kind.is_wildcard and not held.wildcard:
            held.widen()
        held.owed = (held.owed - request.unsubscribe) | named
    if _WILDCARD in request.unsubscribe:
        held.wildcard = False
    held.names = (held.names - request.unsubscribe) | named
    if len(held.names) > MAX_NAMES:
        raise ProtocolError(f"a stream wants {len(held.names)} {held.kind} resources by name")


def _owed(held: Held, target: ResourceSet) -> tuple[Resource, ...]:
    found = (target.get(held.kind, name) for name in sorted(held.owed))
    return tuple(resource for resource in found if resource is not None)


def _with_kept(resources: tuple[Resource, ...], kept: dict[str, Resource]) -> tuple[Resource, ...]:
    return tuple(sorted((*resources, *kept.values()), key=lambda resource: resource.name))


def _chunks(resources: tuple[Resource, ...]) -> Iterator[tuple[Resource, ...]]:
    """The resources in runs of about 4 MiB, at least one each."""
    chunk: list[Resource] = []
    size = 0
    for resource in resources:
        if chunk and size + len(resource.body) > _CHUNK_BYTES:
            yield tuple(chunk)
            chunk, size = [], 0
        chunk.append(resource)
        size += len(resource.body)
    if chunk:
        yield tuple(chunk)
