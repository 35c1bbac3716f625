from __future__ import annotations

import copy
from typing import Any

import factory
import pytest

from app.compute.declared import Admitted
from app.objects.core import Service
from app.objects.meta import RawObject
from app.standalone.admission import Admission

ADDRESS = "10.43.0.7"


def admit(raw: RawObject) -> Admitted:
    admission = Admission(lambda _: ADDRESS, mesh_config=("osm-system", "osm-mesh-config"))
    return admission(raw, "f.yaml:1")


def problems(raw: RawObject) -> list[tuple[str, str]]:
    return [(entry.field, entry.reason) for entry in admit(raw).rejected]


def container(**fields: Any) -> dict[str, Any]:
    return {"name": "app", "command": ["python3"], **fields}


def pod(*containers: dict[str, Any], **spec: Any) -> RawObject:
    return factory.raw("Pod", "shop/p", spec={"containers": list(containers), **spec})


def workload(kind: str, version: str, **spec: Any) -> RawObject:
    template = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [container()]}}
    fields = {"selector": {"matchLabels": {"app": "x"}}, "template": template, **spec}
    return factory.raw(kind, "shop/w", api=version, spec=fields)


def deployment(**spec: Any) -> RawObject:
    return workload("Deployment", "apps/v1", **spec)


def excluding(raw: RawObject, *path: str) -> RawObject:
    """The object with a list of ports that is none at the metadata below the path."""
    inner = raw
    for key in path:
        inner = inner[key]
    annotations = {"openservicemesh.io/outbound-port-exclusion-list": "x"}
    inner["metadata"] = {**inner.get("metadata", {}), "annotations": annotations}
    return raw


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(deployment(), id="deployment"),
        pytest.param(workload("StatefulSet", "apps/v1", serviceName="x"), id="statefulset"),
        pytest.param(pod(container()), id="pod"),
        pytest.param(factory.raw("ConfigMap", "shop/c", data={"a": "b"}), id="config-map"),
        pytest.param(factory.raw("ConfigMap", "shop/c", data=None), id="empty-config-map"),
        pytest.param(factory.namespace("shop"), id="mesh-object"),
        pytest.param(
            pod(
                container(
                    ports=[{"containerPort": 80, "name": "a"}, {"containerPort": 80, "name": "b"}]
                )
            ),
            id="second-name-of-a-port",
        ),
        pytest.param(
            pod(
                container(
                    volumeMounts=[{"name": "v", "mountPath": "/v"}],
                    env=[
                        {"name": "A", "value": "b"},
                        {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                        {
                            "name": "L",
                            "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a']"}},
                        },
                    ],
                    ports=[{"containerPort": 80, "name": "web"}],
                    readinessProbe={"httpGet": {"port": "web"}},
                ),
                volumes=[{"name": "v", "emptyDir": {}}],
            ),
            id="all-that-is-possible",
        ),
    ],
)
def test_what_one_machine_can_run_is_taken_as_it_is(raw: RawObject) -> None:
    before = copy.deepcopy(raw)
    admitted = admit(raw)
    assert admitted.rejected == ()
    assert admitted.raw == before


C = "spec.containers[0]"


