"""The decision table of kubernetes-surface 3.2, and the Pods that cannot live beside a sidecar."""

from __future__ import annotations

from typing import Any

import pytest
from injections import container, decision_of, pod, shop

from app.errors import InjectionError, NamespaceInjectionError
from app.inject.decide import Inject, Skip, decide, read_namespace
from app.mesh.snapshot import MeshNamespace
from app.objects.meta import ObjectKey, ObjectKind, RawObject
from xds.policy.identity import ServiceIdentity

SWITCH = "openservicemesh.io/sidecar-injection"
METRICS = "openservicemesh.io/metrics"
OTHERS_SIDECAR = "5ee1b2a4-7e0c-4d8f-9c65-0f4f2d1b8a11.sidecar"


def annotated(value: str | None) -> RawObject:
    return pod(annotations={} if value is None else {SWITCH: value})


@pytest.mark.parametrize(
    ("namespace", "own", "wanted"),
    [
        (None, None, False),
        (None, "enabled", True),
        (None, "disabled", False),
        ("enabled", None, True),
        ("enabled", "enabled", True),
        ("enabled", "disabled", False),
        ("disabled", None, False),
        ("disabled", "enabled", True),
        ("disabled", "disabled", False),
    ],
)
def test_pod_annotation_wins_over_namespace(
    namespace: str | None, own: str | None, wanted: bool
) -> None:
    decision = decision_of(annotated(own), shop(injection=namespace))
    assert isinstance(decision, Inject) is wanted


@pytest.mark.parametrize(
    ("value", "wanted"),
    [("yes", True), ("TRUE", True), ("Enabled", True), ("no", False), ("False", False)],
)
def test_annotation_has_synonyms_in_any_case(value: str, wanted: bool) -> None:
    assert isinstance(decision_of(annotated(value), shop(injection=None)), Inject) is wanted
    assert isinstance(decision_of(annotated(None), shop(injection=value)), Inject) is wanted


@pytest.mark.parametrize(
    ("raw", "namespace", "name", "skip"),
    [
        pytest.param(
            pod(spec={"hostNetwork": True}, annotations={SWITCH: "nonsense"}),
            None,
            "kube-system",
            Skip(reason="the Pod is on the network of its host"),
            id="host-network-first",
        ),
        pytest.param(
            annotated("nonsense"),
            shop(),
            "kube-system",
            Skip(reason="namespace kube-system never gets sidecars"),
            id="kube-system",
        ),
        pytest.param(
            annotated(None),
            shop(),
            "kube-public",
            Skip(reason="namespace kube-public never gets sidecars"),
            id="kube-public",
        ),
        pytest.param(
            annotated(None),
            shop(),
            "osm-system",
            Skip(reason="namespace osm-system never gets sidecars"),
            id="control-plane",
        ),
        pytest.param(
            annotated("nonsense"),
            None,
            "shop",
            Skip(reason="namespace shop is not monitored by this mesh", of_namespace=True),
            id="not-monitored",
        ),
        pytest.param(
            annotated("nonsense"),
            shop(ignored=True),
            "shop",
            Skip(
                reason="namespace shop has the label openservicemesh.io/ignore", of_namespace=True
            ),
            id="ignored",
        ),
        pytest.param(
            annotated(None),
            shop(injection=None),
            "shop",
            Skip(
                reason=f"annotation {SWITCH} of namespace shop is not set, and the Pod has none",
                of_namespace=True,
            ),
            id="nobody-asks",
        ),
        pytest.param(
            annotated(None),
            shop(injection="no"),
            "shop",
            Skip(
                reason=f"annotation {SWITCH} of namespace shop is disabled, and the Pod has none",
                of_namespace=True,
            ),
            id="namespace-declines",
        ),
        pytest.param(
            annotated("false"),
            shop(),
            "shop",
            Skip(reason=f"the Pod's annotation {SWITCH} is disabled"),
            id="pod-declines",
        ),
    ],
)
def test_first_row_that_fits_skips(
    raw: RawObject, namespace: MeshNamespace | None, name: str, skip: Skip
) -> None:
    assert decide(raw, namespace, namespace_name=name, osm_namespace="osm-system") == skip


def test_unknown_pod_annotation_is_an_error() -> None:
    with pytest.raises(InjectionError, match=f"Pod annotation {SWITCH}: 'on' is unknown") as error:
        decision_of(annotated("on"), shop(injection="nonsense"))
    assert error.value.code == "E6108"


def test_unknown_namespace_annotation_is_an_error_even_for_a_decided_pod() -> None:
    with pytest.raises(NamespaceInjectionError, match=f"{SWITCH} of namespace shop: ''") as error:
        decision_of(annotated("enabled"), shop(injection=""))
    assert error.value.code == "E6109"


