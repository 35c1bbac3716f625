"""Words that all of ``xds`` shares: errors, resource kinds, resources and sets of resources.

A builder turns one frozen spec into one :class:`Resource`. Resources that several proxies share
live in a :class:`Layer`; a proxy's configuration is a :class:`ResourceSet`, a union of layers.
Versions are content hashes, so equal content has equal versions after a restart and on every
replica (data-plane 7.6).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType

_TYPE_URL_PREFIX = "type.googleapis.com/"
_VERSION_BYTES = 12


class MeshError(Exception):
    """What was asked cannot be done; ``str`` says what, where and what to do."""

    code = "E5000"


class ResourceError(MeshError):
    """A set of resources contradicts itself; the proxy keeps its last good set."""

    code = "E5007"


class ResourceKind(StrEnum):
    """The kinds of configuration a sidecar asks for, in the order of make-before-break (7.5)."""

    SDS = "SDS"
    CDS = "CDS"
    EDS = "EDS"
    LDS = "LDS"
    RDS = "RDS"

    @property
    def type_url(self) -> str:
        """The type URL of the kind, as Envoy names it in requests."""
        return _TYPE_URL_PREFIX + _MESSAGE_NAMES[self]

    @property
    def is_wildcard(self) -> bool:
        """True where a proxy subscribes to all resources of the kind instead of naming them."""
        return self in (ResourceKind.CDS, ResourceKind.LDS)

    @classmethod
    def from_type_url(cls, type_url: str) -> ResourceKind | None:
        """The kind of a type URL, or None for a type this server does not serve."""
        return _KINDS_BY_URL.get(type_url)


_MESSAGE_NAMES: Mapping[ResourceKind, str] = MappingProxyType(
    {
        ResourceKind.LDS: "envoy.config.listener.v3.Listener",
        ResourceKind.RDS: "envoy.config.route.v3.RouteConfiguration",
        ResourceKind.CDS: "envoy.config.cluster.v3.Cluster",
        ResourceKind.EDS: "envoy.config.endpoint.v3.ClusterLoadAssignment",
        ResourceKind.SDS: "envoy.extensions.transport_sockets.tls.v3.Secret",
    }
)
_KINDS_BY_URL = {kind.type_url: kind for kind in ResourceKind}


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Resource:
    """One Envoy configuration item; identity is its equality, because caches share it.

    ``body`` is the deterministic serialization of the message, ``version`` a hash of it. ``repr``
    hides the body: a secret's body holds a private key.
    """

    kind: ResourceKind
    name: str
    body: bytes
    version: str

    @classmethod
    def of(cls, kind: ResourceKind, name: str, body: bytes) -> Resource:
        """A resource whose version is the hash of its body."""
        return cls(kind, name, body, _digest([body]))

    def __repr__(self) -> str:
        return f"Resource({self.kind} {self.name!r} version={self.version})"


class Layer:
    """Resources that one or more proxies hold together, immutable; shared by reference.

    Names are unique within a kind. Versions per kind are hashed once, at first use.
    """

    __slots__ = ("__dict__", "__weakref__", "_by_kind")

    def __init__(self, resources: Iterable[Resource]) -> None:
        """Raise :class:`ResourceError` when a name comes twice within a kind."""
        by_kind: dict[ResourceKind, dict[str, Resource]] = {kind: {} for kind in ResourceKind}
        for resource in resources:
            if resource.name in by_kind[resource.kind]:
                raise ResourceError(f"{resource.kind} resource {resource.name!r} was built twice")
            by_kind[resource.kind][resource.name] = resource
        self._by_kind = {
            kind: MappingProxyType(dict(sorted(named.items()))) for kind, named in by_kind.items()
        }

    def resources(self, kind: ResourceKind) -> Mapping[str, Resource]:
        """The layer's resources of a kind by name, sorted by name."""
        return self._by_kind[kind]

    @cached_property
    def versions(self) -> Mapping[ResourceKind, str]:
        """Per kind, the hash of the sorted (name, version) pairs; "" for a kind the layer lacks."""
        return {
            kind: _digest(f"{n}\0{r.version}\0".encode() for n, r in named.items()) if named else ""
            for kind, named in self._by_kind.items()
        }


class ResourceSet:
    """All that one proxy is configured with: a union of layers, immutable.

    A name may stand in one layer only (assembly guarantees it). Proxies of one profile share the
    set.
    """

    __slots__ = ("__dict__", "__weakref__", "layers")

    def __init__(self, layers: Iterable[Layer]) -> None:
        self.layers = tuple(layers)

    @cached_property
    def versions(self) -> Mapping[ResourceKind, str]:
        """Per kind, a version that is equal exactly when the kind's resources are equal."""
        return {
            kind: _digest(layer.versions[kind].encode() + b"\0" for layer in self.layers)
            for kind in ResourceKind
        }

    def get(self, kind: ResourceKind, name: str) -> Resource | None:
        """The resource of that kind and name, or None."""
        for layer in self.layers:
            found = layer.resources(kind).get(name)
            if found is not None:
                return found
        return None

    def names(self, kind: ResourceKind) -> Iterator[str]:
        """The names of a kind, layer by layer."""
        for layer in self.layers:
            yield from layer.resources(kind)

    def resources(self, kind: ResourceKind) -> Iterator[Resource]:
        """The resources of a kind, layer by layer."""
        for layer in self.layers:
            yield from layer.resources(kind).values()


def _digest(parts: Iterable[bytes]) -> str:
    hasher = hashlib.blake2b(digest_size=_VERSION_BYTES)
    for part in parts:
        hasher.update(part)
    return hasher.hexdigest()