@pytest.mark.parametrize(
    ("raw", "field", "words"),
    [
        pytest.param(
            factory.raw("Ingress", "a/b"), "kind", "known kinds are ConfigMap, D", id="kind"
        ),
        pytest.param(factory.raw("Pod", "a/b", api="v2"), "apiVersion", "must be v1", id="version"),
        pytest.param(pod({"name": "a"}), f"{C}.command", "has no command", id="no-command"),
        pytest.param(
            factory.ingress_backend("shop/i", protocol="tcp"),
            "spec.backends[0].port.protocol",
            "must be http or https, not 'tcp': correct it",
            id="rule-of-the-webhook",
        ),
        pytest.param(
            excluding(pod(container())),
            "metadata.annotations",
            "outbound-port-exclusion-list: 'x' is not a port",
            id="annotation-of-a-pod",
        ),
        pytest.param(
            excluding(deployment(), "spec", "template"),
            "spec.template.metadata.annotations",
            "outbound-port-exclusion-list: 'x' is not a port",
            id="annotation-of-a-template",
        ),
        pytest.param(pod(), "spec.containers", "at least 1", id="no-container"),
        pytest.param(
            pod(container(securityContext={"runAsUser": 1500})),
            f"{C}.securityContext.runAsUser",
            "user of the sidecar",
            id="the-sidecars-user",
        ),
        pytest.param(
            pod(container(), securityContext={"runAsUser": 1500}),
            "spec.securityContext.runAsUser",
            "user of the sidecar",
            id="the-sidecars-user-for-all",
        ),
        pytest.param(
            pod(container(ports=[{"containerPort": 80}, {"containerPort": 80}])),
            f"{C}.ports[1].containerPort",
            f"port 80 is asked for twice, first at {C}.ports[0].containerPort",
            id="a-port-twice",
        ),
        pytest.param(
            pod(
                container(ports=[{"containerPort": 80, "name": "a"}]),
                container(name="b", ports=[{"containerPort": 80, "name": "b"}]),
            ),
            "spec.containers[1].ports[0].containerPort",
            "asked for twice",
            id="a-port-in-two-containers",
        ),
        pytest.param(
            pod(container(), container()), "spec.containers[1].name", "another", id="name-twice"
        ),
        pytest.param(
            pod(container(env=[{"name": "A", "value": 8080}])),
            f"{C}.env[0].value",
            "must be text, not 8080",
            id="value-is-no-text",
        ),
        pytest.param(
            pod(container(env=[{"name": "A", "valueFrom": {"resourceFieldRef": {}}}])),
            f"{C}.env[0].valueFrom",
            "configMapKeyRef",
            id="unknown-value-source",
        ),
        pytest.param(
            pod(container(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}])),
            f"{C}.env[0].valueFrom.fieldRef.fieldPath",
            "'spec.x' is not one of",
            id="unknown-field",
        ),
        pytest.param(
            pod(container(volumeMounts=[{"name": "v", "mountPath": "/v"}])),
            f"{C}.volumeMounts[0].name",
            "no volume 'v'",
            id="unknown-volume",
        ),
        pytest.param(
            pod(
                container(volumeMounts=[{"name": "v", "mountPath": "v"}]),
                volumes=[{"name": "v", "emptyDir": {}}],
            ),
            f"{C}.volumeMounts[0].mountPath",
            "begin with /",
            id="relative-mount",
        ),
        pytest.param(
            pod(
                container(volumeMounts=[{"name": "v", "mountPath": "/v", "subPath": "link"}]),
                volumes=[{"name": "v", "emptyDir": {}}],
            ),
            f"{C}.volumeMounts[0].subPath",
            "configMap and secret volumes only",
            id="part-of-an-emptyDir",
        ),
        pytest.param(
            pod(container(), volumes=[{"name": "v", "hostPath": {"path": "/"}}]),
            "spec.volumes[0]",
            "configMap, a secret or an emptyDir",
            id="volume-of-another-kind",
        ),
        pytest.param(
            pod(
                container(),
                volumes=[
                    {
                        "name": "v",
                        "configMap": {"name": "c", "items": [{"key": "k", "path": "a/b"}]},
                    }
                ],
            ),
            "spec.volumes[0]",
            "plain file names",
            id="path-with-folders",
        ),
        pytest.param(
            pod(container(livenessProbe={"httpGet": {"port": "web"}})),
            f"{C}.livenessProbe.httpGet.port",
            "declares no port named 'web'",
            id="unknown-port-name",
        ),
        pytest.param(
            pod(container(readinessProbe={"grpc": {"port": 5}})),
            f"{C}.readinessProbe",
            "one of httpGet, tcpSocket and exec",
            id="grpc-probe",
        ),
        pytest.param(
            pod(container(), hostNetwork=True), "spec.hostNetwork", "own", id="host-network"
        ),
        pytest.param(
            {**deployment(), "metadata": {"name": "w" * 64, "namespace": "shop"}},
            "metadata.name",
            "longer than 63",
            id="long-name",
        ),
        pytest.param(
            deployment(selector={"matchLabels": {"app": "y"}}),
            "spec.selector.matchLabels.app",
            "app=y is not among",
            id="selector-misses-the-template",
        ),
        pytest.param(
            deployment(selector={}), "spec.selector.matchLabels", "is empty", id="empty-selector"
        ),
        pytest.param(
            deployment(strategy={"rollingUpdate": {"maxSurge": "many"}}),
            "spec.strategy.rollingUpdate.maxSurge",
            "",
            id="no-percentage",
        ),
        pytest.param(deployment(replicas=-1), "spec.replicas", "at least 0", id="replicas"),
        pytest.param(
            workload("Job", "batch/v1"),
            "spec.template.spec.restartPolicy",
            "OnFailure or Never",
            id="endless-job",
        ),
        pytest.param(
            factory.raw("ConfigMap", "a/b", data={"a/b": "c"}), "data", "'a/b'", id="key-with-slash"
        ),
        pytest.param(
            factory.raw("ConfigMap", "a/b", binaryData={"..data": "c"}),
            "data",
            "'..data'",
            id="key-of-our-own",
        ),
        pytest.param(
            factory.raw("Secret", "a/b", data={"../../etc/passwd": "Yw=="}),
            "data",
            "'../../etc/passwd'",
            id="secret-key-that-leads-out",
        ),
        pytest.param(
            factory.raw("Secret", "a/b", stringData={"a/b": "c"}),
            "data",
            "'a/b'",
            id="plain-secret-key-with-slash",
        ),
        pytest.param(
            pod(container(), volumes=[{"name": "../../v", "emptyDir": {}}]),
            "spec.volumes[0].name",
            "'../../v' is no name",
            id="volume-name-that-leads-out",
        ),
        pytest.param(
            pod(container(name="../x")), f"{C}.name", "'../x' is no name", id="container-name"
        ),
        pytest.param(
            pod(
                container(),
                volumes=[{"name": "v", "secret": {"items": [{"key": "k", "path": ".."}]}}],
            ),
            "spec.volumes[0]",
            "plain file names",
            id="path-that-leads-out",
        ),
        pytest.param(
            factory.raw("ConfigMap", "a/b", data={"a": 5}), "data.a", "must be text", id="no-text"
        ),
        pytest.param(
            factory.raw("ConfigMap", "a/b", api="v2"), "apiVersion", "must be v1", id="map-version"
        ),
        pytest.param(
            factory.raw("TrafficTarget", "a/b", api="v1"), "apiVersion", "", id="mesh-version"
        ),
        pytest.param(
            factory.raw("MeshConfig", "a/b", api="config.openservicemesh.io/v1alpha2", spec={}),
            "metadata.name",
            "the MeshConfig of this mesh is osm-system/osm-mesh-config",
            id="another-mesh-config",
        ),
    ],
)
def test_what_cannot_be_run_is_told_with_its_field(raw: RawObject, field: str, words: str) -> None:
    found = problems(raw)
    assert [name for name, _ in found] == [field]
    assert words in found[0][1]