@pytest.mark.parametrize(
    ("value", "metrics"),
    [(None, False), ("", False), ("no", False), ("enabled", True), ("TRUE", True)],
)
def test_metrics_come_from_the_namespace(value: str | None, metrics: bool) -> None:
    decision = decision_of(pod(), shop(metrics=value))
    assert decision == Inject(
        identity=ServiceIdentity(namespace="shop", service_account="default"),
        metrics=metrics,
        previous=None,
    )


def test_unknown_metrics_annotation_is_an_error() -> None:
    with pytest.raises(NamespaceInjectionError, match=f"{METRICS} of namespace shop: 'on'"):
        decision_of(pod(), shop(metrics="on"))


def test_metrics_of_a_pod_without_sidecar_do_not_matter() -> None:
    assert isinstance(decision_of(annotated("no"), shop(metrics="on")), Skip)


VOLUME = "envoy-bootstrap-config-volume"
SECRET = {"secretName": "envoy-bootstrap-config-old"}


@pytest.mark.parametrize(
    "copied",
    [
        pytest.param(
            pod(
                container(),
                container("envoy"),
                spec={"volumes": [{"name": VOLUME}], "serviceAccountName": "cart"},
                labels={"osm-proxy-uuid": "old"},
            ),
            id="labels-kept",
        ),
        pytest.param(
            pod(
                spec={
                    "initContainers": [container("envoy")],
                    "volumes": [{"name": VOLUME, "secret": SECRET}],
                    "serviceAccountName": "cart",
                }
            ),
            id="labels-dropped",
        ),
    ],
)
@pytest.mark.parametrize("injection", ["enabled", None])
def test_copy_of_an_injected_pod_names_the_secret_to_read(
    copied: RawObject, injection: str | None
) -> None:
    assert decision_of(copied, shop(injection=injection)) == Inject(
        identity=ServiceIdentity(namespace="shop", service_account="cart"),
        metrics=False,
        previous=ObjectKey(
            kind=ObjectKind.SECRET, namespace="shop", name="envoy-bootstrap-config-old"
        ),
    )


