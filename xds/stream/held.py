"""What one client wants and holds of one kind, and how that differs from a set of resources.

The client's state is kept as a reference to the set it was last sent whole, plus the few names that
deviate from it: a thousand streams share their sets instead of copying them. Layers that the old
and the new set have in common are not looked at. Called by ``subscription``. Specification:
data-plane 7.3, 7.4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from xds.resource import Layer, Resource, ResourceKind, ResourceSet

_MAX_OUTSTANDING = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A push that the client has not answered yet."""

    order: int
    target: ResourceSet
    """The set it was cut from."""
    removed: tuple[str, ...] = ()


class Held:
    """One kind on one stream."""

    __slots__ = (
        "_base",
        "_extra",
        "_trusted",
        "_whole_since",
        "answer_due",
        "kind",
        "names",
        "newest_nonce",
        "outstanding",
        "owed",
        "rejected",
        "subscribed",
        "wildcard",
    )

    def __init__(self, kind: ResourceKind) -> None:
        self.kind = kind
        self.subscribed = False
        self.wildcard = False
        self.names: frozenset[str] = frozenset()
        self.owed: frozenset[str] = frozenset()
        """Names to answer even if nothing changed: the client waits for them."""
        self.answer_due = False
        """The client waits for an answer even if it is empty."""
        self.outstanding: dict[str, Sent] = {}
        """Pushes without an answer, by nonce, oldest first."""
        self.newest_nonce = ""
        """Of the push sent last, answered or not."""
        self.rejected: str | None = None
        """Version the client refused; it is not sent again until another was."""
        self._base: ResourceSet | None = None
        """The client was sent all it wants of this set."""
        self._extra: dict[str, Resource] = {}
        """What it holds besides; never a name of the base."""
        self._trusted = True
        """False after a NACK: any part of the base may not have been taken."""
        self._whole_since = 0
        """Order of the first push after which all that came before no longer matters."""

    def wants(self, name: str) -> bool:
        """True when the client subscribed to the name."""
        return self.wildcard or name in self.names

    def start(self, initial: dict[str, Resource]) -> None:
        """The client holds these from an earlier stream and nothing else."""
        self.subscribed = True
        self._extra = initial

    def widen(self) -> None:
        """The client wants all names now, so none of what it was sent is whole any more."""
        self.wildcard = self.answer_due = True
        self._trusted = False

    def is_quiet(self, target: ResourceSet) -> bool:
        """True when there is nothing to send of the set; the cheap way to know it."""
        return (
            self._base is target and self._trusted and not self.owed and not self.answer_due
        ) or not self.subscribed

    def changed(self, target: ResourceSet) -> tuple[Resource, ...]:
        """What the client wants of the set and does not hold, or is owed; sorted by name."""
        found = {
            resource.name: resource
            for layer in self._new_layers(target)
            for resource in layer.resources(self.kind).values()
            if self.wants(resource.name) and self._version(resource.name) != resource.version
        }
        for name in self.owed:
            resource = target.get(self.kind, name)
            if resource is not None:
                found[name] = resource
        return tuple(found[name] for name in sorted(found))

    def wanted(self, target: ResourceSet) -> tuple[Resource, ...]:
        """All of the set that the client wants; sorted by name."""
        found = [r for r in target.resources(self.kind) if self.wants(r.name)]
        return tuple(sorted(found, key=lambda resource: resource.name))

    def vanished(self, target: ResourceSet) -> dict[str, Resource]:
        """What the client holds, or may hold, and the set lacks; sorted by name."""
        gone = {n: r for n, r in self._extra.items() if target.get(self.kind, n) is None}
        if self._base is not None:
            for layer in _other_layers(self._base, target):
                named = layer.resources(self.kind).items()
                gone |= {
                    name: resource
                    for name, resource in named
                    if self.wants(name) and target.get(self.kind, name) is None
                }
        return dict(sorted(gone.items()))

    def unknown(self, target: ResourceSet) -> tuple[str, ...]:
        """Names the client waits for in vain; sorted."""
        return tuple(sorted(n for n in self.owed if target.get(self.kind, n) is None))

    def settle(
        self, target: ResourceSet, kept: dict[str, Resource], order: int | None = None
    ) -> None:
        """The client has been sent all it wants of the set, and keeps these besides.

        ``order`` is that of the first push that brought it; None: nothing had to be sent.
        """
        if not self._trusted and order is not None:
            self._whole_since = order
        self._base, self._extra, self._trusted = target, kept, True
        self.owed, self.answer_due, self.rejected = frozenset(), False, None

    def sent(self, nonce: str, sent: Sent) -> None:
        """A push awaits its answer. A client that never answers is not remembered without end."""
        self.outstanding[nonce] = sent
        self.newest_nonce = nonce
        if len(self.outstanding) > _MAX_OUTSTANDING:
            del self.outstanding[next(iter(self.outstanding))]

    def refused(self, sent: Sent) -> None:
        """The client refused a push: what it holds is unknown until all is sent again."""
        if sent.order >= self._whole_since:
            self._trusted = False
            self.rejected = sent.target.versions[self.kind]
            for push in (sent, *self.outstanding.values()):
                self._extra |= {name: self._stub(name) for name in push.removed if self._lost(name)}

    def is_blocked(self, target: ResourceSet) -> bool:
        """True while the set's version is the one the client refused."""
        return self.rejected is not None and self.rejected == target.versions[self.kind]

    def is_settled(self, target: ResourceSet) -> bool:
        """True when the client took all it wants of the set."""
        base = self._base
        return (
            self.subscribed
            and base is not None
            and self._trusted
            and not (self.outstanding or self.owed or self.answer_due)
            and (base is target or base.versions[self.kind] == target.versions[self.kind])
        )

    @property
    def keeps_removed(self) -> bool:
        """True while the client was left something that its set no longer has."""
        return bool(self._extra)

    def _lost(self, name: str) -> bool:
        base = self._base
        return self.wants(name) and (base is None or base.get(self.kind, name) is None)

    def _stub(self, name: str) -> Resource:
        return Resource(self.kind, name, b"", "")

    def _version(self, name: str) -> str | None:
        if not self._trusted:
            return None
        found = self._extra.get(name)
        if found is None and self._base is not None:
            found = self._base.get(self.kind, name)
        return None if found is None else found.version

    def _new_layers(self, target: ResourceSet) -> Iterator[Layer]:
        if self._base is None or not self._trusted:
            return iter(target.layers)
        return _other_layers(target, self._base)


def _other_layers(of: ResourceSet, than: ResourceSet) -> Iterator[Layer]:
    """The layers of the one set that the other does not share."""
    shared = set(map(id, than.layers))
    return (layer for layer in of.layers if id(layer) not in shared)
