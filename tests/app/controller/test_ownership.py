from __future__ import annotations

from datetime import timedelta

import factory
from fakes.clock import FakeClock
from fakes.cluster import FakeCluster

from app.controller.ownership import Ownership
from app.controller.secrets import BootstrapSecrets
from app.errors import NotFoundError, UnreachableError
from app.inject.secret import bootstrap_key
from app.metrics import Metrics
from app.objects.meta import RawObject

MINUTE = timedelta(minutes=1)


def key_name(pod: str) -> str:
    return bootstrap_key("shop", factory.uuid_of(f"shop/{pod}")).name


class Desk:
    """A cluster with a Secret and a Pod for each name."""

    def __init__(self, *names: str) -> None:
        self.clock = FakeClock()
        self.cluster = FakeCluster(
            *(factory.raw("Secret", f"shop/{key_name(name)}") for name in names)
        )
        self.secrets = BootstrapSecrets(Metrics())
        self.job = Ownership(self.secrets, self.cluster, self.clock)
        for name in names:
            pod = factory.pod(f"shop/{name}", meta={"uid": f"uid-of-{name}"})
            self.secrets.take(factory.changed(pod))
        self.watch()

    def watch(self) -> None:
        """The source tells of all Secrets."""
        for raw in self.cluster.list("v1", "Secret"):
            self.secrets.take(factory.changed(raw))

    def step(self) -> list[str]:
        """What was patched."""
        self.cluster.calls.clear()
        assert self.job.step(lambda: True) is False
        return [ref for verb, ref in self.cluster.calls if verb == "patch"]

    def owners(self, name: str) -> list[RawObject] | None:
        raw = self.cluster.get("Secret", key_name(name), "shop")
        assert raw is not None
        return raw["metadata"].get("ownerReferences")


def test_secret_gets_its_pod_as_owner_once() -> None:
    desk = Desk("cart")
    assert desk.step() == [f"Secret shop/{key_name('cart')}"]
    assert desk.owners("cart") == [
        {"apiVersion": "v1", "kind": "Pod", "name": "cart", "uid": "uid-of-cart"}
    ]
    desk.watch()
    assert desk.step() == []


def test_owner_that_the_watch_has_not_shown_is_not_written_again_at_once() -> None:
    desk = Desk("cart")
    desk.step()
    assert desk.step() == []
    desk.clock.advance(MINUTE)
    assert len(desk.step()) == 1


def test_failure_holds_up_no_other_and_is_tried_again() -> None:
    desk = Desk("a", "b")
    desk.cluster.fail("patch", UnreachableError("no API server"))
    assert len(desk.step()) == 2
    assert sorted(name for name in ("a", "b") if desk.owners(name)) == [max("a", "b", key=key_name)]
    desk.watch()
    desk.clock.advance(MINUTE)
    assert len(desk.step()) == 1
    assert desk.owners("a")
    assert desk.owners("b")


def test_secret_that_went_meanwhile_needs_no_owner() -> None:
    desk = Desk("cart")
    desk.cluster.fail("patch", NotFoundError("gone"))
    assert len(desk.step()) == 1
    assert desk.owners("cart") is None


def test_nothing_is_written_once_that_is_anothers_task() -> None:
    desk = Desk("cart")
    assert desk.job.step(lambda: False) is False
    assert desk.owners("cart") is None
