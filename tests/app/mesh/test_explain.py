"""May A call B, and why: outcome, what the client sees, who decided, and what would alter it.

tests/e2e/policies/test_explain.py holds the outcomes to what really happens.
"""

from __future__ import annotations

from typing import Any

import factory
import pytest

from app.errors import NotFoundError
from app.mesh.explain.answer import Check, Explanation, Outcome, Question
from app.mesh.explain.call import explain
from app.mesh.explain.pods import pods_allowed
from app.objects.meta import RawObject

PORTS = {"http": 80, "tcp-feed": 90}
GROUP = factory.route_group("shop/g", {"name": "books", "pathRegex": "/books", "methods": ["GET"]})
ACCOUNTS = [factory.account(f"shop/{name}") for name in ("web", "web2", "ann", "bob", "idle")]
WORLD = [
    factory.namespace("shop"),
    factory.namespace("out", monitored=False),
    *ACCOUNTS,
    factory.service("shop/web", ports=PORTS),
    factory.pod("shop/web", ip="10.0.0.1"),
    factory.endpoints("shop/web", {"web": "10.0.0.1"}, ports={"http": 8080, "tcp-feed": 90}),
    factory.service("shop/web2"),
    factory.pod("shop/web2", ip="10.0.0.2"),
    factory.endpoints("shop/web2", {"web2": "10.0.0.2"}),
    factory.service("shop/empty", selector={"app": "empty"}),
    factory.pod("shop/ann-7d9c-x", account="ann", meta=factory.owned_by("ReplicaSet", "ann-7d9c")),
    factory.pod("shop/bob"),
    factory.pod("shop/bare", sidecar=False),
    factory.service("out/far"),
    factory.pod("out/far", sidecar=False, ip="10.9.9.9"),
    GROUP,
]
LET_ANN = factory.traffic_target("shop/t", to="web", sources=["ann.shop"], groups=["g"])
LET_FEED = factory.traffic_target("shop/t", to="web", sources=["ann.shop"], tcp=["r"])
ROUTE = factory.tcp_route("shop/r", 90)
GO = {"path": "/books", "port": 80}


def ask(*objects: RawObject, by: str = "shop/ann", to: str = "shop/web", **how: Any) -> Explanation:
    namespace, _, workload = by.partition("/")
    store = factory.store(*WORLD, *objects)
    question = Question(namespace=namespace, workload=workload, to=to, **how)
    return explain(factory.snapshot(*WORLD, *objects), store, question)


