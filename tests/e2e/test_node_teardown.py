"""The machine after the node is as before it, whenever the one who made it was killed."""

from __future__ import annotations

import select
import signal
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import node_harness
import pytest
from node_harness import pod_key, service_key, shell

from app.standalone import dns, files, namespaces
from app.standalone.nat import ServiceForward
from app.standalone.network import Node, tear_down

# Alone: the whole machine is compared.
pytestmark = [pytest.mark.root, pytest.mark.serial]

COMMANDS = {
    "namespaces": ("ip", "netns"),
    "links": ("ip", "-br", "link"),
    "addresses": ("ip", "-br", "address"),
    "routes": ("ip", "route", "show", "table", "all"),
    "rules": ("iptables", "-S"),
    "nat": ("iptables", "-t", "nat", "-S"),
    "forwarding": ("cat", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv4/conf/all/rp_filter"),
    "mounts": ("cat", "/proc/self/mounts"),
    "netns directory": ("ls", "/etc/netns"),
}


def _machine(state_dir: Path) -> dict[str, object]:
    """All that a node could leave behind."""
    seen: dict[str, object] = {
        name: subprocess.run(command, capture_output=True, text=True, check=False).stdout
        for name, command in COMMANDS.items()
    }
    seen["state"] = sorted(str(path) for path in state_dir.glob("*") if path.name != "pods")
    seen["processes"] = sorted(
        words
        for entry in Path("/proc").iterdir()
        if entry.name.isdecimal() and "sandboxed-for-a-test" in (words := _command_line(entry))
    )
    return seen


def _command_line(entry: Path) -> str:
    try:
        return (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[str]:
    name = f"t{uuid.uuid4().hex[:8]}"
    yield name
    tear_down(name, tmp_path)


def _fill(mesh: str, state_dir: Path) -> None:
    """A node with all that it can have."""
    node = Node.up(mesh, state_dir)
    made = node_harness.Machine(mesh=mesh, state_dir=state_dir, node=node)
    address = node.service_address(service_key("web"))
    node.forward([ServiceForward(address=address, port=80, targets=(("10.42.0.16", 80),))])
    dns.write_zone(dns.zone_path(state_dir), {"web.shop.svc.cluster.local": [address]})
    dns.start_server(node, made.processes, state_dir)
    for name in ("a", "b", "c"):
        made.start(shell("exec sleep 300 # sandboxed-for-a-test"), pod=name)
        made.start(shell("setsid sleep 300 & exec sleep 299", name="side"), pod=name)
    made.processes.close()


def test_tear_down_leaves_the_machine_as_it_was(mesh: str, tmp_path: Path) -> None:
    before = _machine(tmp_path)
    _fill(mesh, tmp_path)
    assert _machine(tmp_path) != before
    tear_down(mesh, tmp_path)
    assert _machine(tmp_path) == before
    tear_down(mesh, tmp_path)
    assert _machine(tmp_path) == before


def test_the_host_is_not_touched_but_for_one_link_and_its_routes(mesh: str, tmp_path: Path) -> None:
    before = _machine(tmp_path)
    _fill(mesh, tmp_path)
    during = _machine(tmp_path)
    assert {name for name in COMMANDS if during[name] != before[name]} <= {
        "namespaces",
        "links",
        "addresses",
        "routes",
        "mounts",
    }
    added = set(str(during["links"]).splitlines()) - set(str(before["links"]).splitlines())
    assert [line.partition("@")[0] for line in added] == [f"osm-{mesh}"]


def test_tear_down_needs_no_state_on_disk(mesh: str, tmp_path: Path) -> None:
    before = _machine(tmp_path)
    _fill(mesh, tmp_path)
    for path in tmp_path.glob("*.json"):
        path.unlink()
    tear_down(mesh, tmp_path)
    # Whether it made the directory of names is all that a node without its record cannot know.
    assert {**_machine(tmp_path), "mounts": None} == {**before, "mounts": None}


BUILDER = """
import os, sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
os.write(1, b".")
from test_node_teardown import _fill
_fill(sys.argv[1], Path(sys.argv[2]))
os.write(1, b"!")
"""


def _build_until(mesh: str, state_dir: Path, stop: Callable[[], None]) -> None:
    """A process makes a node and is killed when ``stop`` returns."""
    paths = [
        str(Path(__file__).parents[2]),
        str(Path(__file__).parents[1]),
        str(Path(__file__).parent),
    ]
    builder = subprocess.Popen(
        [sys.executable, "-c", BUILDER, mesh, str(state_dir), *paths], stdout=subprocess.PIPE
    )
    assert builder.stdout is not None
    assert builder.stdout.read(1) == b"."
    stop()
    builder.send_signal(signal.SIGKILL)
    builder.wait(timeout=node_harness.SECONDS)
    builder.stdout.close()


def _wait_for(condition: Callable[[], bool]) -> Callable[[], None]:
    def wait() -> None:
        deadline = time.monotonic() + node_harness.SECONDS
        poll = select.poll()
        while not condition():
            assert time.monotonic() < deadline
            poll.poll(0.2)  # a fifth of a millisecond: crashes should fall between any two steps

    return wait


def _appeared(mesh: str, step: str, state_dir: Path) -> bool:
    record = files.read_json(state_dir / "node.json")
    return {
        "record": lambda: bool(record),
        "node": lambda: namespaces.exists(f"osm-{mesh}@node"),
        "link": lambda: Path(f"/sys/class/net/osm-{mesh}").exists(),
        "complete": lambda: "complete" in record,
        "address": (state_dir / "pod-addresses.json").exists,
        "pod": lambda: namespaces.exists(f"osm-{mesh}@shop.a"),
        "process": lambda: bool(namespaces.processes(f"osm-{mesh}@shop.a")),
        "second-pod": lambda: namespaces.exists(f"osm-{mesh}@shop.b"),
    }[step]()


@pytest.mark.parametrize(
    "step",
    [
        pytest.param("record", id="record-written"),
        pytest.param("node", id="namespace-made"),
        pytest.param("link", id="link-made"),
        pytest.param("complete", id="node-complete"),
        pytest.param("address", id="address-given"),
        pytest.param("pod", id="pod-begun"),
        pytest.param("process", id="process-begun"),
        pytest.param("second-pod", id="second-pod-begun"),
    ],
)
def test_a_node_killed_half_way_can_be_torn_down_and_made_anew(
    mesh: str, tmp_path: Path, step: str
) -> None:
    before = _machine(tmp_path)
    _build_until(mesh, tmp_path, _wait_for(lambda: _appeared(mesh, step, tmp_path)))
    tear_down(mesh, tmp_path)
    assert _machine(tmp_path) == before
    _build_until(mesh, tmp_path, _wait_for(lambda: _appeared(mesh, step, tmp_path)))
    node = Node.up(mesh, tmp_path)
    again = node.add_pod(pod_key("a"))
    assert namespaces.exists(again.namespace)
    tear_down(mesh, tmp_path)
    assert _machine(tmp_path) == before


def test_a_pod_gets_its_network_in_50_ms(mesh: str, tmp_path: Path) -> None:
    node = Node.up(mesh, tmp_path)
    times = []
    for index in range(11):
        start = time.perf_counter()
        node.add_pod(pod_key(f"p{index}"))
        times.append(time.perf_counter() - start)
    assert statistics.median(times) < 0.05
