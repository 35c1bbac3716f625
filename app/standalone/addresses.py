"""Which Pod and which Service has which address: one small file each, never half written.

An address is handed out again as late as possible, so that a client with an old answer of the DNS
server rather meets nobody than somebody else. Called by network.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from app.errors import RightsError
from app.standalone import files

RESERVED = 16
"""First addresses of a range: network, gateway, and room for addresses with a fixed meaning."""


class AddressBook:
    """Owner → address within one range, persisted at each change; the node locks."""

    def __init__(self, path: Path, network: IPv4Network) -> None:
        self._path = path
        self._network = network
        self._addresses: dict[str, str] = {}
        self._last = RESERVED - 1
        self._load()

    def __getitem__(self, owner: str) -> str:
        return self._addresses[owner]

    def __contains__(self, owner: str) -> bool:
        return owner in self._addresses

    def all(self) -> Mapping[str, str]:
        """All owners with their addresses, sorted by owner."""
        return dict(sorted(self._addresses.items()))

    def take(self, owner: str) -> str:
        """The owner's address, else a free one; raise ``RightsError`` when there is none."""
        if owner not in self._addresses:
            self._last = self._next_free()
            self._addresses[owner] = str(self._network[self._last])
            self._save()
        return self._addresses[owner]

    def free(self, owner: str) -> None:
        """The owner has no address, whether or not it had one."""
        if self._addresses.pop(owner, None) is not None:
            self._save()

    def _next_free(self) -> int:
        taken = {int(IPv4Address(address)) for address in self._addresses.values()}
        base, size = int(self._network.network_address), self._network.num_addresses
        usable = size - 1 - RESERVED  # without the broadcast address
        for step in range(1, usable + 1):
            offset = RESERVED + (self._last - RESERVED + step) % usable
            if base + offset not in taken:
                return offset
        raise RightsError(f"no free address left in {self._network}")

    def _load(self) -> None:
        stored = files.read_json(self._path)
        if stored.get("network") == str(self._network):
            self._addresses = dict(stored["addresses"])
            self._last = stored["last"]

    def _save(self) -> None:
        content = {
            "network": str(self._network),
            "last": self._last,
            "addresses": dict(sorted(self._addresses.items())),
        }
        files.replace(self._path, json.dumps(content, indent=1))