@pytest.mark.parametrize(
    ("objects", "asked", "outcome", "seen", "remedy"),
    [
        pytest.param(
            [LET_ANN],
            GO,
            Outcome.ALLOWED,
            "the application's answer",
            "take ann.shop out of spec.sources of TrafficTarget shop/t",
            id="allowed-by-one-target",
        ),
        pytest.param(
            [LET_ANN],
            {**GO, "path": "/admin"},
            Outcome.DENIED,
            "404",
            "add a match for GET /admin to an HTTPRouteGroup that TrafficTarget shop/t names",
            id="no-match-fits",
        ),
        pytest.param(
            [LET_ANN],
            {**GO, "by": "shop/bob"},
            Outcome.DENIED,
            "connection closed",
            "add bob.shop to spec.sources of TrafficTarget shop/t",
            id="target-of-others",
        ),
        pytest.param(
            [],
            GO,
            Outcome.DENIED,
            "connection closed",
            "create a TrafficTarget in namespace shop with the source shop/ann, the destination "
            "web and an HTTPRouteGroup that matches GET /books",
            id="no-target",
        ),
        pytest.param(
            [
                LET_ANN,
                factory.route_group("shop/other", admin="/admin"),
                factory.traffic_target("shop/u", to="web", sources=["bob.shop"], groups=["other"]),
            ],
            {**GO, "by": "shop/bob"},
            Outcome.DENIED,
            "403",
            "add bob.shop to spec.sources of TrafficTarget shop/t",
            id="rule-names-others",
        ),
        pytest.param(
            [LET_ANN],
            {**GO, "headers": (("host", "nobody"),)},
            Outcome.DENIED,
            "404",
            "send a Host header of shop/web, or none",
            id="host-of-nobody",
        ),
        pytest.param(
            [LET_FEED, ROUTE],
            {"port": 90},
            Outcome.ALLOWED,
            "the application's answer",
            "take ann.shop out of spec.sources of TrafficTarget shop/t",
            id="tcp-allowed",
        ),
        pytest.param(
            [LET_ANN],
            {"port": 90},
            Outcome.DENIED,
            "connection closed",
            "add a TCPRoute of port 90 to spec.rules of TrafficTarget shop/t",
            id="tcp-without-route",
        ),
        pytest.param(
            [LET_ANN],
            {"port": 81},
            Outcome.UNREACHABLE,
            "connection closed",
            "call a port that shop/web has, or add 81 to it",
            id="wrong-port",
        ),
        pytest.param(
            [factory.permissive()],
            GO,
            Outcome.ALLOWED,
            "the application's answer",
            "turn off spec.traffic.enablePermissiveTrafficPolicyMode in "
            "MeshConfig osm-system/osm-mesh-config",
            id="permissive",
        ),
        pytest.param(
            [factory.permissive()],
            {**GO, "by": "shop/bare"},
            Outcome.DENIED,
            "connection closed",
            "have the Pods of bare.shop injected (add namespace shop to the mesh and create them "
            "anew), or let them in with an IngressBackend",
            id="client-without-sidecar",
        ),
        pytest.param(
            [
                factory.mesh_config(
                    traffic={"enablePermissiveTrafficPolicyMode": True},
                    featureFlags={"enableIngressBackendPolicy": True},
                ),
                factory.ingress_backend("shop/i"),
            ],
            {**GO, "by": "out/far"},
            Outcome.ALLOWED,
            "the application's answer",
            "take 10.9.9.9 out of spec.sources of the IngressBackend",
            id="client-without-sidecar-by-ingress-backend",
        ),
        pytest.param(
            [factory.permissive()],
            {"to": "out/far"},
            Outcome.DENIED,
            "connection closed",
            "add namespace out to the mesh and create its Pods anew, or let ann.shop out with an "
            "Egress",
            id="service-outside",
        ),
        pytest.param(
            [factory.permissive(egress=True)],
            {"to": "out/far"},
            Outcome.ALLOWED,
            "the application's answer",
            "turn off spec.traffic.enableEgress in MeshConfig osm-system/osm-mesh-config",
            id="mesh-wide-egress",
        ),
        pytest.param(
            [],
            {"by": "out/far", "to": "out/far"},
            Outcome.ALLOWED,
            "the application's answer",
            "",
            id="nothing-of-the-mesh",
        ),
        pytest.param(
            [],
            {"to": "example.com:443"},
            Outcome.DENIED,
            "connection closed",
            "create an Egress in namespace shop with the source ann, the host example.com and the "
            "port 443",
            id="host-outside",
        ),
        pytest.param(
            [factory.permissive(egress=True)],
            {"to": "example.com", "port": 443},
            Outcome.ALLOWED,
            "the application's answer",
            "turn off spec.traffic.enableEgress in MeshConfig osm-system/osm-mesh-config",
            id="host-outside-with-egress",
        ),
        pytest.param(
            [factory.egress("shop/e", sources=["ann.shop"])],
            {"to": "example.com:443"},
            Outcome.ALLOWED,
            "the application's answer",
            "take ann.shop out of spec.sources of Egress shop/e",
            id="egress-names-the-host",
        ),
        pytest.param(
            [factory.egress("shop/e", sources=["ann.shop"], ports={80: "http"})],
            {"to": "example.org:80"},
            Outcome.DENIED,
            "404",
            "create an Egress in namespace shop with the source ann, the host example.org and the "
            "port 80",
            id="egress-names-another-host",
        ),
        pytest.param(
            [factory.permissive(), factory.traffic_split("shop/s", {"empty": 1}, root="web2")],
            {"to": "shop/web2"},
            Outcome.UNREACHABLE,
            "503",
            "have a ready Pod with a sidecar stand behind shop/empty",
            id="backend-without-pods",
        ),
        pytest.param(
            [factory.permissive(), factory.endpoints("shop/web2", not_ready={"web2": "10.0.0.2"})],
            {"to": "shop/web2"},
            Outcome.UNREACHABLE,
            "503",
            "have a ready Pod with a sidecar stand behind shop/web2",
            id="no-endpoints",
        ),
        pytest.param(
            [
                LET_ANN,
                factory.traffic_target("shop/u", to="web2", sources=["ann.shop"], groups=["g"]),
                factory.traffic_split("shop/s", {"web": 1, "web2": 1}, root="web2"),
                factory.endpoints("shop/web2", not_ready={"web2": "10.0.0.2"}),
            ],
            {"to": "shop/web2", "path": "/books"},
            Outcome.PARTLY,
            "the application's answer or 503",
            "have a ready Pod with a sidecar stand behind shop/web2",
            id="one-share-has-no-endpoints",
        ),
        pytest.param(
            [
                factory.mesh_config(
                    traffic={
                        "enablePermissiveTrafficPolicyMode": True,
                        "outboundPortExclusionList": [80],
                    }
                )
            ],
            GO,
            Outcome.DENIED,
            "connection closed",
            "have the Pods of ann.shop injected (add namespace shop to the mesh and create them "
            "anew), or let them in with an IngressBackend",
            id="port-is-not-intercepted",
        ),
    ],
)
def test_outcome(
    objects: list[RawObject], asked: dict[str, Any], outcome: Outcome, seen: str, remedy: str
) -> None:
    found = ask(*objects, **asked)
    assert (found.outcome, found.seen, found.remedy) == (outcome, seen, remedy)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("ann-7d9c-x", id="pod"),
        pytest.param("ann", id="deployment-or-account"),
    ],
)
def test_client_has_several_names(name: str) -> None:
    found = ask(LET_ANN, by=f"shop/{name}", **GO)
    assert found.outcome is Outcome.ALLOWED
    assert found.steps[0].sentence == "Pod shop/ann-7d9c-x runs as ann.shop"


