"""Which traffic the sidecar takes over, and the script of ``osm-init`` that makes it so.

In come MeshConfig and a Pod's annotations, out goes one shell script: the rules of
kubernetes-surface 3.5 in one atomic ``iptables-restore``. Running it again gives the same rules.
Every word that comes from outside is parsed and written anew before it reaches the script.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import TypeVar

from app.errors import ExclusionError
from app.inject.pod import ENVOY_UID
from app.objects.config import MeshConfigSpec

OUTBOUND_PORTS = "openservicemesh.io/outbound-port-exclusion-list"
INBOUND_PORTS = "openservicemesh.io/inbound-port-exclusion-list"
OUTBOUND_EXCLUDED_RANGES = "openservicemesh.io/outbound-ip-range-exclusion-list"
OUTBOUND_INCLUDED_RANGES = "openservicemesh.io/outbound-ip-range-inclusion-list"

_T = TypeVar("_T")

_IN, _IN_REDIRECT = "OSM_PROXY_INBOUND", "OSM_PROXY_IN_REDIRECT"
_OUT, _OUT_REDIRECT = "OSM_PROXY_OUTBOUND", "OSM_PROXY_OUT_REDIRECT"
_INBOUND_LISTENER, _OUTBOUND_LISTENER = 15003, 15001
_OWN_PORTS = (15010, 15901, 15902, 15903)
"""Ports of the sidecar that are reached directly: metrics and probes."""
_JUMP_IN = f"PREROUTING -p tcp -j {_IN}"
_JUMP_OUT = f"OUTPUT -p tcp -j {_OUT}"
_TO_POD_IP = (
    f"OUTPUT -p tcp -o lo -d 127.0.0.1/32 -m owner --uid-owner {ENVOY_UID} "
    "-j DNAT --to-destination $POD_IP"
)
_ADMIN_STAYS = (
    f"OUTPUT -p tcp -o lo -d 127.0.0.1/32 -m owner --uid-owner {ENVOY_UID} "
    "-m tcp --dport 15000 -j RETURN"
)
"""Before the rule above: the sidecar's admin listens on 127.0.0.1 only, and /osm-ready asks it."""
_MULTIPORT_LIMIT = 15
"""iptables takes no more ports in one multiport match."""
_MAX_PORT = 65535
_PREFIX_DIGITS = 2
_INTERFACE_CHARACTERS = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-@"
)
_INTERFACE_LENGTH = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirection:
    """What is left alone; all other TCP goes through the sidecar. Lists are distinct, in order."""

    inbound_ports: tuple[int, ...] = ()
    outbound_ports: tuple[int, ...] = ()
    excluded_ranges: tuple[str, ...] = ()
    included_ranges: tuple[str, ...] = ()
    """Not empty: only these destinations are redirected."""
    interfaces: tuple[str, ...] = ()
    deliver_to_pod_ip: bool = False
    """The sidecar reaches its application at the Pod's address instead of at 127.0.0.1."""


def redirection(
    config: MeshConfigSpec, annotations: Mapping[str, str], probed_ports: Iterable[int]
) -> Redirection:
    """The mesh's lists and the Pod's together, and the ports that the kubelet probes itself.

    Raises :class:`ExclusionError` naming the value and the annotation.
    """
    traffic = config.traffic
    inbound = (*traffic.inbound_port_exclusion_list, *_ports(annotations, INBOUND_PORTS))
    outbound = (*traffic.outbound_port_exclusion_list, *_ports(annotations, OUTBOUND_PORTS))
    excluded = _ranges(annotations, OUTBOUND_EXCLUDED_RANGES)
    included = _ranges(annotations, OUTBOUND_INCLUDED_RANGES)
    return Redirection(
        inbound_ports=_distinct((*inbound, *probed_ports)),
        outbound_ports=_distinct(outbound),
        excluded_ranges=_distinct((*excluded, *traffic.outbound_ip_range_exclusion_list)),
        included_ranges=_distinct((*included, *traffic.outbound_ip_range_inclusion_list)),
        interfaces=_distinct(filter(_is_interface, traffic.network_interface_exclusion_list)),
        deliver_to_pod_ip=config.sidecar.local_proxy_mode == "PodIP",
    )


def init_script(wanted: Redirection) -> str:
    """The script; it needs a POSIX shell, iptables, NET_ADMIN and, in PodIP mode, ``$POD_IP``."""
    check = _POD_IP_CHECK if wanted.deliver_to_pod_ip else ""
    jumps = [_JUMP_IN, _JUMP_OUT]
    if wanted.deliver_to_pod_ip:
        jumps += [_TO_POD_IP, _ADMIN_STAYS]
    lines = [
        "*nat",
        *(f":{chain} - [0:0]" for chain in (_IN, _IN_REDIRECT, _OUT, _OUT_REDIRECT)),
        *(f"$(stale {jump})" for jump in jumps),
        *_inbound_rules(wanted),
        *_outbound_rules(wanted),
        "COMMIT",
    ]
    return _SCRIPT.format(check=check, rules="\n".join(lines))


