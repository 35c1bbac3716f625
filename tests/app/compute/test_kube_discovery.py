"""Discovery documents become kinds and URLs, of an old server and of a new one."""

from __future__ import annotations

from typing import Any

import pytest

from app.compute.kube_discovery import ServedKind, group_path, parse_kinds, parse_version
from app.ports import ServerVersion

VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


def entry(name: str, kind: str, *, namespaced: bool = True, **more: Any) -> dict[str, Any]:
    return {
        "name": name, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": VERBS,
        **more,
    }  # fmt: skip


def document(group_version: str, *entries: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": list(entries),
    }


OLD_CORE = document(
    "v1",
    entry("bindings", "Binding"),
    entry("componentstatuses", "ComponentStatus", namespaced=False, shortNames=["cs"]),
    entry("endpoints", "Endpoints", shortNames=["ep"]),
    entry("namespaces", "Namespace", namespaced=False),
    entry("namespaces/finalize", "Namespace", namespaced=False),
    entry("namespaces/status", "Namespace", namespaced=False),
    entry("pods", "Pod", shortNames=["po"]),
    entry("pods/binding", "Binding"),
    entry("pods/eviction", "Eviction", group="policy", version="v1beta1"),
    entry("pods/log", "Pod"),
    entry("pods/portforward", "PodPortForwardOptions"),
    entry("pods/status", "Pod"),
    entry("serviceaccounts", "ServiceAccount", shortNames=["sa"]),
    entry("serviceaccounts/token", "TokenRequest", group="authentication.k8s.io", version="v1"),
)
"""As Kubernetes 1.20 writes them, shortened."""
OLD_POLICY = document(
    "policy/v1beta1",
    entry("poddisruptionbudgets", "PodDisruptionBudget", shortNames=["pdb"]),
    entry("poddisruptionbudgets/status", "PodDisruptionBudget"),
    entry("podsecuritypolicies", "PodSecurityPolicy", namespaced=False),
)
NEW_POLICY = document(
    "policy/v1",
    entry("poddisruptionbudgets", "PodDisruptionBudget", storageVersionHash="EVWiDmWqyJw="),
    entry("poddisruptionbudgets/status", "PodDisruptionBudget"),
)
"""As Kubernetes 1.33 writes them."""
NEW_SLICES = document("discovery.k8s.io/v1", entry("endpointslices", "EndpointSlice"))
NEW_SCALING = document(
    "autoscaling/v2",
    entry("horizontalpodautoscalers", "HorizontalPodAutoscaler", categories=["all"]),
    entry("horizontalpodautoscalers/status", "HorizontalPodAutoscaler"),
)


@pytest.mark.parametrize(
    ("discovered", "kinds"),
    [
        pytest.param(
            OLD_CORE,
            {
                "Binding": "/api/v1/namespaces/n/bindings/x",
                "ComponentStatus": "/api/v1/componentstatuses/x",
                "Endpoints": "/api/v1/namespaces/n/endpoints/x",
                "Namespace": "/api/v1/namespaces/x",
                "Pod": "/api/v1/namespaces/n/pods/x",
                "ServiceAccount": "/api/v1/namespaces/n/serviceaccounts/x",
            },
            id="1.20-core",
        ),
        pytest.param(
            OLD_POLICY,
            {
                "PodDisruptionBudget": "/apis/policy/v1beta1/namespaces/n/poddisruptionbudgets/x",
                "PodSecurityPolicy": "/apis/policy/v1beta1/podsecuritypolicies/x",
            },
            id="1.20-policy",
        ),
        pytest.param(
            NEW_POLICY,
            {"PodDisruptionBudget": "/apis/policy/v1/namespaces/n/poddisruptionbudgets/x"},
            id="1.33-policy",
        ),
        pytest.param(
            NEW_SLICES,
            {"EndpointSlice": "/apis/discovery.k8s.io/v1/namespaces/n/endpointslices/x"},
            id="1.33-slices",
        ),
        pytest.param(
            NEW_SCALING,
            {
                "HorizontalPodAutoscaler": (
                    "/apis/autoscaling/v2/namespaces/n/horizontalpodautoscalers/x"
                )
            },
            id="1.33-autoscaling",
        ),
        pytest.param(document("empty.io/v1"), {}, id="group-without-kinds"),
        pytest.param({"groupVersion": "odd.io/v1", "resources": None}, {}, id="null"),
    ],
)
def test_kinds_have_the_urls_of_the_discovery_document(
    discovered: dict[str, Any], kinds: dict[str, str]
) -> None:
    found = parse_kinds(discovered, discovered["groupVersion"])
    assert {name: kind.path(namespace="n", name="x") for name, kind in found.items()} == kinds


def test_subresources_belong_to_the_plural_they_are_listed_under() -> None:
    found = parse_kinds(OLD_CORE, "v1")
    assert found["Pod"] == ServedKind(
        api_version="v1",
        kind="Pod",
        plural="pods",
        namespaced=True,
        subresources=frozenset({"binding", "eviction", "log", "portforward", "status"}),
    )
    assert found["Endpoints"].subresources == frozenset()


POD = parse_kinds(OLD_CORE, "v1")["Pod"]
NAMESPACE = parse_kinds(OLD_CORE, "v1")["Namespace"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param(POD.path(), "/api/v1/pods", id="all-namespaces"),
        pytest.param(POD.path(namespace="shop"), "/api/v1/namespaces/shop/pods", id="one"),
        pytest.param(
            POD.path(namespace="shop", name="a", subresource="log"),
            "/api/v1/namespaces/shop/pods/a/log",
            id="subresource",
        ),
        pytest.param(
            POD.path(namespace="a/../b", name="x?y"),
            "/api/v1/namespaces/a%2F..%2Fb/pods/x%3Fy",
            id="names-cannot-leave-their-place",
        ),
        pytest.param(NAMESPACE.path(namespace="x", name="y"), "/api/v1/namespaces/y", id="cluster"),
        pytest.param(group_path("apps/v1"), "/apis/apps/v1", id="group"),
    ],
)
def test_path(path: str, expected: str) -> None:
    assert path == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        pytest.param({"major": "1", "minor": "20", "gitVersion": "v1.20.2"}, (1, 20), id="plain"),
        pytest.param({"major": "1", "minor": "29+", "gitVersion": "v1.29.3-eks"}, (1, 29), id="+"),
        pytest.param({"gitVersion": "odd"}, (0, 0), id="missing"),
    ],
)
def test_version(raw: dict[str, str], expected: tuple[int, int]) -> None:
    major, minor = expected
    assert parse_version(raw) == ServerVersion(major=major, minor=minor, text=raw["gitVersion"])