def test_pods_of_deployments_must_restart() -> None:
    raw = deployment()
    raw["spec"]["template"]["spec"]["restartPolicy"] = "Never"
    assert [field for field, _ in problems(raw)] == ["spec.template.spec.restartPolicy"]


def test_every_problem_of_a_pod_is_told() -> None:
    raw = pod({"name": "a"}, {"name": "b"}, hostNetwork=True)
    assert [field for field, _ in problems(raw)] == [
        "spec.hostNetwork",
        "spec.containers[0].command",
        "spec.containers[1].command",
    ]


def service(**spec: Any) -> RawObject:
    return factory.raw("Service", "shop/web", spec={"ports": [{"port": 80}], **spec})


@pytest.mark.parametrize(
    ("raw", "address"),
    [
        pytest.param(service(), ADDRESS, id="gets-an-address"),
        pytest.param(service(clusterIP=""), ADDRESS, id="empty-means-any"),
        pytest.param(service(clusterIP=ADDRESS), ADDRESS, id="its-own-again"),
        pytest.param(service(clusterIP="None"), "None", id="headless"),
        pytest.param(service(type="ExternalName", externalName="x.y"), "", id="external"),
    ],
)
def test_services_have_their_address_from_the_start(raw: RawObject, address: str) -> None:
    admitted = admit(raw)
    assert isinstance(admitted.object, Service)
    assert admitted.object.spec.cluster_ip == address
    assert admitted.raw["spec"].get("clusterIP", "") == address


def test_addresses_of_others_are_refused() -> None:
    assert problems(service(clusterIP="10.96.0.1")) == [
        (
            "spec.clusterIP",
            "addresses are given out by this machine; leave out '10.96.0.1', or write None",
        )
    ]
