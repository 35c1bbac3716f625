"""The node's network on a real kernel: Pods, the host, ClusterIPs; adoption and tear-down."""

from __future__ import annotations

import collections
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import node_harness
import pytest
from node_harness import Machine, Server, dial, pod_key, service_key

from app.errors import RightsError, SettingError
from app.standalone import ground, namespaces
from app.standalone.nat import ServiceForward
from app.standalone.network import Node

pytestmark = pytest.mark.root


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with node_harness.machine(tmp_path / "state") as made:
        yield made


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    made: list[Server] = []
    yield made
    for server in made:
        server.close()


def _ask(address: str, port: int, *servers: Server, inside: str | None = None) -> str:
    """What the one server that is reached says."""
    threads = [threading.Thread(target=server.serve_one, daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    with dial(address, port, inside=inside) as connection:
        return connection.recv(100).decode()


def test_pods_reach_each_other_and_the_host_reaches_pods(
    machine: Machine, servers: list[Server]
) -> None:
    web, client = machine.node.add_pod(pod_key("web")), machine.node.add_pod(pod_key("client"))
    servers.append(Server(web, 80, "web"))
    assert _ask(web.address, 80, servers[0], inside=client.namespace) == "web"
    assert _ask(web.address, 80, servers[0]) == "web"
    assert _ask(web.address, 80, servers[0], inside=machine.node.namespace) == "web"
    assert servers[0].clients == [
        client.address,
        machine.node.host_address,
        machine.node.dns_address,
    ]


def test_pods_reach_the_controller_on_the_host(machine: Machine) -> None:
    client = machine.node.add_pod(pod_key("client"))
    host = machine.node.host_address
    with (
        socket.create_server((host, 0)) as listener,
        dial(host, listener.getsockname()[1], inside=client.namespace),
    ):
        _, (address, _) = listener.accept()
    assert address == client.address


def test_pods_reach_nothing_outside(machine: Machine) -> None:
    client = machine.node.add_pod(pod_key("client"))
    with pytest.raises(OSError, match="Network is unreachable"):
        dial("192.0.2.1", 80, inside=client.namespace)


def _forward(machine: Machine, *targets: tuple[str, int]) -> ServiceForward:
    address = machine.node.service_address(service_key("web"))
    return ServiceForward(address=address, port=80, targets=targets)


def test_cluster_ip_leads_to_its_targets_and_follows_them(
    machine: Machine, servers: list[Server]
) -> None:
    node = machine.node
    pods = [node.add_pod(pod_key(name)) for name in ("a", "b", "client")]
    servers += [Server(pods[0], 8080, "a"), Server(pods[1], 8080, "b")]
    address = node.service_address(service_key("web"))
    for target, name in ((0, "a"), (1, "b")):
        node.forward([_forward(machine, (pods[target].address, 8080))])
        for inside in (pods[2].namespace, None, node.namespace):
            assert _ask(address, 80, servers[target], inside=inside) == name


def test_a_pod_reaches_itself_through_a_cluster_ip(machine: Machine, servers: list[Server]) -> None:
    pod = machine.node.add_pod(pod_key("a"))
    servers.append(Server(pod, 8080, "a"))
    machine.node.forward([_forward(machine, (pod.address, 8080))])
    address = machine.node.service_address(service_key("web"))
    assert _ask(address, 80, servers[0], inside=pod.namespace) == "a"
    assert servers[0].clients == [machine.node.dns_address]


def test_a_cluster_ip_balances_evenly(machine: Machine, servers: list[Server]) -> None:
    node = machine.node
    pods = [node.add_pod(pod_key(name)) for name in ("a", "b", "c")]
    servers += [Server(pod, 8080, name) for pod, name in zip(pods, "abc", strict=True)]
    node.forward([_forward(machine, *((pod.address, 8080) for pod in pods))])
    for server in servers:
        threading.Thread(target=_until_closed, args=(server,), daemon=True).start()
    answers: collections.Counter[str] = collections.Counter()
    address = node.service_address(service_key("web"))
    for _ in range(150):
        with dial(address, 80) as connection:
            answers[connection.recv(10).decode()] += 1
    assert set(answers) == {"a", "b", "c"}
    assert min(answers.values()) > 25  # 50 expected, standard deviation 5.8


def _until_closed(server: Server) -> None:
    try:
        while True:
            server.serve_one()
    except OSError:
        return


def test_a_cluster_ip_without_targets_refuses_at_once(machine: Machine) -> None:
    client = machine.node.add_pod(pod_key("client"))
    forward = _forward(machine)
    machine.node.forward([forward])
    with pytest.raises(ConnectionRefusedError):
        dial(forward.address, 80, inside=client.namespace)
    with pytest.raises(ConnectionRefusedError):
        dial(forward.address, 80)


def test_a_removed_pod_is_gone_and_its_network_can_be_made_anew(machine: Machine) -> None:
    first = machine.node.add_pod(pod_key("web"))
    assert machine.node.add_pod(pod_key("web")) == first
    machine.node.remove_pod(pod_key("web"))
    machine.node.remove_pod(pod_key("web"))
    assert (machine.node.pods(), namespaces.exists(first.namespace)) == ({}, False)
    again = machine.node.add_pod(pod_key("web"))
    assert (again.namespace, again.address) == (first.namespace, str(machine.node.subnets.pods[17]))


def test_a_node_is_adopted_with_all_it_has(machine: Machine, servers: list[Server]) -> None:
    pods = {pod_key(name): machine.node.add_pod(pod_key(name)) for name in ("a", "b")}
    service = machine.node.service_address(service_key("web"))
    servers.append(Server(pods[pod_key("a")], 80, "a"))
    open_connection = dial(pods[pod_key("a")].address, 80)
    node = Node.up(machine.mesh, machine.state_dir)
    assert (node.adopted, node.subnets, node.pods()) == (True, machine.node.subnets, pods)
    assert node.service_address(service_key("web")) == service
    assert node.add_pod(pod_key("a")) == pods[pod_key("a")]
    servers[0].serve_one()
    with open_connection:
        assert open_connection.recv(10) == b"a"


def test_adoption_mends_what_a_crash_left_half_made(
    machine: Machine, servers: list[Server]
) -> None:
    web = machine.node.add_pod(pod_key("web"))
    stray = f"{ground.prefix(machine.mesh)}shop.stray"
    namespaces.create(stray)
    namespaces.inside(web.namespace, lambda: namespaces.run("ip", "route", "flush", "all"))
    node = Node.up(machine.mesh, machine.state_dir)
    assert (node.adopted, namespaces.exists(stray)) == (True, False)
    assert node.add_pod(pod_key("web")) == web
    servers.append(Server(web, 80, "web"))
    assert _ask(web.address, 80, servers[0]) == "web"


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(("ip", "link", "del", "{link}"), id="link-gone"),
        pytest.param(("ip", "route", "del", "{pods}"), id="route-gone"),
        pytest.param(("ip", "netns", "del", "{node}"), id="namespace-gone"),
        pytest.param(("rm", "{record}"), id="record-gone"),
        pytest.param(("sed", "-i", "s/complete/other/", "{record}"), id="never-completed"),
        pytest.param(("sed", "-i", 's/"boot": "./"boot": "x/', "{record}"), id="another-boot"),
    ],
)
def test_a_damaged_node_is_made_anew(
    machine: Machine, servers: list[Server], damage: tuple[str, ...]
) -> None:
    machine.node.add_pod(pod_key("old"))
    words = {
        "link": ground.link_name(machine.mesh),
        "pods": str(machine.node.subnets.pods),
        "node": machine.node.namespace,
        "record": str(machine.state_dir / "node.json"),
    }
    subprocess.run([word.format_map(words) if "{" in word else word for word in damage], check=True)
    node = Node.up(machine.mesh, machine.state_dir)
    assert (node.adopted, node.pods()) == (False, {})
    assert namespaces.names(ground.prefix(machine.mesh)) == (node.namespace,)
    web = node.add_pod(pod_key("web"))
    servers.append(Server(web, 80, "web"))
    assert _ask(web.address, 80, servers[0]) == "web"


