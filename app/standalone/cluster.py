"""A mesh on one machine, as one value: objects, node, control plane and kubelet.

``osm standalone up`` and ``osm demo`` start it. Order: network, then the Pods of an earlier process
are adopted, then the control plane lets their Envoys in, then new Pods start. So after a crash no
Envoy is drained: it finds the mesh as it was. The state directory belongs to one process at a time.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from socket import gethostname
from typing import Protocol

from app import logs
from app.compute.folders import Folders
from app.compute.local import LocalObjects
from app.controller.runtime import Runtime, SidecarPlatform
from app.metrics import Metrics
from app.objects.meta import RawObject, Rejected
from app.ports import Compute
from app.settings import Settings
from app.standalone.admission import Admission
from app.standalone.dns import DNS_POD, start_server
from app.standalone.envoy import NodeEnvoyAdmin, find_envoy
from app.standalone.kubelet import Kubelet
from app.standalone.launch import default_user
from app.standalone.machine import Machine
from app.standalone.network import Node
from app.standalone.podlist import OBJECTS_FOLDER, PodSummary, summary
from app.standalone.process import Exited, Processes, pod_dir
from app.standalone.rights import require_rights
from app.standalone.specs import WORKLOADS
from app.standalone.state import (
    StateLock,
    is_known,
    preset_mesh_config,
    remove_files,
    remove_state,
)

_END_SECONDS = 45.0
_PROPAGATE_SECONDS = 5.0
"""A proxy that died never acknowledges."""
_IN_FLIGHT_SECONDS = 0.1
"""After the last acknowledgement: requests that were sent before it are still on their way."""
_CONTROL_PLANE = "osm-controller"


class Server(Protocol):
    """The admin API's server."""

    @property
    def url(self) -> str:
        """Where it answers."""
        ...

    def start(self) -> None:
        """It answers."""
        ...

    def stop(self) -> None:
        """It does not answer any more."""
        ...


