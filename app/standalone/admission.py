"""Whether an object of a file is taken, and in which form; pure but for the addresses it is given.

``compute.local`` asks for each document, as the API server of a cluster would ask its own
validation. Objects of the mesh are decoded by ``objects.scheme`` and judged by the rules of the
webhook, as far as these look at one object alone; workloads are checked against what one machine
can run. A Service gets its ClusterIP here, so that nobody ever sees it without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from pydantic import ValidationError

from app.compute.declared import Admitted
from app.errors import ExclusionError
from app.inject.iptables import redirection
from app.inject.pod import ENVOY_UID
from app.objects import scheme
from app.objects.config import MeshConfigSpec
from app.objects.core import Service
from app.objects.meta import ObjectKey, ObjectKind, RawObject, Rejected, is_label
from app.standalone.specs import (
    WORKLOADS,
    ConfigMap,
    Container,
    Deployment,
    EnvVar,
    Job,
    Pod,
    PodSpec,
    Probe,
    Secret,
    StatefulSet,
    Volume,
    VolumeMount,
    Workload,
    pod_spec,
)
from app.validate.check import VALIDATED, Operation, check

CODE = scheme.CODE
FIELD_PATHS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.podIP",
    "status.podIPs",
)
"""What a downward ``fieldRef`` may name, besides single labels and annotations."""

_CONTENTS: dict[str, type[ConfigMap | Secret]] = {"ConfigMap": ConfigMap, "Secret": Secret}
"""Kinds whose keys become files, written by root: none may lead out of its directory."""

_LONGEST_NAME = 63

Problem = tuple[str, str]
"""Path of a field, and the sentence about it."""


class Admission:
    """Decides about objects; callable, as ``LocalObjects`` wants it."""

    def __init__(
        self, service_address: Callable[[ObjectKey], str], *, mesh_config: tuple[str, str]
    ) -> None:
        """``service_address`` gives each Service the same address again and again.

        ``mesh_config``: namespace and name of the one MeshConfig that counts.
        """
        self._service_address = service_address
        self._mesh_config = mesh_config

    def __call__(self, raw: RawObject, where: str) -> Admitted:
        """The object in the form that is stored, or all that is wrong with it."""
        kind, version = raw.get("kind"), raw.get("apiVersion")
        if kind in WORKLOADS:
            problems = list(check_workload(raw))
            if problems or kind != "Pod":
                return _answer(raw, where, problems)
        if kind in _CONTENTS:
            problems = list(_check_content(raw, _CONTENTS[kind]))
            if problems or kind == "ConfigMap":
                return _answer(raw, where, problems)
        if not scheme.is_mesh_kind(raw):
            known = ", ".join(sorted({*scheme.KINDS, *WORKLOADS, "ConfigMap"}))
            reason = f"{kind!r} of {version!r} is not known here; known kinds are {known}"
            return _answer(raw, where, [("kind", reason)])
        return self._mesh_object(raw, where)

    def _mesh_object(self, raw: RawObject, where: str) -> Admitted:
        decoded = scheme.decode(raw, where)
        if isinstance(decoded, Rejected):
            return Admitted(raw=raw, rejected=(decoded,))
        key, found = decoded
        if key.kind is ObjectKind.MESH_CONFIG and (key.namespace, key.name) != self._mesh_config:
            reason = f"is not read: the MeshConfig of this mesh is {'/'.join(self._mesh_config)}"
            return _answer(raw, where, [("metadata.name", reason)])
        if isinstance(found, Service) and _wants_address(raw, found):
            return self._service(raw, key, where)
        problems = self._judged(raw) if key.kind in VALIDATED else []
        return _answer(raw, where, problems) if problems else Admitted(raw=raw, object=found)

    def _judged(self, raw: RawObject) -> list[Problem]:
        """What the webhook of a cluster would refuse of the object, taken by itself."""
        verdict = check(
            raw, None, Operation.CREATE, snapshot=None, osm_namespace=self._mesh_config[0]
        )
        return [(reason.field, reason.reason) for reason in verdict.reasons]

    def _service(self, raw: RawObject, key: ObjectKey, where: str) -> Admitted:
        """The Service with the ClusterIP that this machine gives it."""
        address, wanted = self._service_address(key), raw["spec"].get("clusterIP") or ""
        if wanted not in ("", address):
            reason = f"addresses are given out by this machine; leave out {wanted!r}, or write None"
            return _answer(raw, where, [("spec.clusterIP", reason)])
        spec = {**raw["spec"], "clusterIP": address, "clusterIPs": [address]}
        addressed = {**raw, "spec": spec}
        decoded = scheme.decode(addressed, where)
        assert not isinstance(decoded, Rejected)  # noqa: S101 it was good without the address
        return Admitted(raw=addressed, object=decoded[1])


def _wants_address(raw: RawObject, service: Service) -> bool:
    spec = raw.get("spec") or {}
    return bool(spec) and spec.get("clusterIP") != "None" and service.spec.type != "ExternalName"


def check_workload(raw: RawObject) -> Iterator[Problem]:
    """All that keeps a workload from being run, the first of each field."""
    version, model = WORKLOADS[raw["kind"]]
    if raw.get("apiVersion") != version:
        yield "apiVersion", f"must be {version} for a {raw['kind']}, not {raw.get('apiVersion')!r}"
        return
    try:
        workload = model.model_validate(raw)
    except ValidationError as error:
        yield scheme.sentence(error)
        return
    if len(workload.metadata.name) > _LONGEST_NAME:
        reason = f"is longer than {_LONGEST_NAME} characters, and Pods get longer ones; shorten it"
        yield "metadata.name", reason
    yield from _check_kind(workload)
    spec, path = pod_spec(workload)
    yield from _check_pod(spec, path)
    meta = workload.metadata if isinstance(workload, Pod) else workload.spec.template.metadata
    yield from _check_annotations(meta.annotations, path.removesuffix("spec"))


def _check_annotations(annotations: Mapping[str, str], path: str) -> Iterator[Problem]:
    """As the sidecar's init container would be refused, in the same words."""
    try:
        redirection(MeshConfigSpec(), annotations, ())
    except ExclusionError as error:
        yield f"{path}metadata.annotations", str(error)