def test_two_meshes_take_ranges_of_their_own(machine: Machine, tmp_path: Path) -> None:
    with node_harness.machine(tmp_path / "other") as other:
        mine, theirs = machine.node.subnets, other.node.subnets
        ranges = [mine.pods, mine.services, mine.link, theirs.pods, theirs.services, theirs.link]
        assert [(a, b) for a in ranges for b in ranges if a is not b and a.overlaps(b)] == []


def test_a_mesh_that_is_up_elsewhere_is_left_alone(machine: Machine, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="is already up with the state directory"):
        Node.up(machine.mesh, tmp_path / "other")
    assert namespaces.exists(machine.node.namespace)


def _programs(directory: Path, restore: str) -> str:
    """A PATH on which ``iptables-restore`` is that program, or one that always fails."""
    directory.mkdir()
    for program in ("ip", "iptables", "iptables-nft-restore", "iptables-legacy-restore"):
        (directory / program).symlink_to(str(shutil.which(program)))
    if restore == "broken":
        (directory / "iptables-restore").write_text("#!/bin/sh\necho no such table >&2; exit 3\n")
        (directory / "iptables-restore").chmod(0o755)
    else:
        (directory / "iptables-restore").symlink_to(str(shutil.which(restore)))
    return str(directory)


@pytest.mark.parametrize(
    "restore",
    [
        pytest.param("iptables-nft-restore", id="nft"),
        pytest.param("iptables-legacy-restore", id="legacy"),
        pytest.param("broken", id="default-back-end-without-kernel-support"),
    ],
)
def test_rules_work_with_either_back_end(
    machine: Machine,
    servers: list[Server],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    restore: str,
) -> None:
    monkeypatch.setenv("PATH", _programs(tmp_path / "bin", restore))
    with node_harness.machine(tmp_path / "other") as other:
        pod = other.node.add_pod(pod_key("a"))
        servers.append(Server(pod, 8080, "a"))
        other.node.forward([_forward(other, (pod.address, 8080))])
        address = other.node.service_address(service_key("web"))
        assert _ask(address, 80, servers[0]) == "a"


def test_a_refusal_of_the_kernel_is_told_in_its_words(machine: Machine) -> None:
    bad = ServiceForward(address="not-an-address", port=80, targets=(("10.42.0.16", 80),))
    with pytest.raises(RightsError, match=r"the ClusterIP rules were refused: .*not-an-address"):
        machine.node.forward([bad])
    machine.node.forward([])
