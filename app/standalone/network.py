"""The node: a network namespace that is a small cluster network, and one per Pod on its bridge.

    host ── osm-<mesh> ══ eth0 ┌─ osm-<mesh>@node ─────────┐ br0 ══ eth0 of
    osm-<mesh>@<namespace>.<pod>
             10.44.0.1   .2    │ routes, ClusterIPs, DNS   │ 10.42.0.1
             10.42.0.16/32

Bridge, forwarding and ClusterIP rules live inside the node's namespace: of the host only one link
and two routes are touched. Pods have /32 addresses, so that packets between them pass the node's
connection tracking in both directions: answers of a ClusterIP are turned back. Names tell what
belongs to a mesh, so ``tear_down`` needs no memory. Called by kubelet.py and the CLI.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from app.errors import RightsError
from app.objects.meta import ObjectKey, ObjectKind
from app.standalone import ground, namespaces
from app.standalone.addresses import AddressBook
from app.standalone.nat import ServiceForward, build_rules
from app.standalone.rights import require_rights
from app.standalone.subnets import Subnets

_RESTORE_PROGRAMS = ("iptables-restore", "iptables-nft-restore", "iptables-legacy-restore")
_POD_SYSCTLS = (
    # Containers do not run as root, and a Service may well listen on port 80.
    ("net/ipv4/ip_unprivileged_port_start", "0"),
)


_LONGEST_NAME = 200
"""Of a namespace, which is a file name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodNetwork:
    """A Pod's place in the network."""

    namespace: str
    """Name of its network namespace, as in ``ip netns``."""
    address: str


def tear_down(mesh: str, state_dir: Path) -> None:
    """Nothing of this mesh's node is left: processes, namespaces, links, routes, records.

    Works from names and state on disk alone; may be repeated; leaves ``<state>/pods`` to the
    caller.
    """
    ground.remove(mesh, state_dir)
    for path in (*_books(state_dir), _lock_file(state_dir)):
        path.unlink(missing_ok=True)
    for directory in ("root", "dns"):
        shutil.rmtree(state_dir / directory, ignore_errors=True)