def ports(*numbers: int | RawObject) -> list[RawObject]:
    return [n if isinstance(n, dict) else {"containerPort": n} for n in numbers]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        pytest.param(
            pod(container(securityContext={"runAsUser": 1500})),
            "spec.containers[0].securityContext.runAsUser: 1500 is the sidecar's user, whose "
            "traffic bypasses the mesh; run container app as another user",
            id="container-as-the-sidecar",
        ),
        pytest.param(
            pod(spec={"securityContext": {"runAsUser": 1500}}),
            "spec.securityContext.runAsUser: 1500 is the sidecar's user, whose traffic bypasses "
            "the mesh; run container app as another user",
            id="pod-as-the-sidecar",
        ),
        pytest.param(
            pod(container("a", ports=ports(80)), container("b", ports=ports(81, 80))),
            "spec.containers[1].ports[1].containerPort: 80 is asked for twice, first by "
            "spec.containers[0].ports[0].containerPort",
            id="port-twice-in-two-containers",
        ),
        pytest.param(
            pod(container(ports=ports(80, {"containerPort": 80, "name": "web"}))),
            "spec.containers[0].ports[1].containerPort: 80 is asked for twice, first by "
            "spec.containers[0].ports[0].containerPort",
            id="port-twice-in-one-container",
        ),
        *(
            pytest.param(
                pod(container(ports=ports(port))),
                f"spec.containers[0].ports[0].containerPort: {port} belongs to the sidecar; "
                "use another port",
                id=f"mesh-port-{port}",
            )
            for port in (15000, 15010, 15901, 15904)
        ),
        pytest.param(
            pod(container("envoy")),
            "spec.containers[0].name: envoy is reserved for the sidecar",
            id="name-of-the-sidecar",
        ),
        pytest.param(
            pod(spec={"initContainers": [container("osm-init")]}),
            "spec.initContainers[0].name: osm-init is reserved for the sidecar",
            id="name-of-the-init-container",
        ),
        pytest.param(
            pod(container("a"), spec={"initContainers": [container("a")]}),
            "spec.containers[0].name: a is the name of spec.initContainers[0] too",
            id="name-twice",
        ),
        *(
            pytest.param(
                pod(spec={"serviceAccountName": account}),
                f"spec.serviceAccountName: {account[:63]!r} is not a name of dots and labels",
                id=f"account-{account[:5]}",
            )
            for account in ("a/b", "a..b", "é", "A", "a" * 64, "a." * 126 + "aa")
        ),
        pytest.param(
            pod(spec={"serviceAccountName": f"{OTHERS_SIDECAR}.cart"}),
            f"spec.serviceAccountName: {OTHERS_SIDECAR}.cart begins with a UUID; rename it",
            id="account-that-reads-like-a-sidecar",
        ),
        pytest.param(
            pod(
                container("envoy"),
                spec={"volumes": [{"name": "envoy-bootstrap-config-volume"}]},
                labels={"osm-proxy-uuid": "../other"},
            ),
            "metadata.labels: osm-proxy-uuid is not the UUID of a sidecar",
            id="uuid-that-leads-elsewhere",
        ),
        pytest.param(
            pod(container("A/b")),
            "spec.containers[0].name: 'A/b' is not a DNS label (a-z, 0-9 and -)",
            id="name-is-no-label",
        ),
        pytest.param(
            pod(container("a" * 64)),
            f"spec.containers[0].name: {'a' * 63!r} is not a DNS label (a-z, 0-9 and -)",
            id="name-is-too-long",
        ),
        pytest.param(
            pod(spec={"volumes": [{"name": "x"}, {"name": "envoy-bootstrap-config-volume"}]}),
            "spec.volumes[1].name: envoy-bootstrap-config-volume is reserved for the sidecar",
            id="volume-without-label",
        ),
        *(
            pytest.param(
                pod(spec=windows),
                "spec.nodeSelector asks for a Windows node, which has no sidecar; annotate the Pod "
                'with openservicemesh.io/sidecar-injection: "disabled"',
                id=f"windows-by-{next(iter(windows))}",
            )
            for windows in (
                {"nodeSelector": {"Kubernetes.io/OS": "Windows"}},
                {"os": {"name": "windows"}},
            )
        ),
        pytest.param(
            {"metadata": {}, "spec": {"containers": [{"name": "a", "ports": [{}]}]}},
            "Pod field spec.containers[0].ports[0].containerPort: Field required",
            id="port-without-number",
        ),
        pytest.param({"metadata": {}}, "Pod field spec: Field required", id="no-spec"),
    ],
)  # fmt: skip
def test_pod_that_cannot_have_a_sidecar_is_refused(raw: RawObject, message: str) -> None:
    with pytest.raises(InjectionError) as error:
        decision_of(raw)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(
            pod(spec={"initContainers": [container("i", securityContext={"runAsUser": 1500})]}),
            id="init-container-as-the-sidecar",
        ),
        pytest.param(
            pod(
                container(securityContext={"runAsUser": 7}),
                spec={"securityContext": {"runAsUser": 1500}},
            ),
            id="container-has-another-user",
        ),
        pytest.param(
            pod(container(ports=ports(53, {"containerPort": 53, "protocol": "UDP"}))),
            id="same-port-of-another-protocol",
        ),
        pytest.param(
            pod(
                container(
                    ports=ports(
                        {"containerPort": 80, "name": "web"}, {"containerPort": 80, "name": "stats"}
                    )
                )
            ),
            id="one-port-of-one-container-with-two-names",
        ),
        pytest.param(
            pod(spec={"nodeSelector": {"kubernetes.io/os": "linux"}, "os": {"name": "linux"}}),
            id="linux",
        ),
        pytest.param(pod(labels={"osm-proxy-uuid": "old"}), id="label-without-volume"),
        pytest.param(pod(container(ports=None), labels=None, annotations=None), id="nulls"),
    ],
)
def test_pod_that_can_have_a_sidecar_gets_one(raw: RawObject) -> None:
    assert isinstance(decision_of(raw), Inject)


def raw_namespace(**metadata: Any) -> RawObject:
    return {"kind": "Namespace", "metadata": {"name": "shop", **metadata}}


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        pytest.param(raw_namespace(), None, id="without-labels"),
        pytest.param(
            raw_namespace(labels={"openservicemesh.io/monitored-by": "other"}),
            None,
            id="of-another-mesh",
        ),
        pytest.param(
            raw_namespace(labels={"openservicemesh.io/monitored-by": "osm"}),
            shop(injection=None),
            id="monitored",
        ),
        pytest.param(
            raw_namespace(
                labels={
                    "openservicemesh.io/monitored-by": "osm",
                    "openservicemesh.io/ignore": "",
                },
                annotations={SWITCH: "yes", METRICS: "no"},
            ),
            shop(ignored=True, injection="yes", metrics="no"),
            id="annotated-and-ignored",
        ),
    ],
)
def test_namespace_is_read_from_the_api_server(raw: RawObject, read: MeshNamespace | None) -> None:
    assert read_namespace(raw, name="shop", mesh_name="osm") == read


def test_missing_namespace_is_an_error() -> None:
    with pytest.raises(NamespaceInjectionError, match="namespace shop not found"):
        read_namespace(None, name="shop", mesh_name="osm")
