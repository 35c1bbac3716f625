"""The edited Pod, its bootstrap Secret, and the patch that leads from one Pod to the other.

Comes in the raw Pod with the decision to inject it. Nothing here has an effect, so all that can
fail has failed before ``controller.injector`` writes anything. The steps are those of
kubernetes-surface 3.3; edits are made on a copy of the raw JSON, so fields nobody knows survive.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

from app.errors import InjectionError
from app.inject.containers import envoy, osm_init
from app.inject.decide import Inject
from app.inject.iptables import init_script, redirection
from app.inject.patch import JsonPatch
from app.inject.pod import BOOTSTRAP_VOLUME, PodView, parse_pod
from app.inject.probes import MovedProbes, move_probes
from app.inject.secret import (
    Credentials,
    bootstrap_key,
    bootstrap_secret,
    read_bootstrap,
)
from app.mesh.membership import SCRAPE_ANNOTATIONS
from app.objects.config import MeshConfigSpec
from app.objects.meta import (
    INSTANCE_LABEL,
    NAME_LABEL,
    PRODUCT,
    PROXY_UUID_LABEL,
    VERSION_LABEL,
    ObjectKey,
    RawObject,
)
from xds.builders.bootstrap import (
    BOOTSTRAP_FILE,
    build_files,
    build_secret_files,
    renamed_bootstrap,
)
from xds.policy.bootstrap import AdsServer, BootstrapSpec
from xds.policy.identity import ProxyId
from xds.policy.proxy import TlsParameters


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectionOptions:
    """What the process settings and the platform contribute to each injected Pod."""

    mesh_name: str
    product_version: str
    ads: AdsServer
    envoy_image: str
    """Used where MeshConfig names none; may be empty."""
    init_container_image: str
    pull_policy: str = ""
    native: bool
    """True: the sidecar is a restartable init container; ``sidecar.mode`` is resolved already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSidecar:
    """What is made anew for each injection."""

    uuid: str
    credentials: Credentials
    previous: RawObject | None = None
    """The Secret that ``Inject.previous`` names; None when there is no such Secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to create and what the Pod becomes."""

    pod: RawObject
    secret: RawObject = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Injected:
    """The answer to whoever asked for the injection; its Secret exists, except on a dry run."""

    pod: RawObject
    patch: JsonPatch


def plan(
    pod: RawObject,
    decision: Inject,
    *,
    sidecar: NewSidecar,
    config: MeshConfigSpec,
    options: InjectionOptions,
) -> Plan:
    """The Pod with its sidecar, and the Secret it starts from; ``pod`` itself is not touched.

    Raises :class:`InjectionError` for an image that nobody names, a bad exclusion annotation, a
    probe whose port is unknown, and a copy of a Pod whose Secret is gone.
    """
    edited = copy.deepcopy(pod)
    proxy = ProxyId(uuid=sidecar.uuid, identity=decision.identity)
    if decision.previous is None:
        files = _add_sidecar(edited, proxy=proxy, config=config, options=options)
    else:
        files = _copied_files(edited, decision.previous, sidecar, proxy=proxy, options=options)
    key = bootstrap_key(decision.identity.namespace, sidecar.uuid)
    _set_volume(edited["spec"], key.name)
    _mark(edited, decision, sidecar.uuid)
    labels = _secret_labels(options)
    secret = bootstrap_secret(key, files, credentials=sidecar.credentials, labels=labels)
    return Plan(pod=edited, secret=secret)


def _add_sidecar(
    pod: RawObject, *, proxy: ProxyId, config: MeshConfigSpec, options: InjectionOptions
) -> dict[str, str]:
    """The start-up files of the sidecar that ``pod`` now has."""
    view = parse_pod(pod)
    moved = move_probes(pod, view)
    script = init_script(redirection(config, view.metadata.annotations, moved.direct_ports))
    init = _init_container(script, config, options)
    sidecar = _envoy_container(moved, proxy, config, options)
    _add_containers(pod["spec"], init, sidecar, native=options.native)
    return build_files(_bootstrap_spec(view, moved, proxy=proxy, config=config, options=options))