def _inbound_rules(wanted: Redirection) -> Iterator[str]:
    yield f"-A {_IN_REDIRECT} -p tcp -j REDIRECT --to-port {_INBOUND_LISTENER}"
    yield f"-A {_JUMP_IN}"
    for port in _OWN_PORTS:
        yield f"-A {_IN} -p tcp --dport {port} -j RETURN"
    yield f"-A {_IN} -p tcp -j {_IN_REDIRECT}"
    for interface in wanted.interfaces:
        yield f"-I {_IN} -i {interface} -j RETURN"
    for ports in _chunks(wanted.inbound_ports):
        yield f"-I {_IN} -p tcp -m multiport --dports {ports} -j RETURN"


def _outbound_rules(wanted: Redirection) -> Iterator[str]:
    yield f"-A {_OUT_REDIRECT} -p tcp -j REDIRECT --to-port {_OUTBOUND_LISTENER}"
    yield f"-A {_JUMP_OUT}"
    owner = f"-m owner --uid-owner {ENVOY_UID}"
    # The sidecar that calls its own Pod's address enters again as a client from outside would.
    yield f"-A {_OUT} -o lo ! -d 127.0.0.1/32 {owner} -j {_IN_REDIRECT}"
    # The application that talks to itself, then all that the sidecar sends, then loopback.
    yield f"-A {_OUT} -o lo -m owner ! --uid-owner {ENVOY_UID} -j RETURN"
    yield f"-A {_OUT} {owner} -j RETURN"
    yield f"-A {_OUT} -d 127.0.0.1/32 -j RETURN"
    if wanted.deliver_to_pod_ip:
        yield f"-I {_TO_POD_IP}"
        yield f"-I {_ADMIN_STAYS}"
    for interface in wanted.interfaces:
        yield f"-A {_OUT} -o {interface} -j RETURN"
    for network in wanted.excluded_ranges:
        yield f"-A {_OUT} -d {network} -j RETURN"
    for ports in _chunks(wanted.outbound_ports):
        yield f"-A {_OUT} -p tcp -m multiport --dports {ports} -j RETURN"
    for network in wanted.included_ranges:
        yield f"-A {_OUT} -d {network} -j {_OUT_REDIRECT}"
    yield f"-A {_OUT} -j {'RETURN' if wanted.included_ranges else _OUT_REDIRECT}"


def _chunks(ports: tuple[int, ...]) -> Iterator[str]:
    for start in range(0, len(ports), _MULTIPORT_LIMIT):
        yield ",".join(str(port) for port in ports[start : start + _MULTIPORT_LIMIT])


def _ports(annotations: Mapping[str, str], annotation: str) -> tuple[int, ...]:
    ports: list[int] = []
    for text in _items(annotations, annotation):
        # isdigit alone lets other scripts' digits pass; the length bounds the work of int().
        is_number = text.isascii() and text.isdigit() and len(text) <= len(str(_MAX_PORT))
        port = int(text) if is_number else 0
        if not 0 < port <= _MAX_PORT:
            raise ExclusionError(
                f"Pod annotation {annotation}: {text!r} is not a port; write numbers from 1 to "
                f"{_MAX_PORT}, separated by commas"
            )
        if port in ports:
            raise ExclusionError(f"Pod annotation {annotation}: port {port} is listed twice")
        ports.append(port)
    return tuple(ports)


def _ranges(annotations: Mapping[str, str], annotation: str) -> tuple[str, ...]:
    return tuple(_range(text, annotation) for text in _items(annotations, annotation))


def _range(text: str, annotation: str) -> str:
    address, _, length = text.partition("/")
    # A dotted mask, or none for a single host, is what only Python's parser knows.
    bits = (
        int(length)
        if length.isascii() and length.isdigit() and len(length) <= _PREFIX_DIGITS
        else -1
    )
    try:
        return str(IPv4Network((address, bits), strict=False))
    except ValueError as error:
        raise ExclusionError(
            f"Pod annotation {annotation}: {text!r} is not an IPv4 range such as 10.0.0.0/8"
        ) from error


def _items(annotations: Mapping[str, str], annotation: str) -> list[str]:
    text = annotations.get(annotation)
    return [] if text is None else [item.strip() for item in text.split(",")]


def _distinct(items: Iterable[_T]) -> tuple[_T, ...]:
    return tuple(dict.fromkeys(items))


def _is_interface(name: str) -> bool:
    """A name the kernel would take; anything else matches nothing, or ends the rule early."""
    return 0 < len(name) <= _INTERFACE_LENGTH and set(name) <= _INTERFACE_CHARACTERS


_POD_IP_CHECK = """
if [ -z "${POD_IP:-}" ]; then
  echo "osm-init: POD_IP is empty, but localProxyMode PodIP needs the address of the Pod" >&2
  exit 1
fi"""

_SCRIPT = """set -eu{check}
tool=
for candidate in iptables iptables-legacy iptables-nft; do
  if "$candidate" -w -t nat -S OUTPUT >/dev/null 2>&1; then tool=$candidate; break; fi
done
if [ -z "$tool" ]; then
  echo "osm-init: no iptables works: the kernel has no nat table, or NET_ADMIN is refused" >&2
  echo "(then set sidecar.enablePrivilegedInitContainer, or exempt the namespace)" >&2
  exit 1
fi
# A rule that an earlier run left: its deletion, in the same transaction that adds it anew.
stale() {{
  if "$tool" -w -t nat -C "$@" 2>/dev/null; then printf '%s\\n' "-D $*"; fi
}}
"$tool-restore" -w --noflush <<END
{rules}
END
"""
