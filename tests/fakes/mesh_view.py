"""What a test's server is configured with, and a notebook of what it reported."""

from __future__ import annotations

from threading import Condition

from xds.policy.identity import Issuers, ProxyId
from xds.resource import ResourceKind, ResourceSet
from xds.server.ports import Admission, ServerIdentity, StreamInfo

WAIT_SECONDS = 10.0


class FakeReader:
    """Implements ``ConfigReader``; the test sets what is true."""

    def __init__(self) -> None:
        self.sets: dict[str, ResourceSet] = {}
        self.admissions: dict[str, Admission] = {}
        self.most = 0
        self.trusted = Issuers()

    def issuers(self) -> Issuers:
        return self.trusted

    def admit(self, proxy: ProxyId) -> Admission:
        return self.admissions.get(proxy.uuid, Admission.ADMITTED)

    def current(self, proxy: ProxyId) -> ResourceSet | None:
        return self.sets.get(proxy.uuid)

    def max_connections(self) -> int:
        return self.most


class Notebook:
    """Implements ``ProxyObserver``: writes down what happens, and lets a test wait for it."""

    def __init__(self) -> None:
        self._changed = Condition()
        self.notes: list[tuple[object, ...]] = []

    def connected(self, stream: StreamInfo) -> None:
        self._note("connected", stream.proxy.uuid)

    def gone(self, stream: StreamInfo) -> None:
        self._note("gone", stream.proxy.uuid)

    def refused(self, peer: str, reason: str, code: str) -> None:
        assert peer.startswith("ipv4:127.0.0.1:")
        self._note("refused", reason, code)

    def requested(self, stream: StreamInfo, kind: ResourceKind) -> None:
        self._note("requested", stream.proxy.uuid, kind)

    def sent(self, stream: StreamInfo, kind: ResourceKind, size_bytes: int) -> None:
        assert size_bytes > 0
        self._note("sent", stream.proxy.uuid, kind)

    def acked(self, stream: StreamInfo, kind: ResourceKind, version: str) -> None:
        self._note("acked", stream.proxy.uuid, kind, version)

    def nacked(self, stream: StreamInfo, kind: ResourceKind, version: str, detail: str) -> None:
        self._note("nacked", stream.proxy.uuid, kind, version, detail)

    def wait_for(self, *note: object, times: int = 1) -> None:
        """The note was written so many times; fails after ten seconds."""
        with self._changed:
            found = self._changed.wait_for(lambda: self.notes.count(note) >= times, WAIT_SECONDS)
            assert found, (note, self.notes)

    def _note(self, *note: object) -> None:
        with self._changed:
            self.notes.append(note)
            self._changed.notify_all()


class FakeIdentity:
    """Implements ``ServerIdentitySource``; the test replaces the material."""

    def __init__(self, identity: ServerIdentity) -> None:
        self.identity = identity

    def server_identity(self) -> ServerIdentity:
        return self.identity