class Node:
    """The machine under standalone mode. Methods may be called from any thread."""

    def __init__(self, mesh: str, state_dir: Path, subnets: Subnets, *, adopted: bool) -> None:
        """``up`` makes nodes; this only describes one that exists."""
        self.adopted = adopted
        self.subnets = subnets
        self.namespace = ground.node_namespace(mesh)
        self.host_address = subnets.host
        self.dns_address = subnets.gateway
        self._mesh = mesh
        self._lock = threading.Lock()
        pods, services = _books(state_dir)
        self._pods = AddressBook(pods, subnets.pods)
        self._services = AddressBook(services, subnets.services)
        self._rules = ""
        self._restore = ""
        self._environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "XTABLES_LOCKFILE": str(_lock_file(state_dir)),
        }

    @classmethod
    def up(cls, mesh: str, state_dir: Path) -> Node:
        """The node exists: adopted when it is whole, else made anew after removing leftovers.

        Raise ``RightsError`` when rights or programs are missing or no address range is free, and
        ``SettingError`` when the mesh is already up with another state directory.
        """
        require_rights()
        ground.refuse_other_owner(mesh, state_dir)
        subnets = ground.recognize(mesh, state_dir)
        if subnets is not None:
            node = cls(mesh, state_dir, subnets, adopted=True)
            node._drop_strays()
            return node
        tear_down(mesh, state_dir)
        node = cls(mesh, state_dir, ground.make(mesh, state_dir), adopted=False)
        node.forward(())
        return node

    def add_pod(self, pod: ObjectKey) -> PodNetwork:
        """The Pod has a network; the one it has already, if so. Takes some 20 ms."""
        name = pod_namespace(self._mesh, pod)
        with self._lock:
            known = pod.path in self._pods
            address = self._pods.take(pod.path)
        network = PodNetwork(namespace=name, address=address)
        if known and namespaces.exists(name) and _is_joined(network):
            return network
        if known:
            self._delete_port(address)
        self._join(network)
        return network

    def remove_pod(self, pod: ObjectKey) -> None:
        """The Pod's network is gone, its address free, whether or not it existed.

        Kill its processes first: a namespace lives on while one is in it.
        """
        with self._lock:
            if pod.path in self._pods:
                self._delete_port(self._pods[pod.path])
            namespaces.delete(pod_namespace(self._mesh, pod))
            self._pods.free(pod.path)

    def pods(self) -> dict[ObjectKey, PodNetwork]:
        """All Pods that have a network, sorted; once adopted, those of the process before."""
        with self._lock:
            known = self._pods.all()
        keys = {_pod_key(path): address for path, address in known.items()}
        return {
            key: PodNetwork(namespace=pod_namespace(self._mesh, key), address=keys[key])
            for key in sorted(keys)
        }

    def service_address(self, service: ObjectKey) -> str:
        """The ClusterIP of a Service: the same until released, also after a restart."""
        with self._lock:
            return self._services.take(service.path)

    def release_service_address(self, service: ObjectKey) -> None:
        """The ClusterIP is free, whether or not there was one."""
        with self._lock:
            self._services.free(service.path)

    def forward(self, services: Iterable[ServiceForward]) -> None:
        """ClusterIPs lead to exactly these targets; replaces all there were, in one step."""
        rules = build_rules(self.subnets.services, services)
        with self._lock:
            if rules != self._rules:
                namespaces.inside(self.namespace, lambda: self._apply(rules))
                self._rules = rules

    def _apply(self, rules: str) -> None:
        """The first back end that this kernel understands takes the rules, and all later ones."""
        reasons = []
        for program in (self._restore,) if self._restore else _RESTORE_PROGRAMS:
            if shutil.which(program) is None:
                continue
            done = subprocess.run(
                [program, "--wait"],
                input=rules,
                env=self._environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode == 0:
                self._restore = program
                return
            reasons.append(f"{program}: {' '.join(done.stderr.split())}")
        raise RightsError(f"the ClusterIP rules were refused: {'; '.join(reasons)}")

    def _join(self, network: PodNetwork) -> None:
        """The Pod's namespace is made anew, with a link to the bridge."""
        namespaces.delete(network.namespace)
        namespaces.create(network.namespace)
        port = _port_name(network.address)
        end = f"eth0 address {_mac(network.address)} netns {network.namespace}"
        commands = [
            f"link add {port} type veth peer name {end}",
            f"link set {port} master br0 addrgenmode none up",
        ]
        namespaces.inside(self.namespace, lambda: namespaces.batch(commands))
        namespaces.inside(network.namespace, lambda: _configure_pod(network, self.dns_address))

    def _delete_port(self, address: str) -> None:
        namespaces.inside(self.namespace, lambda: ground.delete_link(_port_name(address)))

    def _drop_strays(self) -> None:
        """Namespaces that belong to no known Pod are gone: a crash came between two steps."""
        known = {self.namespace, *(network.namespace for network in self.pods().values())}
        for name in namespaces.names(ground.prefix(self._mesh)):
            if name not in known:
                namespaces.kill_processes(name)
                namespaces.delete(name)


def pod_namespace(mesh: str, pod: ObjectKey) -> str:
    """Name of a Pod's network namespace; hashed where it would be too long for a file name."""
    name = f"{ground.prefix(mesh)}{pod.namespace}.{pod.name}"
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[:150]}.{hashlib.sha256(name.encode()).hexdigest()[:10]}"


def _books(state_dir: Path) -> tuple[Path, Path]:
    return state_dir / "pod-addresses.json", state_dir / "service-addresses.json"


def _lock_file(state_dir: Path) -> Path:
    return state_dir / "xtables.lock"


def _pod_key(path: str) -> ObjectKey:
    namespace, name = path.split("/", 1)
    return ObjectKey(kind=ObjectKind.POD, namespace=namespace, name=name)


def _port_name(address: str) -> str:
    """Name of the bridge's port; one per address, so a name is never taken twice."""
    return "p" + "".join(f"{int(part):02x}" for part in address.split("."))


def _mac(address: str) -> str:
    """One hardware address per IP address: whoever gets it next needs no new ARP answer."""
    return "02:42:" + ":".join(f"{int(part):02x}" for part in address.split("."))


def _is_joined(network: PodNetwork) -> bool:
    """The default route is the last step of a Pod's network, so it tells that all is there."""
    routes = namespaces.inside(network.namespace, lambda: namespaces.run("ip", "route"))
    return any(
        line.startswith("default via ") and f"src {network.address} " in f"{line} "
        for line in routes.splitlines()
    )


def _configure_pod(network: PodNetwork, gateway: str) -> None:
    namespaces.write_sysctls(_POD_SYSCTLS)
    namespaces.batch(
        [
            "link set lo up",
            "link set eth0 addrgenmode none up",
            f"route add {gateway}/32 dev eth0 scope link",
            f"address add {network.address}/32 dev eth0",
            f"route add default via {gateway} dev eth0 src {network.address}",
        ]
    )
