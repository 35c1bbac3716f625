"""Pods of the mesh: identity, workload, UUID; and the profile a proxy has through its Pod."""

from __future__ import annotations

from typing import Any

import factory
import pytest

from app.mesh.profiles import Stranger, find_pod, profile_of
from app.mesh.snapshot import MeshNamespace, MeshPod, Workloads
from xds.policy.identity import ProxyId, ServiceIdentity
from xds.policy.proxy import ProxyProfile
from xds.policy.service import Workload

WEB = factory.uuid_of("shop/web")


def workloads(*objects: Any) -> Workloads:
    return factory.snapshot(factory.namespace("shop"), factory.namespace("pay"), *objects).workloads


def identity(account: str, namespace: str = "shop") -> ServiceIdentity:
    return ServiceIdentity(namespace=namespace, service_account=account)


@pytest.mark.parametrize(
    ("meta", "labels", "kind", "name"),
    [
        pytest.param(
            factory.owned_by("ReplicaSet", "web-5f6"),
            {"pod-template-hash": "5f6"},
            "Deployment",
            "web",
            id="replica-set-of-a-deployment",
        ),
        pytest.param(
            factory.owned_by("ReplicaSet", "web-5f6"), {}, "Deployment", "web", id="without-hash"
        ),
        pytest.param(
            factory.owned_by("ReplicaSet", "web-main"),
            {"pod-template-hash": "5f6"},
            "ReplicaSet",
            "web-main",
            id="replica-set-of-its-own",
        ),
        pytest.param(factory.owned_by("ReplicaSet", "web"), {}, "ReplicaSet", "web", id="no-dash"),
        pytest.param(
            factory.owned_by("StatefulSet", "web-x"), {}, "StatefulSet", "web-x", id="stateful-set"
        ),
        pytest.param(
            {"ownerReferences": [{"kind": "A", "name": "a"}, {"kind": "B", "name": "b"}]},
            {},
            "A",
            "a",
            id="first-owner-where-none-controls",
        ),
        pytest.param(
            {
                "ownerReferences": [
                    {"kind": "A", "name": "a"},
                    {"kind": "B", "name": "b", "controller": True},
                ]
            },
            {},
            "B",
            "b",
            id="controlling-owner",
        ),
        pytest.param({}, {}, "unknown", "unknown", id="no-owner"),
    ],
)
def test_workload_of_a_pod(
    meta: dict[str, Any], labels: dict[str, str], kind: str, name: str
) -> None:
    found = workloads(factory.pod("shop/web", labels=labels, meta=meta))
    assert found.pods[WEB].workload == Workload(namespace="shop", kind=kind, name=name)


def test_pod_of_the_mesh() -> None:
    found = factory.snapshot(
        factory.namespace("shop"),
        factory.service("shop/b", selector={"app": "web"}),
        factory.service("shop/a", selector={"app": "web"}),
        factory.service("shop/c", selector={"app": "web", "v": "2"}),
        factory.pod(
            "shop/web",
            account="cart",
            meta={"uid": "u1", "annotations": {"prometheus.io/scrape": "true"}},
        ),
    )
    assert found.workloads.pods == {
        WEB: MeshPod(
            namespace="shop",
            name="web",
            uid="u1",
            uuid=WEB,
            identity=identity("cart"),
            workload=Workload(namespace="shop", kind="unknown", name="unknown"),
            scrape=True,
            services=tuple(
                view.service for view in found.services.views if view.service.name != "c"
            ),
        )
    }


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(factory.pod("shop/web", sidecar=False), id="no-sidecar"),
        pytest.param(factory.pod("shop/web", phase="Failed"), id="finished"),
        pytest.param(factory.pod("shop/web", spec={"hostNetwork": True}), id="host-network"),
        pytest.param(factory.pod("out/web"), id="namespace-not-monitored"),
    ],
)
def test_pod_that_is_not_of_the_mesh(raw: dict[str, Any]) -> None:
    assert workloads(raw, factory.namespace("out", monitored=False)).pods == {}


def copy_of(path: str, second: int, uuid: str = WEB) -> dict[str, Any]:
    """A Pod that carries another Pod's UUID."""
    raw = factory.pod(path, meta=factory.created(second))
    raw["metadata"]["labels"]["osm-proxy-uuid"] = uuid
    return raw


