"""The fields of a raw Pod that injection reads, and the reasons why a Pod cannot have a sidecar.

In comes the JSON of a Pod that nobody has validated yet, out goes a typed view with the same
positions, so that an edit of the raw copy by index is safe.
Source: kubernetes-surface 2.3, 3.2, 3.3 and 10.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, ValidationError

from app.errors import InjectionError
from app.inject.secret import sidecar_uuid
from app.objects.meta import (
    INJECTION_ANNOTATION,
    PROXY_UUID_LABEL,
    KubeModel,
    NullAsTuple,
    RawObject,
    StringMap,
    field_path,
)
from xds.policy.identity import is_uuid

ENVOY_UID = 1500
ENVOY_CONTAINER = "envoy"
INIT_CONTAINER = "osm-init"
BOOTSTRAP_VOLUME = "envoy-bootstrap-config-volume"

_MESH_PORTS = frozenset([*range(15000, 15011), *range(15901, 15905)])
_RESERVED_NAMES = frozenset([ENVOY_CONTAINER, INIT_CONTAINER])
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_NAME_LENGTH = 63
_ACCOUNT_LENGTH = 253


class _Security(KubeModel):
    run_as_user: int | None = None


class ContainerPort(KubeModel):
    """One declared port of a container."""

    name: str | None = None
    container_port: int
    protocol: str | None = None


class HttpGet(KubeModel):
    """An HTTP probe."""

    path: str | None = None
    port: int | str
    host: str | None = None
    scheme: str | None = None


class TcpSocket(KubeModel):
    """A TCP probe."""

    port: int | str
    host: str | None = None


class Grpc(KubeModel):
    """A gRPC probe; its port cannot be a name."""

    port: int


class ContainerProbe(KubeModel):
    """One probe; at most one of the three actions is set, ``exec`` is not read."""

    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    grpc: Grpc | None = None
    timeout_seconds: int | None = None
    period_seconds: int | None = None


class Container(KubeModel):
    """A container or init container."""

    name: str
    ports: Annotated[tuple[ContainerPort, ...], NullAsTuple] = ()
    security_context: _Security | None = None
    liveness_probe: ContainerProbe | None = None
    readiness_probe: ContainerProbe | None = None
    startup_probe: ContainerProbe | None = None


class _SecretSource(KubeModel):
    secret_name: str = ""


class _Volume(KubeModel):
    name: str
    secret: _SecretSource | None = None


class _Os(KubeModel):
    name: str = ""


class _Meta(KubeModel):
    name: str | None = None
    generate_name: str | None = None
    labels: StringMap = Field(default_factory=dict)
    annotations: StringMap = Field(default_factory=dict)


class _Spec(KubeModel):
    host_network: bool | None = None
    node_selector: StringMap = Field(default_factory=dict)
    os: _Os | None = None
    service_account_name: str | None = None
    security_context: _Security | None = None
    containers: Annotated[tuple[Container, ...], NullAsTuple] = ()
    init_containers: Annotated[tuple[Container, ...], NullAsTuple] = ()
    volumes: Annotated[tuple[_Volume, ...], NullAsTuple] = ()


class PodView(KubeModel):
    """What injection reads of a Pod; lists have the same order as in the raw object."""

    metadata: _Meta = Field(default_factory=_Meta)
    spec: _Spec

    @property
    def display_name(self) -> str:
        """Its name, or the prefix of the name it will get."""
        return self.metadata.name or self.metadata.generate_name or ""

    @property
    def service_account(self) -> str:
        """The account it runs as."""
        return self.spec.service_account_name or "default"

    @property
    def is_windows(self) -> bool:
        """True when it asks for a Windows node."""
        selected = {key.lower(): value.lower() for key, value in self.spec.node_selector.items()}
        named = self.spec.os.name.lower() if self.spec.os else ""
        return "windows" in (selected.get("kubernetes.io/os"), named)

    @property
    def copied_uuid(self) -> str | None:
        """UUID of the sidecar that this copy of an injected Pod came with; None for any other Pod.

        ``kubectl debug --copy-to`` makes such copies; it keeps labels only when it is told to, so
        the volume's Secret names the sidecar too.
        """
        names = {one.name for one in (*self.spec.containers, *self.spec.init_containers)}
        for volume in self.spec.volumes:
            if volume.name == BOOTSTRAP_VOLUME and ENVOY_CONTAINER in names:
                named = sidecar_uuid(volume.secret.secret_name) if volume.secret else None
                return self.metadata.labels.get(PROXY_UUID_LABEL, named)
        return None


def parse_pod(pod: RawObject) -> PodView:
    """The view of a raw Pod; raise :class:`InjectionError` naming the first ill-formed field."""
    try:
        return PodView.model_validate(pod)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InjectionError(f"Pod field {field_path(first['loc'])}: {first['msg']}") from error


def check_names(view: PodView) -> None:
    """Raise :class:`InjectionError` for a name that would not be one in a certificate or a path.

    Nobody has validated them yet, and they decide whose certificate and which Secret is meant.
    """
    account = view.service_account
    labels = account.split(".")
    if len(account) > _ACCOUNT_LENGTH or not all(map(_is_label, labels)):
        shown = repr(account[:_NAME_LENGTH])
        raise InjectionError(f"spec.serviceAccountName: {shown} is not a name of dots and labels")
    if is_uuid(labels[0]):
        # Its workload certificate could name the sidecar of another account (data-plane 10.1).
        raise InjectionError(f"spec.serviceAccountName: {account} begins with a UUID; rename it")
    uuid = view.copied_uuid
    if uuid is not None and not _is_label(uuid):
        raise InjectionError(f"metadata.labels: {PROXY_UUID_LABEL} is not the UUID of a sidecar")


def check_pod(view: PodView) -> None:
    """Raise :class:`InjectionError`, naming the field, when the Pod cannot live beside a sidecar.

    An init container may run as the sidecar's user: that exempts its traffic on purpose.
    """
    for problem in _problems(view):
        raise InjectionError(problem)


def _problems(view: PodView) -> Iterator[str]:
    if view.is_windows:
        yield (
            "spec.nodeSelector asks for a Windows node, which has no sidecar; annotate the Pod "
            f'with {INJECTION_ANNOTATION}: "disabled"'
        )
    first: dict[str, str] = {}
    for where, container in _all_containers(view):
        yield from _name_problems(where, container)
        if first.setdefault(container.name, where) != where:
            yield f"{where}.name: {container.name} is the name of {first[container.name]} too"
    for index, volume in enumerate(view.spec.volumes):
        if volume.name == BOOTSTRAP_VOLUME:
            yield f"spec.volumes[{index}].name: {volume.name} is reserved for the sidecar"
    yield from _user_problems(view)
    yield from _port_problems(view)


def _all_containers(view: PodView) -> Iterator[tuple[str, Container]]:
    for index, container in enumerate(view.spec.init_containers):
        yield f"spec.initContainers[{index}]", container
    for index, container in enumerate(view.spec.containers):
        yield f"spec.containers[{index}]", container


def _name_problems(where: str, container: Container) -> Iterator[str]:
    name = container.name
    if name in _RESERVED_NAMES:
        yield f"{where}.name: {name} is reserved for the sidecar"
    # The name becomes part of a path and of a cluster's name: nothing but a DNS label may pass.
    if not _is_label(name):
        yield f"{where}.name: {name[:_NAME_LENGTH]!r} is not a DNS label (a-z, 0-9 and -)"


def _is_label(name: str) -> bool:
    return 0 < len(name) <= _NAME_LENGTH and set(name) <= _NAME_CHARACTERS


def _user_problems(view: PodView) -> Iterator[str]:
    pod_user = view.spec.security_context.run_as_user if view.spec.security_context else None
    for index, container in enumerate(view.spec.containers):
        own = container.security_context.run_as_user if container.security_context else None
        place = "spec" if own is None else f"spec.containers[{index}]"
        if (pod_user if own is None else own) == ENVOY_UID:
            yield (
                f"{place}.securityContext.runAsUser: {ENVOY_UID} is the sidecar's user, whose "
                f"traffic bypasses the mesh; run container {container.name} as another user"
            )


def _port_problems(view: PodView) -> Iterator[str]:
    seen: dict[tuple[int, str], tuple[str, int, str | None]] = {}
    for index, container in enumerate(view.spec.containers):
        for position, port in enumerate(container.ports):
            field = f"spec.containers[{index}].ports[{position}].containerPort"
            if port.container_port in _MESH_PORTS:
                yield f"{field}: {port.container_port} belongs to the sidecar; use another port"
            key = (port.container_port, (port.protocol or "TCP").upper())
            first = seen.setdefault(key, (field, index, port.name))
            if first[0] != field and not _is_alias(first, index, port.name):
                yield f"{field}: {port.container_port} is asked for twice, first by {first[0]}"


def _is_alias(first: tuple[str, int, str | None], index: int, name: str | None) -> bool:
    """True when one container gives its port a second name, as Kubernetes allows."""
    return first[1] == index and bool(name) and bool(first[2]) and name != first[2]