def _check_kind(workload: Workload) -> Iterator[Problem]:
    match workload:
        case Deployment() | StatefulSet():
            labels = workload.spec.template.metadata.labels
            selector = workload.spec.selector.match_labels
            if not selector:
                yield "spec.selector.matchLabels", "is empty; repeat labels of the template"
            for key, value in sorted(selector.items()):
                if labels.get(key) != value:
                    reason = f"{key}={value} is not among the labels of the template; add it there"
                    yield f"spec.selector.matchLabels.{key}", reason
            if workload.spec.template.spec.restart_policy != "Always":
                yield "spec.template.spec.restartPolicy", "must be Always here; leave it out"
        case Job():
            if workload.spec.template.spec.restart_policy == "Always":
                reason = "must be OnFailure or Never in a Job, since a Job ends"
                yield "spec.template.spec.restartPolicy", reason
        case Pod():
            pass


def _check_pod(spec: PodSpec, path: str) -> Iterator[Problem]:
    if spec.host_network:
        yield f"{path}.hostNetwork", "is not possible here: every Pod has a network of its own"
    if spec.security_context.run_as_user == ENVOY_UID:
        yield f"{path}.securityContext.runAsUser", _REFUSED_USER
    volumes = {volume.name: volume for volume in spec.volumes}
    for index, volume in enumerate(spec.volumes):
        if not (volume.config_map or volume.secret or volume.empty_dir is not None):
            reason = f"volume {volume.name!r} must be a configMap, a secret or an emptyDir here"
            yield f"{path}.volumes[{index}]", reason
        if not is_label(volume.name):
            yield f"{path}.volumes[{index}].name", f"{volume.name!r} {_NO_LABEL}"
        source = volume.config_map or volume.secret
        if not all(_is_file_name(item.path) for item in (source.items if source else ())):
            yield f"{path}.volumes[{index}]", "paths of items must be plain file names here"
    names: set[str] = set()
    for place, container in _containers(spec, path):
        if container.name in names:
            yield f"{place}.name", f"{container.name!r} is the name of another container; change it"
        names.add(container.name)
        yield from _check_container(container, place, volumes)
    yield from _check_ports(spec, path)


_REFUSED_USER = (
    f"{ENVOY_UID} is the user of the sidecar, whose traffic is not captured; use another"
)


# Names of volumes and containers become names of files, which root writes.
_NO_LABEL = "is no name; write at most 63 lower-case letters, digits and '-'"


def _containers(spec: PodSpec, path: str) -> Iterator[tuple[str, Container]]:
    for index, container in enumerate(spec.init_containers):
        yield f"{path}.initContainers[{index}]", container
    for index, container in enumerate(spec.containers):
        yield f"{path}.containers[{index}]", container


