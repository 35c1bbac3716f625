"""The sidecar's listeners: traffic out, traffic in, and metrics.

Specs come in, LDS resources go out; filter chains are made in ``outbound`` and ``inbound``. Envoy
would refuse a listener without chains, so assembly leaves it out. Specification: data-plane 5.3 to
5.7.
"""

from __future__ import annotations

from xds.builders import egress, hcm, inbound, names, outbound, telemetry
from xds.builders.inbound import InboundSpec
from xds.builders.outbound import OutboundSpec
from xds.protos import (
    BoolValue,
    FilterChain,
    Listener,
    ListenerFilter,
    Message,
    OriginalDst,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    TlsInspector,
    TrafficDirection,
    VirtualHost,
    pack,
    resource_of,
    serialize,
)
from xds.resource import Resource, ResourceKind

_ANY_ADDRESS = "0.0.0.0"  # noqa: S104  captured connections arrive on every address of the pod
_OUTBOUND_PORT = 15001
_INBOUND_PORT = 15003
_PROMETHEUS_PORT = 15010
_METRICS_PATH = "/stats/prometheus"


def build_outbound_listener(spec: OutboundSpec) -> Resource:
    """The listener of traffic out; the spec has a chain or passes the rest through."""
    listener = _capture(names.OUTBOUND_LISTENER, _OUTBOUND_PORT, TrafficDirection.OUTBOUND)
    listener.listener_filters.extend([_original_dst(), *egress.inspectors(spec.egress)])
    listener.continue_on_listener_filters_timeout = True
    listener.filter_chains.extend(outbound.chains(spec))
    if spec.passthrough:
        listener.default_filter_chain.CopyFrom(outbound.default_chain())
    # Serialized messages one after the other are their union, by protobuf's encoding rules.
    body = serialize(listener) + spec.matcher.body
    return Resource.of(ResourceKind.LDS, listener.name, body)


def build_inbound_listener(spec: InboundSpec) -> Resource:
    """The listener of traffic in; the spec serves something."""
    listener = _capture(names.INBOUND_LISTENER, _INBOUND_PORT, TrafficDirection.INBOUND)
    inspector = _listener_filter("envoy.filters.listener.tls_inspector", TlsInspector())
    listener.listener_filters.extend([inspector, _original_dst()])
    listener.filter_chains.extend(inbound.chains(spec))
    return _resource(listener)


def build_prometheus_listener(name: str) -> Resource:
    """The listener that serves metrics, and nothing else of the admin interface."""
    route = Route(match=RouteMatch(path=_METRICS_PATH), route=RouteAction(cluster=names.METRICS))
    host = VirtualHost(name="prometheus-inbound-virtual-host", domains=["*"], routes=[route])
    routes = RouteConfiguration(virtual_hosts=[host], validate_clusters=BoolValue(value=False))
    manager = hcm.inline_hcm("prometheus-http-conn-manager", routes)
    listener = _listener(name, _PROMETHEUS_PORT, TrafficDirection.INBOUND)
    listener.filter_chains.append(FilterChain(name=name, filters=[manager]))
    return _resource(listener)


def _capture(name: str, port: int, direction: TrafficDirection) -> Listener:
    listener = _listener(name, port, direction)
    listener.access_log.append(telemetry.unmatched_log())
    return listener


def _listener(name: str, port: int, direction: TrafficDirection) -> Listener:
    listener = Listener(name=name, traffic_direction=direction)
    listener.address.socket_address.address = _ANY_ADDRESS
    listener.address.socket_address.port_value = port
    return listener


def _original_dst() -> ListenerFilter:
    return _listener_filter("envoy.filters.listener.original_dst", OriginalDst())


def _listener_filter(name: str, config: Message) -> ListenerFilter:
    return ListenerFilter(name=name, typed_config=pack(config))


def _resource(listener: Listener) -> Resource:
    return resource_of(ResourceKind.LDS, listener.name, listener)