ServeApi = Callable[[Runtime, Settings], Server]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the Pods are."""

    pods: tuple[PodSummary, ...]
    missing: int
    """Pods that are wanted, but do not exist yet."""

    @property
    def settled(self) -> bool:
        """True when every wanted Pod exists and is ready or has done its work."""
        return not self.missing and all(pod.is_well for pod in self.pods)


class Standalone:
    """One mesh on this machine. ``start`` and ``stop`` are called once each, from one thread."""

    def __init__(
        self,
        settings: Settings,
        folders: Sequence[Path],
        *,
        serve_api: ServeApi | None = None,
        environment: Mapping[str, str] | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """``serve_api`` makes the server of the admin API, which is not this package's concern."""
        self._settings = settings
        self._folders = tuple(folders)
        self._serve_api = serve_api
        self._environment = os.environ if environment is None else environment
        self._metrics = metrics
        self._log = logs.logger("standalone")
        self._lock = StateLock(settings.state_dir)
        self._changed = threading.Event()
        self._is_up = False
        self._node: Node | None = None
        self._objects: LocalObjects | None = None
        self._processes: Processes | None = None
        self._kubelet: Kubelet | None = None
        self._runtime: Runtime | None = None
        self._api: Server | None = None

    # Reading

    @property
    def runtime(self) -> Runtime:
        """The control plane; after ``start``."""
        assert self._runtime is not None  # noqa: S101 the caller has started it
        return self._runtime

    @property
    def kubelet(self) -> Kubelet:
        """The kubelet; after ``start``."""
        assert self._kubelet is not None  # noqa: S101 the caller has started it
        return self._kubelet

    @property
    def api_url(self) -> str:
        """Where the admin API answers; empty without one."""
        return "" if self._api is None else self._api.url

    def pods(self) -> tuple[PodSummary, ...]:
        """All Pods, sorted by namespace and name."""
        objects = self._objects
        return () if objects is None else tuple(summary(s.raw) for s in objects.objects("Pod"))

    def rejected(self) -> tuple[Rejected, ...]:
        """What is wrong with the files now."""
        return () if self._objects is None else self._objects.rejected()

    def progress(self) -> Progress:
        """How far the Pods are, compared with what files declare."""
        pods = self.pods()
        wanted = 0 if self._objects is None else _count(self._objects)
        return Progress(pods=pods, missing=max(0, wanted - len(pods)))

    def wait_until_settled(
        self, timeout_seconds: float, *, tell: Callable[[Progress], None] = lambda _: None
    ) -> bool:
        """True once every wanted Pod is ready; ``tell`` hears of each change on the way."""
        deadline = time.monotonic() + timeout_seconds
        while not (now := self.progress()).settled:
            tell(now)
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._changed.wait(min(left, 1.0))
            self._changed.clear()
        tell(now)
        return True

    # Life

    def start(self) -> None:
        """The mesh is up and its Pods are starting.

        Raises ``RightsError``, ``SettingError`` and what ``Runtime.start`` raises; then call
        ``stop``, or ``abandon`` to leave all as it is: both are right at any point.
        """
        require_rights()
        Folders(self._folders).check()
        envoy = find_envoy(self._settings.envoy_path)
        self._lock.take(self._settings.mesh_name)
        self._node = Node.up(self._settings.mesh_name, self._settings.state_dir)
        self._objects = self._open_objects(self._node)
        self._processes = Processes(self._settings.state_dir, self._take_exit)
        running = self._processes.adopt()
        if not any(process.pod == DNS_POD for process in running):
            start_server(self._node, self._processes, self._settings.state_dir)
        self._runtime = self._new_runtime(self._node, self._objects)
        self._kubelet = Kubelet(
            self._new_machine(self._node, self._objects, self._processes, envoy),
            state_dir=self._settings.state_dir,
            propagate=self._propagate,
        )
        self._objects.subscribe(self._changed.set)
        self._kubelet.adopt(running)
        self._runtime.start()
        self._start_api()
        self._kubelet.start(self._runtime.injector)
        self._is_up = True
        self._log.info("mesh is up", adopted=self._node.adopted, api=self.api_url)

    def stop(self) -> None:
        """Pods have ended gracefully, and nothing is left of the mesh on this machine.

        After a ``start`` that was refused, what it found stays: Pods of another process, or of an
        earlier one that the next ``start`` adopts.
        """
        is_ours = self._is_up or (self._node is not None and not self._node.adopted)
        if self._kubelet is not None and is_ours:
            self._kubelet.stop()
            self._kubelet.end_all(_END_SECONDS)
        self._let_go()
        settings = self._settings
        if is_ours:
            remove_state(settings.mesh_name, settings.state_dir)
        elif self._node is None and self._lock.held and not is_known(settings.state_dir):
            remove_files(settings.state_dir)
        self._lock.release()

    def abandon(self) -> None:
        """This process lets go; Pods live on, and the next ``start`` adopts them."""
        self._let_go()
        self._lock.release()

    def _let_go(self) -> None:
        if self._kubelet is not None:
            self._kubelet.stop()
            self._kubelet.let_go()
        if self._api is not None:
            self._api.stop()
        if self._runtime is not None:
            self._runtime.stop()
        if self._objects is not None:
            self._objects.stop()
        if self._processes is not None:
            self._processes.close()
        self._kubelet = self._api = self._processes = None

    def _open_objects(self, node: Node) -> LocalObjects:
        settings = self._settings
        place = (settings.osm_namespace, settings.osm_config_name)
        objects = LocalObjects(
            self._folders,
            admit=Admission(node.service_address, mesh_config=place),
            presets=[preset_mesh_config(*place)],
            kept_in=settings.state_dir / OBJECTS_FOLDER,
        )
        objects.load()
        for name in objects.implied_namespaces():
            if name not in ("default", settings.osm_namespace):
                self._log.warning("namespace is declared nowhere: no part of the mesh", name=name)
        return objects

    def _new_runtime(self, node: Node, objects: LocalObjects) -> Runtime:
        settings = self._settings.model_copy(update={"ads_host": node.host_address})
        admin = NodeEnvoyAdmin(
            lambda pod: found.namespace if (found := node.pods().get(pod)) else None
        )
        compute = Compute(source=objects, writer=objects, envoy_admin=admin)
        platform = SidecarPlatform(ads_host=node.host_address)
        return Runtime(settings, compute, platform=platform, metrics=self._metrics)

    def _new_machine(
        self, node: Node, objects: LocalObjects, processes: Processes, envoy: Path
    ) -> Machine:
        settings = self._settings
        return Machine(
            objects=objects,
            network=node,
            processes=processes,
            pod_folder=lambda pod: pod_dir(settings.state_dir, pod),
            default_user=default_user(self._environment),
            node_name=gethostname(),
            dns_suffix=settings.dns_suffix,
            control_plane=(_CONTROL_PLANE, settings.osm_namespace, node.host_address),
            binaries=(("envoy", envoy),),
        )

    def _propagate(self) -> None:
        """No proxy sends anything new to a Pod that has left Endpoints (data-plane 7.7)."""
        self.runtime.wait_until_settled(_PROPAGATE_SECONDS)
        time.sleep(_IN_FLIGHT_SECONDS)

    def _start_api(self) -> None:
        if self._serve_api is not None:
            self._api = self._serve_api(self.runtime, self._settings)
            self._api.start()

    def _take_exit(self, exited: Exited) -> None:
        kubelet = self._kubelet
        if exited.process.pod == DNS_POD:
            # Called from the thread that must notice the new server's end as well.
            threading.Thread(target=self._restart_dns, name="dns", daemon=True).start()
        elif kubelet is not None:
            kubelet.take_exit(exited)

    def _restart_dns(self) -> None:
        node, processes = self._node, self._processes
        if node is not None and processes is not None:
            self._log.warning("name server ended, it is started again")
            start_server(node, processes, self._settings.state_dir)


def _count(objects: LocalObjects) -> int:
    return sum(_replicas(stored.raw) for stored in objects.declared(*WORKLOADS))


def _replicas(raw: RawObject) -> int:
    if raw["kind"] in ("Deployment", "StatefulSet"):
        replicas = raw["spec"].get("replicas")
        return 1 if replicas is None else int(replicas)
    return 1