def test_two_pods_of_one_namespace_with_one_uuid_are_both_left_out() -> None:
    found = factory.snapshot(factory.namespace("shop"), copy_of("shop/a", 1), copy_of("shop/b", 2))
    assert found.workloads.pods == {}
    assert found.workloads.duplicate_uuids == {WEB}
    reason = f"another Pod has the UUID {WEB} too: remove the label and create the Pod anew (E5002)"
    assert [str(one) for one in found.rejected] == [
        f"Pod shop/{name}: metadata.labels.osm-proxy-uuid: {reason}" for name in ("a", "b")
    ]


@pytest.mark.parametrize(
    ("seconds", "holder"),
    [
        pytest.param((1, 2), "shop", id="first"),
        pytest.param((2, 1), "pay", id="second"),
        pytest.param((1, 1), "pay", id="by-namespace-when-of-one-age"),
    ],
)
def test_uuid_copied_into_another_namespace_stays_with_the_older_pod(
    seconds: tuple[int, int], holder: str
) -> None:
    found = factory.snapshot(
        factory.namespace("shop"),
        factory.namespace("pay"),
        copy_of("shop/web", seconds[0]),
        copy_of("pay/web", seconds[1]),
    )
    assert {pod.namespace for pod in found.workloads.pods.values()} == {holder}
    assert found.workloads.duplicate_uuids == frozenset()
    assert len(found.rejected) == 1


def test_pod_that_asks_for_a_port_twice_is_told() -> None:
    raw = factory.pod("shop/web", ports={"http": 8080})
    raw["spec"]["containers"].append(
        {
            "name": "b",
            "ports": [{"containerPort": 8080, "protocol": "UDP"}, {"containerPort": 8080}],
        }
    )
    found = factory.snapshot(factory.namespace("shop"), raw)
    assert [str(one) for one in found.rejected] == [
        (
            "Pod shop/web: spec.containers[1].ports[1].containerPort: asks for port 8080 again, "
            "after spec.containers[0].ports[0].containerPort: remove one (E3002)"
        )
    ]
    assert WEB in found.workloads.pods


def test_namespaces_of_the_mesh() -> None:
    found = factory.snapshot(
        factory.namespace("a"),
        factory.namespace(
            "b",
            labels={"openservicemesh.io/ignore": "true"},
            annotations={
                "openservicemesh.io/sidecar-injection": "enabled",
                "openservicemesh.io/metrics": "on",
            },
        ),
        factory.namespace("c", monitored=False),
        factory.namespace("d", labels={"openservicemesh.io/monitored-by": "other"}),
        factory.namespace("e", labels={"control-plane": "controller-manager"}),
    ).workloads
    assert found.namespaces == {
        "a": MeshNamespace(name="a", ignored_by="", injection=None, metrics=None),
        "b": MeshNamespace(
            name="b", ignored_by="openservicemesh.io/ignore", injection="enabled", metrics="on"
        ),
        "e": MeshNamespace(name="e", ignored_by="control-plane", injection=None, metrics=None),
    }


def test_profile_is_what_replicas_share() -> None:
    found = factory.snapshot(
        factory.namespace("shop"),
        factory.service("shop/web"),
        *(
            factory.pod(
                f"shop/web-{n}",
                account="web",
                labels={"app": "web"},
                meta=factory.owned_by("ReplicaSet", "web-x"),
            )
            for n in range(2)
        ),
    )
    profiles = {profile_of(pod) for pod in found.workloads.pods.values()}
    assert profiles == {
        ProxyProfile(
            identity=identity("web"),
            services=tuple(view.service for view in found.services.views),
            scrape=False,
            workload=Workload(namespace="shop", kind="Deployment", name="web"),
        )
    }


@pytest.mark.parametrize(
    ("proxy", "expected"),
    [
        pytest.param(ProxyId(uuid=WEB, identity=identity("web")), "web", id="found"),
        pytest.param(
            ProxyId(uuid="none", identity=identity("web")), Stranger.UNKNOWN_POD, id="no-such-uuid"
        ),
        pytest.param(
            ProxyId(uuid=WEB, identity=identity("web", "pay")),
            Stranger.UNKNOWN_POD,
            id="pod-of-another-namespace",
        ),
        pytest.param(
            ProxyId(uuid=WEB, identity=identity("cart")),
            Stranger.WRONG_ACCOUNT,
            id="another-account",
        ),
        pytest.param(
            ProxyId(uuid="twin", identity=identity("a")), Stranger.TWINS, id="several-pods"
        ),
    ],
)
def test_pod_behind_a_proxy(proxy: ProxyId, expected: object) -> None:
    found = find_pod(
        workloads(
            factory.pod("shop/web"), copy_of("shop/a", 1, "twin"), copy_of("shop/b", 2, "twin")
        ),
        proxy,
    )
    assert (found.name if isinstance(found, MeshPod) else found) == expected
