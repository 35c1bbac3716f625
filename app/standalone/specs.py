"""What the kubelet reads of Pods and of the objects that make them, as typed views; pure.

In comes raw JSON, validated field by field by ``admission``; out go frozen values for ``launch``
(what to run), ``rollout`` (which Pods to have) and ``probes``. Fields that one machine cannot
honour are left out. Source: the Kubernetes API reference, core/v1, apps/v1 and batch/v1.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from app.objects.meta import KubeModel, KubeObject, NullAsTuple, ObjectMeta, StringMap

NotNegative = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]
PortNumber = Annotated[int, Field(ge=1, le=65535)]
PortRef = PortNumber | str
Percentage = Annotated[str, Field(pattern=r"^[0-9]{1,3}%$")]


class KeyRef(KubeModel):
    """One key of a ConfigMap or Secret."""

    name: str = ""
    key: str
    optional: bool = False


class FieldRef(KubeModel):
    """One field of the Pod itself."""

    field_path: str


class EnvSource(KubeModel):
    """Where a variable's value comes from; exactly one is set."""

    config_map_key_ref: KeyRef | None = None
    secret_key_ref: KeyRef | None = None
    field_ref: FieldRef | None = None


class EnvVar(KubeModel):
    """One environment variable."""

    name: str
    value: str | None = None
    value_from: EnvSource | None = None


class ObjectRef(KubeModel):
    """A ConfigMap or Secret as a whole."""

    name: str = ""
    optional: bool = False


class EnvFrom(KubeModel):
    """Each key of an object as a variable."""

    prefix: str = ""
    config_map_ref: ObjectRef | None = None
    secret_ref: ObjectRef | None = None


class ContainerPort(KubeModel):
    """A declared port."""

    name: str = ""
    container_port: PortNumber
    protocol: str = "TCP"


class VolumeMount(KubeModel):
    """Where a container sees a volume."""

    name: str
    mount_path: str
    sub_path: str = ""
    read_only: bool = False


class Capabilities(KubeModel):
    """Rights of root that a container keeps."""

    add: Annotated[tuple[str, ...], NullAsTuple] = ()


class SecurityContext(KubeModel):
    """As whom a container or Pod runs."""

    run_as_user: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    run_as_group: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    capabilities: Capabilities = Field(default_factory=Capabilities)


class HttpHeader(KubeModel):
    """One header of an HTTP probe."""

    name: str
    value: str = ""


class HttpGet(KubeModel):
    """Asks over HTTP; a status from 200 to 399 is success."""

    path: str = "/"
    port: PortRef
    host: str = ""
    scheme: Literal["HTTP", "HTTPS"] = "HTTP"
    http_headers: Annotated[tuple[HttpHeader, ...], NullAsTuple] = ()


class TcpSocket(KubeModel):
    """Connects; that is success."""

    port: PortRef
    host: str = ""


class ExecAction(KubeModel):
    """Runs a command in the container; exit code 0 is success."""

    command: Annotated[tuple[str, ...], NullAsTuple] = ()


class Action(KubeModel):
    """What a probe or a hook does; exactly one is set."""

    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    exec: ExecAction | None = None


class Probe(Action):
    """A repeated question, and how many answers count."""

    initial_delay_seconds: NotNegative = 0
    period_seconds: AtLeastOne = 10
    timeout_seconds: AtLeastOne = 1
    success_threshold: AtLeastOne = 1
    failure_threshold: AtLeastOne = 3


class Lifecycle(KubeModel):
    """Hooks of a container."""

    pre_stop: Action | None = None


class Container(KubeModel):
    """One process of a Pod."""

    name: str
    command: Annotated[tuple[str, ...], NullAsTuple] = ()
    args: Annotated[tuple[str, ...], NullAsTuple] = ()
    working_dir: str = ""
    env: Annotated[tuple[EnvVar, ...], NullAsTuple] = ()
    env_from: Annotated[tuple[EnvFrom, ...], NullAsTuple] = ()
    ports: Annotated[tuple[ContainerPort, ...], NullAsTuple] = ()
    volume_mounts: Annotated[tuple[VolumeMount, ...], NullAsTuple] = ()
    security_context: SecurityContext = Field(default_factory=SecurityContext)
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    lifecycle: Lifecycle = Field(default_factory=Lifecycle)
    restart_policy: Literal["Always"] | None = None
    """``Always`` makes an init container a sidecar."""

    @property
    def is_sidecar(self) -> bool:
        """True for an init container that runs as long as the Pod."""
        return self.restart_policy == "Always"

    def port_number(self, port: PortRef) -> int | None:
        """The number of a port given by number or name; None for a name it does not declare."""
        if isinstance(port, int):
            return port
        return next((p.container_port for p in self.ports if p.name == port), None)


class KeyToPath(KubeModel):
    """One key of a volume's object under another file name."""

    key: str
    path: str


