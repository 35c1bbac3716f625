"""``osm inject``: Pods in files ask for a sidecar, or are told what would become of them.

A sidecar needs a certificate that only the control plane issues, on admission. So the offline form
is the annotation that asks for it: what is printed may be applied, and the webhook does the rest.
``--explain`` shows what that is. Specification: kubernetes-surface 3.2 and 10.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.cluster import has_cluster, open_cluster, options_of
from app.cli.output import console, emit_json, errors, warn
from app.cli.templates import Template, annotated, find_template
from app.cli.yamltext import yaml_documents
from app.compute.files import MAX_FILE_BYTES, Document, read_documents
from app.errors import InjectionError, ObjectError, SettingError
from app.inject.decide import Skip, decide
from app.mesh.snapshot import MeshNamespace
from app.objects import scheme
from app.objects.config import MeshConfig, MeshConfigSpec
from app.objects.meta import MONITORED_BY_LABEL, ObjectRef, RawObject, Rejected

if TYPE_CHECKING:
    from app.cli.explain import Scope
    from app.compute.kube_client import KubeClient

_NATIVE_SINCE = (1, 29)


class FileFormat(StrEnum):
    """How objects are printed."""

    YAML = "yaml"
    JSON = "json"


Files = Annotated[
    list[str],
    typer.Option(
        "--filename", "-f", help="file of Kubernetes YAML or JSON; - reads standard input"
    ),
]
Explain = Annotated[
    bool,
    typer.Option("--explain", help="change nothing; say what the webhook would do to each Pod"),
]
Format = Annotated[
    FileFormat | None,
    typer.Option("--output", "-o", help="yaml or json; without it yaml, and with --explain text"),
]
DefaultNamespace = Annotated[
    str,
    typer.Option("--namespace", "-n", help="namespace of objects that name none"),
]
MeshName = Annotated[str, typer.Option("--mesh-name", help="name of the mesh")]
Labels = Annotated[
    list[str] | None,
    typer.Option(
        "--namespace-labels",
        metavar="KEY=VALUE",
        help="with --explain: labels of the namespaces; the cluster is not asked for them",
    ),
]
Annotations = Annotated[
    list[str] | None,
    typer.Option(
        "--namespace-annotations",
        metavar="KEY=VALUE",
        help="with --explain: annotations of the namespaces; the cluster is not asked for them",
    ),
]


def inject(
    context: typer.Context,
    files: Files,
    explain: Explain = False,
    output: Format = None,
    namespace: DefaultNamespace = "default",
    mesh_name: MeshName = "osm",
    namespace_labels: Labels = None,
    namespace_annotations: Annotations = None,
) -> None:
    """Have the Pods of a file ask for a sidecar: print it annotated, ready for kubectl apply.

    The webhook injects them where their namespace is in the mesh (osm namespace add). --explain
    prints, for each Pod and template, whether that gives a sidecar, why, and what is added to it.
    """
    documents = read_files(files)
    osm_namespace = options_of(context).osm_namespace
    if not explain:
        made, told = ask_for_sidecars(documents, namespace, osm_namespace=osm_namespace)
        _print_objects(made, output or FileFormat.YAML)
        for line in told:
            errors.print(line, highlight=False, soft_wrap=True)
        return
    given = given_namespace(namespace_labels, namespace_annotations)
    shown = _Shown(context, documents, given=given)
    refused = _explain(documents, namespace, shown=shown, mesh_name=mesh_name, output=output)
    if refused:
        raise typer.Exit(1)


def read_files(names: Iterable[str]) -> list[Document]:
    """The documents of all files, in order; raise ``ObjectError`` with ``file:line``."""
    found: list[Document] = []
    for name in names:
        content = read_documents(_text_of(name), "standard input" if name == "-" else name)
        for rejected in content.rejected:
            raise ObjectError(f"{rejected.where}: {rejected.reason}")
        found += content.documents
    if not found:
        raise ObjectError(f"there is no object in {', '.join(names)}")
    return found


def ask_for_sidecars(
    documents: Iterable[Document], default_namespace: str, *, osm_namespace: str
) -> tuple[list[RawObject], list[str]]:
    """The objects with their Pods annotated, and lines for people on what was done.

    Those that never get a sidecar, or whose annotation refuses one, stay as they are. Raise
    ``InjectionError`` for Pods that would be refused.
    """
    made: list[RawObject] = []
    told: list[str] = []
    waiting: set[str] = set()
    for document in documents:
        template = find_template(document.raw, document.where, default_namespace)
        if template is None:
            made.append(document.raw)
            continue
        refusal = _declined(template, osm_namespace)
        made.append(document.raw if refusal else annotated(document.raw))
        told.append(f"{template}: {f'left alone: {refusal}' if refusal else 'annotated'}")
        if not refusal:
            waiting.add(template.namespace)
    if waiting:
        names = " ".join(sorted(waiting))
        told.append(
            f"sidecars come on admission, in namespaces of the mesh: osm namespace add {names}"
        )
    return made, told


def given_namespace(
    labels: Iterable[str] | None, annotations: Iterable[str] | None
) -> RawObject | None:
    """The Namespace that options describe; None where they do not."""
    if labels is None and annotations is None:
        return None
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "labels": _pairs("--namespace-labels", labels),
            "annotations": _pairs("--namespace-annotations", annotations),
        },
    }


def _declined(template: Template, osm_namespace: str) -> str:
    """Why the Pods get no sidecar even in a namespace of the mesh; empty when they do."""
    assumed = MeshNamespace(
        name=template.namespace, ignored_by="", injection="enabled", metrics=None
    )
    try:
        decision = decide(
            template.pod, assumed, namespace_name=template.namespace, osm_namespace=osm_namespace
        )
    except InjectionError as error:
        raise type(error)(f"{template.where}: {template}: {error}") from error
    return decision.reason if isinstance(decision, Skip) else ""


class _Shown:
    """Namespaces and MeshConfig as options, the files, or the cluster show them, in this order."""

    def __init__(
        self, context: typer.Context, documents: Iterable[Document], *, given: RawObject | None
    ) -> None:
        self._given = given
        self._objects = {_key(d.raw): d.raw for d in documents}
        self.osm_namespace = options_of(context).osm_namespace
        # Whoever describes the namespace means to do without a cluster.
        reachable = given is None and has_cluster(options_of(context))
        self._open: Callable[[], KubeClient] | None = (
            (lambda: open_cluster(context)) if reachable else None
        )
        self._cluster: KubeClient | None = None

    def namespace(self, name: str) -> RawObject | None:
        """The Namespace; None when the cluster has none, ``SettingError`` when nothing shows it."""
        if self._given is not None:
            return {**self._given, "metadata": {**self._given["metadata"], "name": name}}
        written = self._objects.get(("Namespace", "", name))
        if written is not None:
            return written
        cluster = self.cluster()
        if cluster is None:
            raise SettingError(
                f"nothing shows namespace {name}: add a Namespace to the file, describe it with "
                f"--namespace-labels {MONITORED_BY_LABEL}=MESH, or give --kubeconfig"
            )
        return cluster.read(ObjectRef(api_version="v1", kind="Namespace", name=name))

    def config(self) -> MeshConfigSpec:
        """The MeshConfig; the defaults where nothing shows one."""
        for (kind, _, _), raw in self._objects.items():
            if kind == "MeshConfig":
                return _config_of(raw)
        cluster = self.cluster()
        if cluster is None:
            return MeshConfigSpec()
        raw_config = cluster.read(
            ObjectRef(
                api_version="config.openservicemesh.io/v1alpha2",
                kind="MeshConfig",
                namespace=self.osm_namespace,
                name="osm-mesh-config",
            )
        )
        return MeshConfigSpec() if raw_config is None else _config_of(raw_config)

    def cluster(self) -> KubeClient | None:
        """The cluster, where one may be asked."""
        if self._cluster is None and self._open is not None:
            self._cluster = self._open()
        return self._cluster


def _explain(
    documents: Iterable[Document],
    default_namespace: str,
    *,
    shown: _Shown,
    mesh_name: str,
    output: FileFormat | None,
) -> bool:
    """What becomes of each Pod is printed; True when one is refused."""
    from app.cli.explain import explain_template  # noqa: PLC0415 the plan needs Envoy's messages

    templates = [find_template(d.raw, d.where, default_namespace) for d in documents]
    scope = _scope(shown, mesh_name)
    found = [
        explain_template(template, shown.namespace(template.namespace), scope)
        for template in templates
        if template is not None
    ]
    if output is FileFormat.JSON:
        emit_json([one.as_json() for one in found])
    elif output is FileFormat.YAML:
        sys.stdout.write(yaml_documents(one.as_json() for one in found))
    else:
        for one in found:
            for line in one.lines():
                console.print(line, highlight=False, soft_wrap=True)
        if not found:
            warn("no object of the file makes Pods")
    return any(one.outcome == "refuse" for one in found)


def _scope(shown: _Shown, mesh_name: str) -> Scope:
    from app.cli.explain import Scope  # noqa: PLC0415 as above
    from app.inject.plan import InjectionOptions  # noqa: PLC0415
    from app.settings import read_settings  # noqa: PLC0415
    from xds.policy.bootstrap import AdsServer  # noqa: PLC0415

    settings, config = read_settings(), shown.config()
    host = f"osm-controller.{shown.osm_namespace}.svc.{settings.dns_suffix}"
    options = InjectionOptions(
        mesh_name=mesh_name,
        product_version=version("openservicemesh"),
        ads=AdsServer(host=host, server_name=host, certificate_names=(host,)),
        envoy_image=settings.envoy_image,
        init_container_image=settings.init_container_image,
        native=_is_native(config, shown.cluster()),
    )
    return Scope(osm_namespace=shown.osm_namespace, config=config, options=options)


def _is_native(config: MeshConfigSpec, cluster: KubeClient | None) -> bool:
    """Without a cluster to ask, a release that has native sidecars is assumed."""
    if config.sidecar.mode != "auto":
        return config.sidecar.mode == "native"
    if cluster is None:
        return True
    release = cluster.version()
    return (release.major, release.minor) >= _NATIVE_SINCE


def _config_of(raw: RawObject) -> MeshConfigSpec:
    decoded = scheme.decode(raw)
    if isinstance(decoded, Rejected):
        raise ObjectError(f"{decoded.where}: {decoded.field}: {decoded.reason}")
    config = decoded[1]
    return config.spec if isinstance(config, MeshConfig) else MeshConfigSpec()


def _key(raw: RawObject) -> tuple[str, str, str]:
    metadata = raw.get("metadata") or {}
    namespace = "" if raw.get("kind") == "Namespace" else metadata.get("namespace") or ""
    return str(raw.get("kind")), namespace, str(metadata.get("name"))


def _pairs(option: str, texts: Iterable[str] | None) -> dict[str, str]:
    found = {}
    for text in (part for given in texts or () for part in given.split(",") if part):
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise SettingError(f"{option}: write KEY=VALUE, not {text!r}")
        found[key] = value
    return found


def _text_of(name: str) -> str:
    try:
        if name == "-":
            raw = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
        else:
            with Path(name).open("rb") as file:
                raw = file.read(MAX_FILE_BYTES + 1)
        text = raw.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ObjectError(f"{name} cannot be read: {error}") from error
    if len(raw) > MAX_FILE_BYTES:
        raise ObjectError(f"{name} is larger than {MAX_FILE_BYTES} bytes; split it")
    return text


def _print_objects(objects: list[RawObject], output: FileFormat) -> None:
    if output is FileFormat.YAML:
        sys.stdout.write(yaml_documents(objects))
        return
    whole: Any = {"apiVersion": "v1", "kind": "List", "items": objects}
    emit_json(objects[0] if len(objects) == 1 else whole)
