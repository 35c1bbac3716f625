"""Objects of the Service Mesh Interface: TrafficTarget, HTTPRouteGroup, TCPRoute, TrafficSplit.

Raw objects come in through ``scheme.decode``; views go to ``app/mesh/rules.py``, which resolves
references and decides what is in force. Here only what the CRD schemas check is checked. Source:
kubernetes-surface 1.10 to 1.12; SMI Traffic Access v1alpha3, Traffic Specs v1alpha4, Traffic Split
v1alpha4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from app.objects.core import PortNumber
from app.objects.meta import KubeModel, KubeObject, Label, RequiredName, shown, soft_error
from app.objects.patterns import MAX_LENGTH

MAX_WEIGHT = 1_000_000
"""With ``MAX_BACKENDS`` the total of a split stays below Envoy's limit of 2^32 - 1."""
MAX_BACKENDS = 1000

Method = Literal[
    "*", "", "GET", "HEAD", "PUT", "POST", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"
]


def _list_of_maps(value: Any) -> Any:
    """Header conditions as a list of maps; the prose of SMI also shows one plain map."""
    return [value] if isinstance(value, Mapping) else value


def _whole_number(value: Any) -> Any:
    """A weight as the CRD means it: a number, not text and not a truth value."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise soft_error("weight", f"must be a whole number such as 90, not {shown(value)}")
    return int(value)


Pattern = Annotated[str, Field(max_length=MAX_LENGTH)]
HeaderMaps = Annotated[tuple[dict[str, Pattern], ...], BeforeValidator(_list_of_maps)]
Weight = Annotated[int, BeforeValidator(_whole_number), Field(ge=0, le=MAX_WEIGHT)]


class Subject(KubeModel):
    """An account that a TrafficTarget names; an empty namespace is that of the TrafficTarget."""

    kind: str
    name: RequiredName
    namespace: Label = ""


class RouteRef(KubeModel):
    """A route object a TrafficTarget names; no ``matches`` means all matches of the group."""

    kind: str
    name: Annotated[str, Field(min_length=1)]
    matches: tuple[str, ...] = ()


class TrafficTargetSpec(KubeModel):
    """Who may reach whom by which routes."""

    destination: Subject
    sources: tuple[Subject, ...] = ()
    rules: tuple[RouteRef, ...] = ()


class TrafficTarget(KubeObject):
    """Lets sources reach a destination."""

    spec: TrafficTargetSpec


class RouteMatch(KubeModel):
    """A named condition on requests, as written."""

    name: Annotated[str, Field(min_length=1)]
    path_regex: Pattern = ""
    methods: tuple[Method, ...] = ()
    headers: HeaderMaps = ()


class HTTPRouteGroupSpec(KubeModel):
    """The conditions of a group."""

    matches: tuple[RouteMatch, ...] = ()


class HTTPRouteGroup(KubeObject):
    """Named conditions on HTTP requests."""

    spec: HTTPRouteGroupSpec = Field(default_factory=HTTPRouteGroupSpec)


class TCPRouteMatch(KubeModel):
    """Ports that Pods listen on; empty means every port."""

    ports: tuple[PortNumber, ...] = ()


class TCPRouteSpec(KubeModel):
    """The condition of a TCPRoute."""

    matches: TCPRouteMatch


class TCPRoute(KubeObject):
    """A condition on connections."""

    spec: TCPRouteSpec


class SplitBackend(KubeModel):
    """A Service that takes a share of the traffic, in proportion to its weight."""

    service: RequiredName
    weight: Weight


class SplitMatch(KubeModel):
    """An HTTPRouteGroup of the split's namespace: requests that fit one of its matches."""

    kind: Literal["HTTPRouteGroup"] = "HTTPRouteGroup"
    name: RequiredName


class TrafficSplitSpec(KubeModel):
    """How traffic to a root Service is spread."""

    service: RequiredName
    backends: Annotated[tuple[SplitBackend, ...], Field(max_length=MAX_BACKENDS)] = ()
    matches: Annotated[tuple[SplitMatch, ...], Field(max_length=MAX_BACKENDS)] = ()
    """Only requests that fit one of these are spread; empty: all of them."""


class TrafficSplit(KubeObject):
    """Spreads traffic to one Service over several."""

    spec: TrafficSplitSpec