class ConfigMapVolume(KubeModel):
    """The files of a ConfigMap."""

    name: str = ""
    items: Annotated[tuple[KeyToPath, ...], NullAsTuple] = ()
    optional: bool = False


class SecretVolume(KubeModel):
    """The files of a Secret."""

    secret_name: str = ""
    items: Annotated[tuple[KeyToPath, ...], NullAsTuple] = ()
    optional: bool = False


class EmptyDir(KubeModel):
    """A directory that lives as long as the Pod."""


class Volume(KubeModel):
    """Files that containers of a Pod may mount.

    One source is set, else it is of an unknown kind.
    """

    name: str
    config_map: ConfigMapVolume | None = None
    secret: SecretVolume | None = None
    empty_dir: EmptyDir | None = None


class HostAlias(KubeModel):
    """A line of /etc/hosts."""

    ip: str
    hostnames: Annotated[tuple[str, ...], NullAsTuple] = ()


class PodSpec(KubeModel):
    """What a Pod is made of."""

    containers: Annotated[tuple[Container, ...], Field(min_length=1)]
    init_containers: Annotated[tuple[Container, ...], NullAsTuple] = ()
    volumes: Annotated[tuple[Volume, ...], NullAsTuple] = ()
    restart_policy: Literal["Always", "OnFailure", "Never"] = "Always"
    termination_grace_period_seconds: NotNegative = 30
    security_context: SecurityContext = Field(default_factory=SecurityContext)
    service_account_name: str = ""
    hostname: str = ""
    subdomain: str = ""
    host_network: bool = False
    host_aliases: Annotated[tuple[HostAlias, ...], NullAsTuple] = ()


class PodTemplate(KubeModel):
    """What the Pods of a workload are made from."""

    metadata: ObjectMeta = Field(default_factory=ObjectMeta)
    spec: PodSpec


class Pod(KubeObject):
    """A Pod that is wished for, or one that runs."""

    spec: PodSpec


class Selector(KubeModel):
    """Which Pods belong to a workload."""

    match_labels: StringMap = Field(default_factory=dict)


class RollingUpdate(KubeModel):
    """How many Pods an update may add or take away at a time."""

    max_surge: NotNegative | Percentage = "25%"
    max_unavailable: NotNegative | Percentage = "25%"


class Strategy(KubeModel):
    """How a Deployment replaces its Pods."""

    type: Literal["RollingUpdate", "Recreate"] = "RollingUpdate"
    rolling_update: RollingUpdate = Field(default_factory=RollingUpdate)


class DeploymentSpec(KubeModel):
    """So many equal Pods."""

    replicas: Annotated[int, Field(ge=0, le=200)] = 1
    selector: Selector
    template: PodTemplate
    strategy: Strategy = Field(default_factory=Strategy)


class Deployment(KubeObject):
    """Equal Pods, replaced without a gap."""

    spec: DeploymentSpec


class StatefulSetSpec(KubeModel):
    """So many numbered Pods."""

    replicas: Annotated[int, Field(ge=0, le=200)] = 1
    selector: Selector
    service_name: str = ""
    template: PodTemplate
    pod_management_policy: Literal["OrderedReady", "Parallel"] = "OrderedReady"


class StatefulSet(KubeObject):
    """Numbered Pods with names of their own, started in order."""

    spec: StatefulSetSpec


class JobSpec(KubeModel):
    """One Pod that ends."""

    completions: Annotated[int, Field(ge=1, le=1)] = 1
    parallelism: Annotated[int, Field(ge=0, le=1)] = 1
    backoff_limit: NotNegative = 6
    template: PodTemplate


class Job(KubeObject):
    """A Pod that is run until it succeeds once."""

    spec: JobSpec


class ConfigMap(KubeObject):
    """Text by key."""

    data: StringMap = Field(default_factory=dict)
    binary_data: StringMap = Field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Its keys."""
        return (*self.data, *self.binary_data)


class Secret(KubeObject):
    """Base64 text by key, and plain text that takes precedence."""

    data: StringMap = Field(default_factory=dict, repr=False)
    string_data: StringMap = Field(default_factory=dict, repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Its keys."""
        return (*self.data, *self.string_data)


Workload = Deployment | StatefulSet | Job | Pod
WORKLOADS: dict[str, tuple[str, type[Workload]]] = {
    "Deployment": ("apps/v1", Deployment),
    "StatefulSet": ("apps/v1", StatefulSet),
    "Job": ("batch/v1", Job),
    "Pod": ("v1", Pod),
}


def pod_spec(workload: Workload) -> tuple[PodSpec, str]:
    """The spec of a workload's Pods, and the path at which it stands."""
    match workload:
        case Pod():
            return workload.spec, "spec"
        case Deployment() | StatefulSet() | Job():
            return workload.spec.template.spec, "spec.template.spec"
