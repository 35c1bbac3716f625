"""Container processes: how they end, outlive their controller, are found again; Envoy's admin."""

from __future__ import annotations

import http.server
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import node_harness
import pytest
from node_harness import NOBODY, SECONDS, Machine, pod_key, python, shell

from app.errors import UnreachableError
from app.standalone import namespaces
from app.standalone.envoy import ADMIN_PORT, NodeEnvoyAdmin
from app.standalone.process import Exited, Processes, Running, record_path

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with node_harness.machine(tmp_path_factory.mktemp("node") / "state") as made:
        yield made


@pytest.fixture(autouse=True)
def empty(machine: Machine) -> Iterator[None]:
    """Each test finds no process, log or exit of another."""
    yield
    for log in (machine.state_dir / "pods").glob("*/*.log*"):
        log.unlink()
    for network in machine.node.pods().values():
        namespaces.kill_processes(network.namespace)
    while True:
        try:
            machine.exits.get(timeout=0.05)
        except queue.Empty:
            return


def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


def _says(process: Running, word: str) -> None:
    _until(lambda: word in process.log.read_text())


@pytest.mark.parametrize(
    ("script", "code"),
    [
        pytest.param("exit 0", 0, id="success"),
        pytest.param("exit 3", 3, id="failure"),
        pytest.param("kill -TERM $$", 143, id="signal"),
        pytest.param("kill -KILL $$", 137, id="kill"),
    ],
)
def test_the_end_of_a_process_is_told_with_its_code(
    machine: Machine, script: str, code: int
) -> None:
    process = machine.start(shell(script))
    exited = machine.exits.get(timeout=SECONDS)
    assert (exited.process, exited.code) == (process, code)
    assert exited.at >= process.started
    assert not record_path(machine.state_dir, process.pod, "app").exists()


def test_a_log_goes_on_over_restarts(machine: Machine) -> None:
    code, output = machine.run(shell("echo first; echo error >&2"))
    process = machine.start(shell("echo second > /dev/stderr; cat /dev/stdin"))
    machine.exits.get(timeout=SECONDS)
    assert (code, output) == (0, "first\nerror\n")
    assert process.log.stat().st_mode & 0o777 == 0o600
    machine.processes.bound_logs(max_bytes=3)
    assert process.log.read_text() == ""


def test_stop_lets_a_process_end_by_itself(machine: Machine) -> None:
    process = machine.start(
        shell("trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.01; done")
    )
    _says(process, "up")
    machine.processes.stop(process, grace_seconds=SECONDS)
    exited = machine.exits.get(timeout=SECONDS)
    assert (exited.process, exited.code) == (process, 7)
    assert process.log.read_text().endswith("bye\n")
    machine.processes.stop(process, grace_seconds=SECONDS)


def test_stop_kills_after_the_grace_period(machine: Machine) -> None:
    process = machine.start(shell("trap '' TERM; echo armed; while :; do sleep 0.01; done"))
    _says(process, "armed")
    machine.processes.stop(process, grace_seconds=0.1)
    exited = machine.exits.get(timeout=SECONDS)
    assert (exited.process, exited.code) == (process, 137)


def test_children_go_with_the_main_process(machine: Machine) -> None:
    process = machine.start(shell("sleep 300 & sleep 300 & echo up; wait; true"))
    _says(process, "up")
    assert len(namespaces.processes(process.namespace)) == 3
    machine.processes.kill(process, signal.SIGKILL)
    machine.exits.get(timeout=SECONDS)
    _until(lambda: namespaces.processes(process.namespace) == ())
    machine.processes.kill(process, signal.SIGKILL)


def test_a_namespace_is_emptied_of_daemons_too(machine: Machine) -> None:
    process = machine.start(shell("setsid setsid sleep 300 & echo up; exec sleep 300"))
    _says(process, "up")
    _until(lambda: len(namespaces.processes(process.namespace)) >= 2)
    machine.processes.kill_namespace(process.namespace)
    assert namespaces.processes(process.namespace) == ()
    assert machine.exits.get(timeout=SECONDS).code == 137
    machine.processes.kill_namespace("no-such-namespace")


