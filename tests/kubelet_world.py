"""A kubelet over fakes whose YAML is one file, and short makers of that YAML."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from fakes.machine import FakeInjector, FakeNetwork, FakeProcesses

from app.compute.declared import RawKey
from app.compute.local import LocalObjects
from app.objects.meta import RawObject
from app.standalone.admission import Admission
from app.standalone.kubelet import Kubelet
from app.standalone.launch import User
from app.standalone.machine import Machine
from app.standalone.podlist import PodSummary, summary

ME = User(uid=os.getuid(), gid=os.getgid())


class World:
    """A kubelet over fakes; its YAML is one file."""

    def __init__(self, folder: Path, processes: FakeProcesses, network: FakeNetwork) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.file = folder / "yaml" / "all.yaml"
        self.file.parent.mkdir(exist_ok=True)
        self.processes, self.network, self.injector = processes, network, FakeInjector()
        self.objects = LocalObjects(
            [self.file.parent],
            admit=Admission(lambda _: "10.43.0.1", mesh_config=("osm-system", "osm-mesh-config")),
            kept_in=self.state / "objects",
        )
        self.kubelet: Kubelet | None = None

    def write(self, *objects: RawObject) -> None:
        self.file.write_text(yaml.safe_dump_all(objects))

    def start(self, *objects: RawObject, adopt: bool = False) -> Kubelet:
        if objects:
            self.write(*objects)
        self.objects.load()
        machine = Machine(
            objects=self.objects,
            network=self.network,
            processes=self.processes,
            pod_folder=lambda pod: self.state / "pods" / pod.name,
            default_user=ME,
            node_name="laptop",
            dns_suffix="cluster.local",
            control_plane=("osm-controller", "osm-system", "10.1.0.1"),
        )
        kubelet = Kubelet(machine, state_dir=self.state, propagate=self._propagate)
        self.kubelet = kubelet
        self.processes.on_exit = kubelet.take_exit
        kubelet.adopt(self.processes.live() if adopt else ())
        self.objects.start(lambda _: None, ())
        kubelet.start(self.injector)
        return kubelet

    def stop(self, *, end: bool = True) -> None:
        if self.kubelet is not None:
            self.kubelet.stop()
            if end:
                self.kubelet.end_all(10)
            self.kubelet.let_go()
        self.objects.stop()

    def pods(self) -> list[PodSummary]:
        return [summary(stored.raw) for stored in self.objects.objects("Pod")]

    def wait(self, fits: Callable[[list[PodSummary]], bool]) -> list[PodSummary]:
        self.processes.wait(lambda: fits(self.pods()))
        return self.pods()

    def wait_ready(self, count: int = 1) -> list[PodSummary]:
        return self.wait(lambda pods: len(pods) == count and all(p.is_ready for p in pods))

    def ready_addresses(self, service: str) -> int:
        stored = self.objects.find(RawKey(kind="Endpoints", namespace="shop", name=service))
        subsets = stored.raw["subsets"] if stored else []
        return sum(len(subset.get("addresses", ())) for subset in subsets)

    def _propagate(self) -> None:
        self.processes.tell(f"withdrawn, {self.ready_addresses('web')} left")


def named(kind: str, api: str, name: str, **fields: Any) -> RawObject:
    return {
        "apiVersion": api,
        "kind": kind,
        "metadata": {"name": name, "namespace": "shop"},
        **fields,
    }


def workload(
    kind: str = "Deployment", *, replicas: int = 1, mark: str = "a", **pod: Any
) -> RawObject:
    template = {
        "metadata": {"labels": {"app": "web"}, "annotations": {"mark": mark}},
        "spec": {"containers": [{"name": "app", "command": ["run"]}], **pod},
    }
    if kind == "Job":
        return named("Job", "batch/v1", "web", spec={"template": template, "backoffLimit": 1})
    selector = {"matchLabels": {"app": "web"}}
    spec = {"replicas": replicas, "selector": selector, "template": template}
    return named(kind, "apps/v1", "web", spec=spec)


SERVICE = named("Service", "v1", "web", spec={"selector": {"app": "web"}, "ports": [{"port": 80}]})