def test_account_without_pods_is_judged_as_one_would_be() -> None:
    granted = factory.traffic_target("shop/t", to="web", sources=["idle.shop"], groups=["g"])
    found = ask(granted, by="shop/idle", **GO)
    assert (found.outcome, found.steps[0].check) == (Outcome.ALLOWED, Check.UNKNOWN)


def test_pod_is_asked_through_its_service() -> None:
    found = ask(LET_ANN, to="shop/web", **GO)
    through = ask(LET_ANN, to="shop/web2", port=80)
    assert found.outcome is Outcome.ALLOWED
    assert through.outcome is Outcome.DENIED


def test_steps_are_those_of_the_request() -> None:
    found = ask(LET_ANN, **GO)
    assert [step.what for step in found.steps] == [
        "identity",
        "namespace",
        "injection",
        "destination",
        "listener",
        "route",
        "endpoints",
        "rules",
    ]
    assert {step.check for step in found.steps} == {Check.OK}
    assert [str(key) for key in found.decided_by] == ["TrafficTarget shop/t"]


def test_split_is_told_with_its_shares() -> None:
    objects = [
        factory.permissive(),
        factory.traffic_split("shop/s", {"web": 1, "web2": 3}, root="web2"),
    ]
    (split,) = [step for step in ask(*objects, to="shop/web2").steps if step.what == "split"]
    assert split.sentence == "TrafficSplit shop/s sends it to shop/web 25 %, shop/web2 75 %"


def test_certificate_that_is_not_issued_is_told() -> None:
    question = Question(namespace="shop", workload="ann", to="shop/web", **GO)
    snapshot, store = factory.snapshot(*WORLD, LET_ANN), factory.store(*WORLD, LET_ANN)
    for certified, check in ((set[str](), Check.UNKNOWN), ({"ann.shop"}, Check.OK)):
        steps = explain(snapshot, store, question, certified=certified).steps
        assert [step.check for step in steps if step.what == "certificate"] == [check]


@pytest.mark.parametrize(
    ("asked", "raised", "words"),
    [
        pytest.param({"by": "shop/anm"}, NotFoundError, "did you mean ann", id="workload"),
        pytest.param({"to": "shop/wep"}, NotFoundError, "did you mean web", id="service"),
        pytest.param({"by": "none/x"}, NotFoundError, "has none, or does not exist", id="nowhere"),
        pytest.param({}, NotFoundError, "say which is called: port=80, 90", id="which-port"),
        pytest.param({"to": "example.com"}, NotFoundError, "host:port", id="no-port-outside"),
    ],
)
def test_question_that_cannot_be_answered(
    asked: dict[str, Any], raised: type[Exception], words: str
) -> None:
    with pytest.raises(raised, match=words):
        ask(**asked)


def test_pods_that_may_call_are_told_with_the_targets() -> None:
    store, snapshot = factory.store(*WORLD, LET_ANN), factory.snapshot(*WORLD, LET_ANN)
    found = pods_allowed(snapshot, store, ("shop", "ann"), ("shop", "web"))
    assert (found.allowed, [str(key) for key in found.targets]) == (True, ["TrafficTarget shop/t"])
    assert not pods_allowed(snapshot, store, ("shop", "bob"), ("shop", "web")).allowed
    with pytest.raises(NotFoundError, match="has no sidecar"):
        pods_allowed(snapshot, store, ("shop", "bare"), ("shop", "web"))
