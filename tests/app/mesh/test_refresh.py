"""A refresh replaces the parts whose inputs changed, and no others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import factory
import pytest

from app.events import ObjectDeleted, ObjectEvent, SourceChecked
from app.mesh.refresh import LiveMesh, MeshScope, refresh
from app.mesh.snapshot import MeshSnapshot
from app.mesh.store import ObjectStore
from app.objects.config import MeshConfigSpec
from app.objects.core import Service
from app.objects.meta import Rejected
from xds.policy.identity import Issuer, Issuers

PARTS = ("config", "issuers", "workloads", "services", "rules", "endpoints", "rejected")


def web(name: str, ip: str, **more: Any) -> dict[str, Any]:
    return factory.pod(f"shop/{name}", account="web", labels={"app": "web"}, ip=ip, **more)


WORLD = (
    factory.namespace("shop"),
    factory.namespace("pay"),
    factory.permissive(on=False),
    factory.service("shop/web"),
    factory.service("shop/v1"),
    web("web-0", "10.0.0.1"),
    factory.endpoints("shop/web", {"web-0": "10.0.0.1"}),
    factory.route_group("shop/g", all=".*"),
    factory.traffic_target("shop/t", to="web", sources=["x.shop"], groups=["g"]),
    factory.traffic_split("shop/s", {"web": 1, "v1": 1}, root="web"),
    factory.account("shop/web"),
    factory.account("shop/x"),
)


class World:
    """A mesh that has read ``WORLD``, or other objects."""

    def __init__(self, *objects: Any) -> None:
        self._mesh = LiveMesh(MeshScope(), Issuers())
        events = [factory.changed(obj) for obj in objects or WORLD]
        self.snapshot = self._mesh.refresh(events)

    def after(self, *events: ObjectEvent) -> tuple[set[str], MeshSnapshot]:
        """Parts that policy may depend on and that are new, and the new snapshot."""
        old, self.snapshot = self.snapshot, self._mesh.refresh(events)
        new = {part for part in PARTS if getattr(old, part) is not getattr(self.snapshot, part)}
        differs = bool(new) or old.objects is not self.snapshot.objects
        differs = differs or old.has_config != self.snapshot.has_config
        assert self.snapshot.revision == old.revision + differs
        assert (self.snapshot is old) is not differs
        return new, self.snapshot


def changed(raw: dict[str, Any], **meta: Any) -> ObjectEvent:
    return factory.changed(raw | {"metadata": {**raw["metadata"], **meta}})


def gone(raw: dict[str, Any]) -> ObjectEvent:
    return ObjectDeleted(key=factory.changed(raw).key)


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(changed(WORLD[3], resourceVersion="9"), id="resource-version"),
        pytest.param(changed(WORLD[3], annotations={"a": "b"}), id="annotation-of-a-service"),
        pytest.param(changed(WORLD[3], labels={"a": "b"}), id="label-of-a-service"),
        pytest.param(changed(WORLD[5], annotations={"a": "b"}), id="annotation-of-a-pod"),
        pytest.param(changed(WORLD[0], annotations={"a": "b"}), id="annotation-of-a-namespace"),
        pytest.param(factory.changed(WORLD[3] | {"status": {"x": 1}}), id="status"),
        pytest.param(factory.changed(factory.service("out/web")), id="another-namespace"),
        pytest.param(factory.changed(factory.pod("shop/p", sidecar=False)), id="pod-no-sidecar"),
        pytest.param(factory.changed(factory.raw("Secret", "shop/s")), id="secret"),
        pytest.param(changed(WORLD[10], annotations={"a": "b"}), id="annotation-of-an-account"),
        pytest.param(factory.changed(factory.egress("out/e")), id="policy-of-another-namespace"),
        pytest.param(
            factory.changed(factory.root_certificate("shop/r")), id="root-in-another-namespace"
        ),
        pytest.param(
            factory.changed(factory.mesh_config() | {"metadata": {"name": "other"}}),
            id="another-mesh-config",
        ),
        pytest.param(
            factory.changed(factory.endpoints("shop/none", {"web-0": "10.0.0.1"})),
            id="endpoints-of-no-service",
        ),
        pytest.param(
            factory.changed(factory.endpoint_slice("shop/none-a", "none")), id="slice-of-no-service"
        ),
        pytest.param(
            factory.changed(factory.endpoints("shop/web", {"web-0": "10.0.0.1", "x": "10.0.0.2"})),
            id="endpoint-of-an-unknown-pod",
        ),
        pytest.param(gone(factory.service("shop/none")), id="deleting-nothing"),
        pytest.param(SourceChecked(source="a", rejected=()), id="source-is-good"),
    ],
)
def test_change_of_what_nobody_reads_keeps_the_snapshot(event: ObjectEvent) -> None:
    world = World()
    before = world.snapshot
    assert world.after(event) == (set(), before)


@pytest.mark.parametrize(
    ("events", "parts"),
    [
        pytest.param([factory.changed(factory.permissive())], {"config"}, id="permissive-mode"),
        pytest.param([gone(factory.mesh_config())], set(), id="config-equal-to-defaults-is-gone"),
        pytest.param(
            [factory.changed(factory.endpoints("shop/web", not_ready={"web-0": "10.0.0.1"}))],
            {"endpoints"},
            id="readiness",
        ),
        pytest.param([gone(WORLD[6])], {"endpoints"}, id="endpoints-gone"),
        pytest.param(
            [factory.changed(factory.endpoint_slice("shop/web-a", "web"))],
            {"endpoints"},
            id="slice-hides-endpoints",
        ),
        pytest.param(
            [
                factory.changed(web("web-1", "10.0.0.2")),
                factory.changed(
                    factory.endpoints("shop/web", {"web-0": "10.0.0.1", "web-1": "10.0.0.2"})
                ),
            ],
            {"workloads", "endpoints"},
            id="one-more-replica",
        ),
        pytest.param(
            [changed(WORLD[5], annotations={"prometheus.io/scrape": "true"})],
            {"workloads"},
            id="scrape",
        ),
        pytest.param(
            [changed(WORLD[5], labels={"osm-proxy-uuid": "u"})],
            {"workloads", "services", "endpoints"},
            id="pod-leaves-its-service",
        ),
        pytest.param([gone(WORLD[5])], {"workloads", "services", "endpoints"}, id="last-pod-gone"),
        pytest.param(
            [factory.changed(factory.service("shop/web", ports={"http": 81, "tcp": 82}))],
            {"workloads", "services", "endpoints", "rejected"},
            id="ports-of-a-service",
        ),
        pytest.param(
            [factory.changed(factory.service("shop/web", cluster_ip="10.96.9.9"))],
            {"services"},
            id="address-of-a-service",
        ),
        pytest.param(
            [factory.changed(factory.service("shop/v2"))],
            {"services", "endpoints"},
            id="one-more-service",
        ),
        pytest.param(
            [gone(WORLD[4])], {"services", "endpoints", "rules", "rejected"}, id="backend-gone"
        ),
        pytest.param(
            [factory.changed(factory.traffic_split("shop/s", {"web": 2, "v1": 1}, root="web"))],
            {"rules"},
            id="weight",
        ),
        pytest.param(
            [factory.changed(factory.route_group("shop/g", all="/.*"))], {"rules"}, id="path"
        ),
        pytest.param([gone(WORLD[7])], {"rules", "rejected"}, id="group-gone"),
        pytest.param([gone(WORLD[8])], {"rules"}, id="target-gone"),
        pytest.param([gone(WORLD[11])], {"rejected"}, id="account-gone"),
        pytest.param(
            [factory.changed(factory.tcp_route("shop/r", 1))], set(), id="unused-tcp-route"
        ),
        pytest.param(
            [changed(WORLD[0], annotations={"openservicemesh.io/sidecar-injection": "enabled"})],
            {"workloads"},
            id="injection",
        ),
        pytest.param(
            [gone(WORLD[0])], {"workloads", "services", "rules", "endpoints"}, id="namespace-leaves"
        ),
        pytest.param([gone(WORLD[1])], {"workloads"}, id="empty-namespace-leaves"),
    ],
)
def test_change_replaces_only_its_parts(events: list[ObjectEvent], parts: set[str]) -> None:
    assert World().after(*events)[0] == parts


def test_namespace_that_comes_back_brings_everything_back() -> None:
    world = World()
    before = world.snapshot
    world.after(gone(WORLD[0]))
    _, after = world.after(factory.changed(WORLD[0]))
    assert after.workloads.pods == before.workloads.pods
    assert after.services.views == before.services.views
    assert after.rules.access == before.rules.access
    assert after.rules.splits == before.rules.splits
    assert after.endpoints.by_service == before.endpoints.by_service


def test_account_that_comes_later_is_no_longer_told_of() -> None:
    world = World(*WORLD[:-1])
    assert [one.field for one in world.snapshot.rejected] == ["spec.sources[0].name"]
    assert world.after(factory.changed(WORLD[-1]))[0] == {"rejected"}
    assert world.snapshot.rejected == ()


def test_account_is_looked_for_once_its_namespace_joins() -> None:
    target = factory.traffic_target("shop/u", to="web", sources=["bob.out"], groups=["g"])
    world = World(*WORLD, target, factory.namespace("out", monitored=False))
    assert world.snapshot.rejected == ()
    new, after = world.after(factory.changed(factory.namespace("out")))
    assert new == {"workloads", "rejected"}
    assert [one.field for one in after.rejected] == ["spec.sources[0].name"]


def test_failed_refresh_is_made_up_for_by_the_next() -> None:
    world = World()
    broken = factory.changed(factory.service("shop/v2"))
    unread = Service.model_construct(metadata=broken.object.metadata, spec=None)
    broken = replace(broken, object=unread)
    more = [
        factory.changed(factory.endpoints("shop/web", not_ready={"web-0": "10.0.0.1"})),
        factory.changed(factory.route_group("shop/g", all="/.*")),
    ]
    for events in ([more[0], broken], [more[1]]):
        with pytest.raises(AttributeError, match="NoneType"):
            world.after(*events)
    new, after = world.after(gone(factory.service("shop/v2")))
    assert new == {"endpoints", "rules"}
    assert endpoint_counts(after) == {"web": 0, "v1": 0}
    assert [match.path for rule in after.rules.access for match in rule.matches] == ["/.*"]
    assert world.after() == (set(), after)


def endpoint_counts(snapshot: MeshSnapshot) -> dict[str, int]:
    return {service.name: len(found) for service, found in snapshot.endpoints.by_service.items()}


def test_slice_that_leaves_a_service_brings_its_endpoints_object_back() -> None:
    member = [factory.endpoint("10.0.0.1", pod="web-0", ready=False)]
    hiding = factory.endpoint_slice("shop/a", "web", member)
    world = World(*WORLD, hiding)
    assert endpoint_counts(world.snapshot) == {"web": 0, "v1": 0}
    _, after = world.after(factory.changed(factory.endpoint_slice("shop/a", "v1", member)))
    assert endpoint_counts(after) == {"web": 1, "v1": 0}
    world.after(factory.changed(hiding))
    assert endpoint_counts(world.after(gone(hiding))[1]) == {"web": 1, "v1": 0}


def test_rules_leave_and_join_with_their_namespace() -> None:
    target = factory.traffic_target("pay/t", to="bank", sources=["x.shop"], groups=["none"])
    world = World(*WORLD, target)
    assert world.after(gone(WORLD[1]))[0] == {"workloads", "rules", "rejected"}
    assert [rule.name for rule in world.snapshot.rules.access] == ["shop/t"]
    assert world.after(factory.changed(WORLD[1]))[0] == {"workloads", "rules", "rejected"}
    assert [rule.name for rule in world.snapshot.rules.access] == ["pay/t", "shop/t"]


def test_pod_that_takes_another_host_name_serves_another_service() -> None:
    def stateful(hostname: str) -> dict[str, Any]:
        return factory.pod("shop/db-0", labels={"app": "db"}, spec={"hostname": hostname})

    member = factory.endpoint("10.0.0.1", pod="db-0", hostname="one")
    world = World(
        WORLD[0],
        factory.service("shop/db", cluster_ip="None"),
        stateful("one"),
        factory.endpoint_slice("shop/db-a", "db", [member]),
    )
    new, after = world.after(factory.changed(stateful("two")))
    assert new == {"workloads", "services"}
    (services,) = after.services.by_identity.values()
    assert [service.host for service in services] == ["db"]


def test_selector_that_moves_to_another_pod_of_the_account_takes_the_service_along() -> None:
    def one(app: str) -> dict[str, Any]:
        return factory.service("shop/web", selector={"app": app}, cluster_ip="10.96.0.1")

    pods = [
        factory.pod(f"shop/{name}", account="web", labels={"app": name}, ip=f"10.0.0.{number}")
        for number, name in enumerate(("a", "b"))
    ]
    world = World(factory.namespace("shop"), one("a"), *pods)
    _, snapshot = world.after(factory.changed(one("b")))
    backed = {pod.name: len(pod.services) for pod in snapshot.workloads.pods.values()}
    assert backed == {"a": 0, "b": 1}


def test_pod_that_no_longer_repeats_a_port_is_no_longer_told_of() -> None:
    raw = web("web-1", "10.0.0.2", ports={"a": 1, "b": 1})
    world = World(*WORLD, raw)
    assert len(world.snapshot.rejected) == 1
    world.after(factory.changed(web("web-1", "10.0.0.2", ports={"a": 1})))
    assert world.snapshot.rejected == ()


def test_client_that_serves_nothing_is_no_change_of_services() -> None:
    event = factory.changed(factory.pod("shop/buyer"))
    assert World().after(event)[0] == {"workloads"}


def test_service_reclaims_itself_when_its_plain_pods_leave() -> None:
    plain = factory.pod("shop/p", labels={"app": "v1"}, sidecar=False)
    world = World(*WORLD)
    assert "shop/v1" not in world.after(factory.changed(plain))[1].services.by_parent
    assert "shop/v1" in world.after(gone(plain))[1].services.by_parent


def test_unchanged_endpoints_stay_the_same_tuple() -> None:
    world = World()
    (web_service,) = (s for s in world.snapshot.endpoints.by_service if s.name == "web")
    before = world.snapshot.endpoints.by_service[web_service]
    _, after = world.after(factory.changed(factory.service("shop/v2")))
    assert after.endpoints.by_service[web_service] is before


def test_endpoints_by_identity() -> None:
    world = World()
    (web_service,) = (s for s in world.snapshot.endpoints.by_service if s.name == "web")
    table = world.snapshot.endpoints
    everyone = table.by_service[web_service]
    (runs_as,) = {one.identity for one in everyone}
    other = runs_as.parse("other.shop")
    assert table.endpoints(web_service, None) is everyone
    assert table.endpoints(web_service, (runs_as, other)) is everyone
    assert table.endpoints(web_service, (other,)) == ()


def test_sources_add_to_what_is_rejected_and_take_it_back() -> None:
    bad = Rejected(where="a.yaml:3", field="spec", reason="is bad", code="E3002")
    world = World()
    assert world.after(SourceChecked(source="a.yaml", rejected=(bad,)))[0] == {"rejected"}
    assert world.snapshot.rejected == (bad,)
    assert world.snapshot.services.by_parent.keys() == {"shop/web", "shop/v1"}
    assert world.after(SourceChecked(source="a.yaml", rejected=()))[0] == {"rejected"}
    assert world.snapshot.rejected == ()


def test_findings_name_the_place_of_their_object_as_it_is_now() -> None:
    raw = factory.traffic_split("shop/x", {"web": 1}, root="web")
    world = World()
    world.after(factory.changed(raw, "a.yaml:3"))
    assert [one.where for one in world.snapshot.rejected] == ["a.yaml:3"]
    assert world.after(factory.changed(raw, "a.yaml:8"))[0] == {"rejected"}
    assert [one.where for one in world.snapshot.rejected] == ["a.yaml:8"]


def test_config_that_says_nothing_but_defaults_is_told_from_none() -> None:
    world = World()
    before = world.snapshot
    assert before.has_config
    assert world.after(gone(factory.mesh_config())) == (set(), world.snapshot)
    assert (world.snapshot.has_config, world.snapshot.config) == (False, before.config)


def test_config_falls_back_and_tells() -> None:
    found = factory.snapshot(factory.mesh_config(sidecar={"drainDelay": "soon"}))
    assert found.config == MeshConfigSpec()
    assert [str(one) for one in found.rejected] == [
        (
            "MeshConfig osm-system/osm-mesh-config: spec.sidecar.drainDelay: is not a duration "
            "such as 24h or 90s: 'soon' (E3002)"
        )
    ]


def test_scope_decides_which_objects_count() -> None:
    scope = MeshScope(
        mesh_name="blue", osm_namespace="ops", config_name="cfg", dns_suffix="mesh.example"
    )
    config = factory.permissive() | {"metadata": {"namespace": "ops", "name": "cfg"}}
    store = factory.store(
        *WORLD,
        config,
        factory.namespace("pay", labels={"openservicemesh.io/monitored-by": "blue"}),
        factory.service("pay/bank"),
        factory.traffic_split("pay/s", {"bank": 1}, root="bank.pay.svc.mesh.example"),
    )
    found = refresh(store, None, scope=scope, issuers=Issuers()).snapshot
    assert found.config.traffic.enable_permissive_traffic_policy_mode
    assert found.dns_suffix == "mesh.example"
    assert set(found.workloads.namespaces) == {"pay"}
    assert found.services.by_parent.keys() == {"pay/bank"}
    assert found.rules.splits.keys() == {"pay/bank"}
    assert found.rejected == ()


def test_new_issuers_are_a_new_part() -> None:
    store = ObjectStore()
    first = refresh(store, None, scope=MeshScope(), issuers=Issuers())
    same = refresh(store, first, scope=MeshScope(), issuers=Issuers())
    assert same.snapshot is first.snapshot
    other = Issuers(signing=Issuer(spiffe=True))
    new = refresh(store, first, scope=MeshScope(), issuers=other).snapshot
    assert (new.revision, new.issuers) == (2, other)


def test_empty_mesh() -> None:
    found = factory.snapshot()
    assert (found.revision, found.config, found.rejected) == (1, MeshConfigSpec(), ())
    assert (found.services.views, found.rules.access, found.endpoints.by_service) == ((), (), {})
