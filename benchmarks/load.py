"""The load: a process of its own that plays many sidecars, each with its own mTLS connection.

Each behaves as Envoy does over delta ADS: clusters first; then their endpoints and secrets by name;
clusters are acknowledged when their endpoints have come; then listeners, then the routes they name.
Started by ``streams``; reads the sidecars' keys and then commands, one JSON value per line, from
standard input, and answers each command with one line.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import grpc

from xds.protos import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from xds.resource import ResourceKind

SDS, CDS, EDS, LDS, RDS = ResourceKind
_METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
_OPTIONS = (
    ("grpc.ssl_target_name_override", "ads.cluster.local"),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
)
_NAMED_INSIDE = {
    CDS: {SDS: (b"service-cert", b"root-cert-for-mtls-outbound:")},
    LDS: {RDS: (b"rds-inbound.", b"rds-outbound."), SDS: (b"service-cert", b"root-cert-for-")},
}


class Names:
    """The names that bodies contain; each body is searched once for all sidecars."""

    def __init__(self) -> None:
        self._known: dict[str, dict[ResourceKind, frozenset[str]]] = {}

    def inside(
        self, kind: ResourceKind, version: str, body: bytes
    ) -> dict[ResourceKind, frozenset[str]]:
        found = self._known.get(version)
        if found is None:
            wanted = _NAMED_INSIDE[kind]
            found = {k: frozenset(_strings(body, prefixes)) for k, prefixes in wanted.items()}
            if kind is CDS:
                found[EDS] = frozenset({"*"}) if b"service-cert" in body else frozenset()
            self._known[version] = found
        return found


class Sidecar:
    """One delta stream that takes everything."""

    def __init__(self, load: Load, uuid: str) -> None:
        self._load = load
        self._uuid = uuid
        self._wanted: dict[ResourceKind, set[str]] = {kind: set() for kind in ResourceKind}
        self._warming: set[str] = set()
        self._unanswered: list[str] = []
        self._asked: set[ResourceKind] = set()
        self._is_complete = False
        self.held: dict[ResourceKind, set[str]] = {kind: set() for kind in ResourceKind}

    async def run(self, port: int, roots: bytes, chain: bytes, key: bytes) -> None:
        credentials = grpc.ssl_channel_credentials(roots, key, chain)
        async with grpc.aio.secure_channel(
            f"127.0.0.1:{port}", credentials, options=_OPTIONS
        ) as channel:
            self._call = channel.stream_stream(_METHOD)()
            await self._ask(CDS)
            while (payload := await self._call.read()) is not grpc.aio.EOF:
                await self._take(payload)

    async def _take(self, payload: bytes) -> None:
        response = DeltaDiscoveryResponse.FromString(payload)
        kind = ResourceKind.from_type_url(response.type_url)
        assert kind is not None
        self._load.count(kind, len(payload), len(response.resources))
        names = {one.name for one in response.resources}
        gone = set(response.removed_resources)
        self.held[kind] = (self.held[kind] | names) - gone
        if not self._is_complete and all(self.held.values()):
            self._is_complete = True
            self._load.note_complete()
        if kind in _NAMED_INSIDE:
            await self._follow(kind, response, gone)
        if kind is EDS:
            self._warming -= names | gone
        if kind is CDS:
            self._unanswered.append(response.nonce)
        else:
            await self._send(
                DeltaDiscoveryRequest(type_url=kind.type_url, response_nonce=response.nonce)
            )
        if not self._warming:
            for nonce in self._unanswered:
                await self._send(DeltaDiscoveryRequest(type_url=CDS.type_url, response_nonce=nonce))
            self._unanswered.clear()
            await self._ask(LDS)

    async def _follow(
        self, kind: ResourceKind, response: DeltaDiscoveryResponse, gone: set[str]
    ) -> None:
        wanted: dict[ResourceKind, set[str]] = {SDS: set(), EDS: set(), RDS: set()}
        for one in response.resources:
            inside = self._load.names.inside(kind, one.version, one.resource.value)
            for owned, names in inside.items():
                wanted[owned] |= {one.name} if owned is EDS and names else names
        self._warming |= wanted[EDS]
        self._warming -= gone
        for owned in (EDS, SDS, RDS):
            more = wanted[owned] - self._wanted[owned]
            less = gone & self._wanted[EDS] if kind is CDS and owned is EDS else set()
            self._wanted[owned] = (self._wanted[owned] | more) - less
            self.held[owned] -= less
            if more or less:
                await self._send(
                    DeltaDiscoveryRequest(
                        type_url=owned.type_url,
                        resource_names_subscribe=sorted(more),
                        resource_names_unsubscribe=sorted(less),
                    )
                )

    async def _ask(self, kind: ResourceKind) -> None:
        if kind not in self._asked:
            self._asked.add(kind)
            await self._send(DeltaDiscoveryRequest(type_url=kind.type_url))

    async def _send(self, request: DeltaDiscoveryRequest) -> None:
        if self._uuid:
            request.node.id, self._uuid = self._uuid, ""
        await self._call.write(request.SerializeToString())


class Load:
    """All sidecars, and what they were sent since the last look."""

    def __init__(self, sidecars: list[dict[str, str]], roots: str) -> None:
        self.names = Names()
        self._keys = sidecars
        self._roots = roots.encode()
        self._sidecars = [Sidecar(self, one["uuid"]) for one in sidecars]
        self._tasks: list[asyncio.Task[None]] = []
        self._incomplete = len(sidecars)
        self._complete = asyncio.Event()
        self._counts: Counter[str] = Counter()

    def count(self, kind: ResourceKind, size: int, resources: int) -> None:
        self._counts.update({str(kind): 1, "bytes": size, "messages": 1, "resources": resources})

    def connect(self, port: int) -> dict[str, Any]:
        """Every sidecar opens its connection and its stream."""
        for sidecar, one in zip(self._sidecars, self._keys, strict=True):
            chain, key = one["chain"].encode(), one["key"].encode()
            self._tasks.append(asyncio.create_task(sidecar.run(port, self._roots, chain, key)))
        return {}

    def note_complete(self) -> None:
        """One more sidecar holds something of every kind."""
        self._incomplete -= 1
        if not self._incomplete:
            self._complete.set()

    async def wait_until_complete(self, seconds: float) -> dict[str, Any]:
        """Every sidecar holds something of every kind, or the time is over."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._complete.wait(), seconds)
        return {}

    def counts(self) -> dict[str, Any]:
        """What came since the last call; by kind, how much the least equipped sidecar holds."""
        found, self._counts = self._counts, Counter()
        failed = [task.exception() for task in self._tasks if task.done()]
        least = {str(k): min(len(one.held[k]) for one in self._sidecars) for k in ResourceKind}
        cpu = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "counts": dict(found),
            "least": least,
            "failed": [str(error) for error in failed],
            "cpu": cpu.ru_utime + cpu.ru_stime,
        }

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _strings(body: bytes, prefixes: Iterable[bytes]) -> Iterable[str]:
    """Strings of the message that start so; each stands behind its length."""
    for prefix in prefixes:
        place = body.find(prefix)
        while place > 0:
            length = body[place - 1]
            if len(prefix) <= length < 128:
                yield body[place : place + length].decode()
            place = body.find(prefix, place + 1)


async def _answer(load: Load, command: dict[str, Any]) -> dict[str, Any]:
    if "connect" in command:
        return load.connect(command["connect"])
    if "complete" in command:
        return await load.wait_until_complete(command["complete"])
    return load.counts()


async def main() -> None:
    """Answer commands until standard input ends."""
    lines = asyncio.StreamReader(limit=2**26)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    setup = json.loads(await lines.readline())
    load = Load(setup["sidecars"], setup["roots"])
    print(json.dumps({}), flush=True)
    while line := await lines.readline():
        command = json.loads(line)
        print(json.dumps(await _answer(load, command)), flush=True)
    await load.stop()


if __name__ == "__main__":
    asyncio.run(main())
