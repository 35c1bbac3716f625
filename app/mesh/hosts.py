"""Host names that users write: what may be one, and which Service it means."""

from __future__ import annotations

_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:")
_LONGEST = 253


def is_host(text: str) -> bool:
    """True for what may be a DNS name or an IP address."""
    return 0 < len(text) <= _LONGEST and _CHARACTERS.issuperset(text)


def own_service(host: str, namespace: str, dns_suffix: str) -> str:
    """The Service of the namespace that the host means, in any of its forms; empty: none.

    Forms: ``name``, ``name.ns``, ``name.ns.svc``, with the first label of the DNS suffix, and with
    all of it (data-plane 3.6). The Service need not exist.
    """
    name, _, zone = host.lower().partition(".")
    short = f"{namespace}.svc"
    forms = {
        "",
        namespace,
        short,
        f"{short}.{dns_suffix.partition('.')[0]}",
        f"{short}.{dns_suffix}",
    }
    return name if zone in forms else ""