def test_containers_of_a_pod_end_one_by_one(machine: Machine) -> None:
    started = {name: machine.start(shell("exec sleep 300", name=name)) for name in ("a", "b")}
    machine.processes.stop(started["a"], grace_seconds=SECONDS)
    assert machine.exits.get(timeout=SECONDS).process == started["a"]
    assert [namespaces.processes(started["b"].namespace)] == [(started["b"].pid,)]


PARENT = """
import json, sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from node_harness import Machine, shell
from app.standalone.network import Node
mesh, state_dir = sys.argv[1], Path(sys.argv[2])
made = Machine(mesh=mesh, state_dir=state_dir, node=Node.up(mesh, state_dir))
pids = [made.start(shell("echo up; trap 'exit 5' USR1; while :; do sleep 0.01; done"), pod=pod).pid
        for pod in ("a", "b")]
print(json.dumps(pids), flush=True)
sys.stdin.read()
"""


def _orphans(machine: Machine) -> list[int]:
    """Pids of the containers whose controller was killed."""
    for pod in ("a", "b"):
        machine.place(pod)
    paths = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, machine.mesh, str(machine.state_dir), *paths],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    assert parent.stdin is not None
    pids: list[int] = json.loads(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait(timeout=SECONDS)
    parent.stdout.close()
    parent.stdin.close()
    return pids


@pytest.fixture
def next_processes(machine: Machine) -> Iterator[tuple[Processes, queue.Queue[Exited]]]:
    exits: queue.Queue[Exited] = queue.Queue()
    processes = Processes(machine.state_dir, exits.put)
    yield processes, exits
    processes.close()


def test_processes_outlive_a_killed_controller_and_are_adopted(
    machine: Machine, next_processes: tuple[Processes, queue.Queue[Exited]]
) -> None:
    pids = _orphans(machine)
    processes, exits = next_processes
    adopted = processes.adopt()
    assert [(p.pod, p.container, p.pid) for p in adopted] == [
        (pod_key("a"), "app", pids[0]),
        (pod_key("b"), "app", pids[1]),
    ]
    _says(adopted[0], "up")
    processes.kill(adopted[0], signal.SIGUSR1)
    exited = exits.get(timeout=SECONDS)
    assert (exited.process, exited.code) == (adopted[0], None)
    processes.stop(adopted[1], grace_seconds=SECONDS)
    assert exits.get(timeout=SECONDS).process == adopted[1]
    assert list((machine.state_dir / "pods").glob("*/*.json")) == []


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"pid": 2**22}, id="no-such-pid"),
        pytest.param({"pid": os.getpid()}, id="pid-used-anew"),
        pytest.param({"ticks": 1}, id="another-start-time"),
        pytest.param({"boot": "another"}, id="another-boot"),
    ],
)
def test_a_record_of_another_process_is_dropped(
    machine: Machine,
    next_processes: tuple[Processes, queue.Queue[Exited]],
    change: dict[str, object],
) -> None:
    process = machine.start(shell("exec sleep 300"))
    record = record_path(machine.state_dir, process.pod, "app")
    record.write_text(json.dumps({**json.loads(record.read_text()), **change}))
    processes, exits = next_processes
    assert processes.adopt() == ()
    assert (record.exists(), exits.empty()) == (False, True)
    os.kill(process.pid, 0)


def test_a_dead_child_is_not_adopted(
    machine: Machine, next_processes: tuple[Processes, queue.Queue[Exited]]
) -> None:
    process = machine.start(shell("exec sleep 300"))
    record = record_path(machine.state_dir, process.pod, "app")
    kept = record.read_text()
    machine.processes.stop(process, grace_seconds=SECONDS)
    machine.exits.get(timeout=SECONDS)
    record.write_text(kept)
    (record.parent / "torn.json").write_text('{"pid": ')
    assert next_processes[0].adopt() == ()
    assert list(record.parent.glob("*.json")) == []


