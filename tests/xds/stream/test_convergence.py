"""Whatever the order of updates, answers, refusals and reconnects: the proxy converges.

No cluster is taken away from under a route that it serves by, and without refusals and timeouts no
route comes before its cluster is ready (data-plane 7.5).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fakes.model_proxy import CDS, LDS, SDS, SECRET, ModelProxy
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from xds.resource import Layer, Resource, ResourceKind, ResourceSet
from xds.stream.subscription import CLUSTER_WAIT_SECONDS, Subscription
from xds.stream.wire import Protocol, Push

NAMES = st.sets(st.sampled_from("abcd"))
CONTENT = st.integers(0, 1)


@st.composite
def meshes(draw: st.DrawFn) -> ResourceSet:
    """A set whose references are complete; equal draws give equal versions."""
    clusters = draw(NAMES)
    routes = {f"r{n}" for n in draw(st.sets(st.integers(0, 1)))}

    def some() -> str:
        names = draw(st.sets(st.sampled_from(sorted(clusters)))) if clusters else set()
        return ",".join(sorted(names))

    resources = [Resource.of(SDS, SECRET, str(draw(CONTENT)).encode())]
    for name in sorted(clusters):
        resources.append(Resource.of(CDS, name, f"n={draw(CONTENT)}".encode()))
        resources.append(Resource.of(ResourceKind.EDS, name, f"n={draw(CONTENT)}".encode()))
    resources += [
        Resource.of(ResourceKind.RDS, name, f"cluster={some()}".encode()) for name in sorted(routes)
    ]
    for name, used in (("in", routes & {"r0"}), ("out", routes & {"r1"})):
        if used or draw(st.booleans()):
            body = f"route={','.join(used)} cluster={some()} n={draw(CONTENT)}"
            resources.append(Resource.of(LDS, name, body.encode()))
    return ResourceSet([Layer(resources)])


class Streams(RuleBasedStateMachine):
    """One proxy and one server, with messages in flight both ways."""

    protocol = Protocol.DELTA

    def __init__(self) -> None:
        super().__init__()
        self.proxy = ModelProxy(self.protocol)
        self.stream = Subscription(self.protocol)
        self.target: ResourceSet | None = None
        self.now = 0.0

    @rule(mesh=meshes())
    def update(self, mesh: ResourceSet) -> None:
        self.target = mesh
        self.proxy.pushes.extend(self.stream.update(mesh, now=self.now))

    @precondition(lambda self: self.target is not None)
    @rule(kind=st.sampled_from(list(ResourceKind)))
    def touch(self, kind: ResourceKind) -> None:
        """Only one kind changes."""
        self.update(ResourceSet([Layer(self._edited(touched=kind))]))

    @precondition(lambda self: self.target is not None)
    @rule(name=st.sampled_from("abcd"))
    def drop(self, name: str) -> None:
        """A cluster goes, and is named no more."""
        self.update(ResourceSet([Layer(self._edited(dropped=name))]))

    def _edited(
        self, touched: ResourceKind | None = None, dropped: str | None = None
    ) -> Iterator[Resource]:
        assert self.target is not None
        for kind in ResourceKind:
            for resource in self.target.resources(kind):
                if kind in (CDS, ResourceKind.EDS) and resource.name == dropped:
                    continue
                words = resource.body.decode().split()
                if dropped is not None:
                    words = [word.replace(dropped, "").replace(",,", ",") for word in words]
                if kind is touched:
                    words.append("t=1")
                yield Resource.of(kind, resource.name, " ".join(words).encode())

    @precondition(lambda self: self.proxy.requests)
    @rule()
    def request_arrives(self) -> None:
        self.stream.receive(self.proxy.requests.popleft())
        self.proxy.pushes.extend(self.stream.tick(self.now))

    @precondition(lambda self: self.proxy.pushes)
    @rule()
    def push_is_taken(self) -> None:
        self.proxy.apply(self.proxy.pushes.popleft(), None, 0)

    @precondition(lambda self: self.proxy.pushes)
    @rule(part=st.integers(0, 4))
    def push_is_refused(self, part: int) -> None:
        self.proxy.apply(self.proxy.pushes.popleft(), "no", part)

    @rule()
    def time_passes(self) -> None:
        self.now += CLUSTER_WAIT_SECONDS
        self.proxy.wait_long()
        self.proxy.pushes.extend(self.stream.tick(self.now))

    @rule(order=st.permutations(list(ResourceKind)))
    def reconnect(self, order: list[ResourceKind]) -> None:
        if order.index(CDS) > order.index(LDS):
            self.proxy.is_clean = False
        self.proxy.connect(order)
        self.stream = Subscription(self.protocol)
        if self.target is not None:
            self.proxy.pushes.extend(self.stream.update(self.target, now=self.now))

    def teardown(self) -> None:
        """One more change, which nobody refuses: everything settles; delta without losing time."""
        bodies = [(SDS, SECRET, "last"), (CDS, "a", "n=9"), (ResourceKind.EDS, "a", "n=9")]
        bodies += [(LDS, "in", "route=r0 n=9"), (ResourceKind.RDS, "r0", "cluster=a n=9")]
        final = ResourceSet([Layer(Resource.of(k, n, b.encode()) for k, n, b in bodies)])
        self.proxy.warming &= self.proxy.held[ResourceKind.EDS].keys()
        self.update(final)
        for _ in range(200):
            if self.proxy.pushes:
                self.push_is_taken()
            elif self.proxy.requests:
                self.request_arrives()
            elif self.protocol is Protocol.SOTW:
                # An assignment that is gone simply does not come: Envoy waits for it in vain.
                self.time_passes()
        held = {k: {n: r.version for n, r in h.items()} for k, h in self.proxy.held.items()}
        assert held == {k: {r.name: r.version for r in final.resources(k)} for k in ResourceKind}
        assert self.stream.is_settled
        assert {k: self.stream.accepted(k) for k in ResourceKind} == final.versions


class SotwStreams(Streams):
    """The same in state of the world."""

    protocol = Protocol.SOTW


LIMITS = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestDelta = Streams.TestCase
TestDelta.settings = LIMITS
TestSotw = SotwStreams.TestCase
TestSotw.settings = LIMITS


@pytest.mark.parametrize("protocol", list(Protocol), ids=lambda p: p.name)
def test_the_model_notices_a_server_that_removes_too_early(protocol: Protocol) -> None:
    """The law above can fail: a push that takes a used cluster away is caught."""
    machine = SotwStreams() if protocol is Protocol.SOTW else Streams()
    final = ResourceSet(
        [
            Layer(
                [
                    Resource.of(CDS, "a", b"n=1"),
                    Resource.of(ResourceKind.EDS, "a", b"n=1"),
                    Resource.of(LDS, "in", b"cluster=a"),
                ]
            )
        ]
    )
    machine.update(final)
    for _ in range(50):
        if machine.proxy.pushes:
            machine.push_is_taken()
        elif machine.proxy.requests:
            machine.request_arrives()
    with pytest.raises(AssertionError, match="removed while in use"):
        machine.proxy.apply(early_removal(), None, 0)


def early_removal() -> Push:
    return Push(kind=CDS, version="x", nonce="99", removed=("a",))