def _copied_files(
    pod: RawObject,
    key: ObjectKey,
    sidecar: NewSidecar,
    *,
    proxy: ProxyId,
    options: InjectionOptions,
) -> dict[str, str]:
    """The start-up files of the Pod that this one is a copy of, with the new sidecar's name."""
    if sidecar.previous is None:
        raise InjectionError(
            f"the Pod has the sidecar of another one, whose {key} is gone; copy a Pod that runs"
        )
    bootstrap = renamed_bootstrap(
        read_bootstrap(sidecar.previous),
        proxy=proxy,
        pod_name=parse_pod(pod).display_name,
        product_version=options.product_version,
    )
    return build_secret_files() | {BOOTSTRAP_FILE: bootstrap}


def _bootstrap_spec(
    view: PodView,
    moved: MovedProbes,
    *,
    proxy: ProxyId,
    config: MeshConfigSpec,
    options: InjectionOptions,
) -> BootstrapSpec:
    sidecar = config.sidecar
    return BootstrapSpec(
        proxy=proxy,
        pod_name=view.display_name,
        product_version=options.product_version,
        ads=options.ads,
        tls=TlsParameters(
            min_version=sidecar.tls_min_protocol_version,
            max_version=sidecar.tls_max_protocol_version,
            cipher_suites=sidecar.cipher_suites,
            ecdh_curves=sidecar.ecdh_curves,
        ),
        probes=moved.probes,
        waits_for_config=options.native,
        drain_delay=sidecar.drain_delay,
    )


def _init_container(script: str, config: MeshConfigSpec, options: InjectionOptions) -> RawObject:
    image = config.sidecar.init_container_image or options.init_container_image
    return osm_init(
        script,
        image=_named(image, "initContainerImage"),
        pull_policy=options.pull_policy,
        privileged=config.sidecar.enable_privileged_init_container,
    )


def _envoy_container(
    moved: MovedProbes, proxy: ProxyId, config: MeshConfigSpec, options: InjectionOptions
) -> RawObject:
    return envoy(
        config.sidecar,
        identity=proxy.identity,
        image=_named(config.sidecar.envoy_image or options.envoy_image, "envoyImage"),
        probe_types={probe.type for probe in moved.probes},
        native=options.native,
    )


def _named(image: str, config_field: str) -> str:
    if not image:
        raise InjectionError(f"no image is known: set spec.sidecar.{config_field} in MeshConfig")
    return image


def _add_containers(spec: RawObject, init: RawObject, sidecar: RawObject, *, native: bool) -> None:
    """The init container last of its kind; natively the sidecar after it, else last of all."""
    spec["initContainers"] = [*(spec.get("initContainers") or []), init]
    spec["initContainers" if native else "containers"].append(sidecar)


def _set_volume(spec: RawObject, secret_name: str) -> None:
    """The sidecar's volume comes from this Secret; a copied Pod has the volume already."""
    volumes = list(spec.get("volumes") or [])
    for volume in volumes:
        if volume["name"] == BOOTSTRAP_VOLUME:
            volume["secret"] = {**(volume.get("secret") or {}), "secretName": secret_name}
            break
    else:
        volumes.append({"name": BOOTSTRAP_VOLUME, "secret": {"secretName": secret_name}})
    spec["volumes"] = volumes


def _mark(pod: RawObject, decision: Inject, uuid: str) -> None:
    metadata = pod["metadata"] = pod.get("metadata") or {}
    metadata["labels"] = {**(metadata.get("labels") or {}), PROXY_UUID_LABEL: uuid}
    if decision.metrics:
        metadata["annotations"] = {**(metadata.get("annotations") or {}), **SCRAPE_ANNOTATIONS}


def _secret_labels(options: InjectionOptions) -> dict[str, str]:
    return {
        NAME_LABEL: PRODUCT,
        INSTANCE_LABEL: options.mesh_name,
        VERSION_LABEL: options.product_version,
    }