def test_closing_ends_no_process(machine: Machine) -> None:
    others = Processes(machine.state_dir, machine.exits.put)
    process = others.start(machine.place(), shell("exec sleep 300"))
    others.close()
    assert namespaces.processes(process.namespace) == (process.pid,)


def test_a_command_beside_a_container_sees_and_may_what_the_container_does(
    machine: Machine, tmp_path: Path
) -> None:
    program = python(
        "import time; open('/tmp/mine', 'w').write('x'); print('up', flush=True); time.sleep(300)",
        env=(("GREETING", "hello"),),
    )
    process = machine.start(program)
    _says(process, "up")
    command = (
        "sh",
        "-c",
        (
            "cat /tmp/mine; id -u; echo $GREETING $PATH;"
            " grep -E 'CapEff|NoNew' /proc/self/status; hostname; exit 4"
        ),
    )
    argv = machine.processes.attach_argv(process, command)
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert (done.returncode, done.stderr, done.stdout.splitlines()) == (
        4,
        "",
        [
            f"x{NOBODY}",
            "hello /osm/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "CapEff:\t0000000000000000",
            "NoNewPrivs:\t1",
            "web",
        ],
    )


def test_a_command_beside_a_dead_container_is_refused(machine: Machine) -> None:
    process = machine.start(shell("exec sleep 300"))
    record = record_path(machine.state_dir, process.pod, "app")
    record.write_text(json.dumps({**json.loads(record.read_text()), "ticks": 1}))
    argv = machine.processes.attach_argv(process, ("true",))
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert (done.returncode, done.stderr) == (126, "the container is not running\n")


def test_a_pod_without_processes_is_forgotten(machine: Machine) -> None:
    machine.run(shell("true"), pod="gone")
    machine.processes.forget_pod(pod_key("gone"))
    assert not (machine.state_dir / "pods" / "shop_gone").exists()
    machine.processes.forget_pod(pod_key("gone"))


class _Admin(http.server.BaseHTTPRequestHandler):
    def _answer(self) -> None:
        code = 404 if self.path == "/no" else 200
        body = f"{self.command} {self.path}".encode()
        self.send_response(code)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _answer  # noqa: N815 the library's names

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def admin(machine: Machine) -> Iterator[NodeEnvoyAdmin]:
    """The admin of a Pod ``web`` that listens as Envoy does, on the Pod's loopback only."""
    namespace = machine.place("web").namespace

    def listen() -> socket.socket:
        return socket.create_server(("127.0.0.1", ADMIN_PORT))

    server = http.server.ThreadingHTTPServer(("", 0), _Admin, bind_and_activate=False)
    server.socket.close()
    server.socket = namespaces.inside(namespace, listen)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield NodeEnvoyAdmin(
        lambda key: found.namespace if (found := machine.node.pods().get(key)) else None
    )
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("method", "path"),
    [pytest.param("GET", "/stats?usedonly", id="get"), pytest.param("POST", "/runtime", id="post")],
)
def test_the_admin_of_a_pod_answers(admin: NodeEnvoyAdmin, method: str, path: str) -> None:
    assert admin.call(pod_key("web"), method, path) == f"{method} {path}"


def test_an_admin_that_does_not_answer_is_told(machine: Machine, admin: NodeEnvoyAdmin) -> None:
    machine.place("other")
    with pytest.raises(
        UnreachableError, match=r"Envoy of Pod shop/other does not answer: .*refused"
    ):
        admin.call(pod_key("other"), "GET", "/ready")
    with pytest.raises(UnreachableError, match="there is no Pod shop/absent on this machine"):
        admin.call(pod_key("absent"), "GET", "/ready")
    with pytest.raises(UnreachableError, match="refused /no: 404"):
        admin.call(pod_key("web"), "GET", "/no")