def _check_container(
    container: Container, place: str, volumes: Mapping[str, Volume]
) -> Iterator[Problem]:
    if not is_label(container.name):
        yield f"{place}.name", f"{container.name!r} {_NO_LABEL}"
    if not container.command:
        reason = (
            f"container {container.name!r} has no command; there are no images on one machine, "
            "so write the program to run, such as [python3, app.py]"
        )
        yield f"{place}.command", reason
    if container.security_context.run_as_user == ENVOY_UID:
        yield f"{place}.securityContext.runAsUser", _REFUSED_USER
    for index, mount in enumerate(container.volume_mounts):
        yield from _check_mount(mount, f"{place}.volumeMounts[{index}]", volumes)
    for index, variable in enumerate(container.env):
        yield from _check_variable(variable, f"{place}.env[{index}]")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = getattr(container, _snake(name))
        if probe is not None:
            yield from _check_probe(probe, container, f"{place}.{name}")


def _check_mount(
    mount: VolumeMount, place: str, volumes: Mapping[str, Volume]
) -> Iterator[Problem]:
    volume = volumes.get(mount.name)
    if volume is None:
        reason = f"there is no volume {mount.name!r}; add it to the Pod's volumes"
        yield f"{place}.name", reason
    elif mount.sub_path and volume.empty_dir is not None:
        # A container could plant a link there that root would follow out of the volume.
        yield f"{place}.subPath", "works for configMap and secret volumes only; mount it whole"
    if not mount.mount_path.startswith("/"):
        yield f"{place}.mountPath", "must begin with /"


def _snake(name: str) -> str:
    return name.replace("Probe", "_probe")


def _check_variable(variable: EnvVar, place: str) -> Iterator[Problem]:
    source = variable.value_from
    if source is None:
        return
    if not (source.config_map_key_ref or source.secret_key_ref or source.field_ref):
        reason = "must be a configMapKeyRef, a secretKeyRef or a fieldRef here"
        yield f"{place}.valueFrom", reason
    if source.field_ref is not None:
        path = source.field_ref.field_path
        single = path.startswith(("metadata.labels['", "metadata.annotations['"))
        if path not in FIELD_PATHS and not (single and path.endswith("']")):
            known = ", ".join((*FIELD_PATHS, "metadata.labels['<key>']"))
            yield f"{place}.valueFrom.fieldRef.fieldPath", f"{path!r} is not one of {known}"


def _check_probe(probe: Probe, container: Container, place: str) -> Iterator[Problem]:
    actions = [a for a in (probe.http_get, probe.tcp_socket, probe.exec) if a is not None]
    if len(actions) != 1:
        yield place, "must have one of httpGet, tcpSocket and exec; others are not run here"
        return
    for name, action in (("httpGet", probe.http_get), ("tcpSocket", probe.tcp_socket)):
        if action is not None and container.port_number(action.port) is None:
            reason = f"container {container.name!r} declares no port named {action.port!r}"
            yield f"{place}.{name}.port", reason


def _check_ports(spec: PodSpec, path: str) -> Iterator[Problem]:
    first: dict[tuple[int, str], tuple[str, str]] = {}
    for place, container in _containers(spec, path):
        for index, port in enumerate(container.ports):
            asked = f"{place}.ports[{index}].containerPort"
            key = (port.container_port, port.protocol)
            owner, name = first.setdefault(key, (asked, port.name))
            # One container may give its port a second name, as Kubernetes allows.
            alias = owner.startswith(f"{place}.") and name and port.name and name != port.name
            if owner != asked and not alias:
                yield asked, f"port {port.container_port} is asked for twice, first at {owner}"


def _check_content(raw: RawObject, model: type[ConfigMap | Secret]) -> Iterator[Problem]:
    if raw.get("apiVersion") != "v1":
        yield "apiVersion", f"must be v1 for a {raw['kind']}, not {raw.get('apiVersion')!r}"
        return
    try:
        found = model.model_validate(raw)
    except ValidationError as error:
        yield scheme.sentence(error)
        return
    for name in found.names:
        if not _is_file_name(name):
            yield "data", f"the key {name!r} cannot be the name of a file"


def _is_file_name(name: str) -> bool:
    return "/" not in name and "\0" not in name and name != "" and not name.startswith("..")


def _answer(raw: RawObject, where: str, problems: list[Problem]) -> Admitted:
    rejected = tuple(
        Rejected(where=where, field=field, reason=reason, code=CODE) for field, reason in problems
    )
    return Admitted(raw=raw, rejected=rejected)
