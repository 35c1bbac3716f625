"""What a container sees and may do: rights, files, names; and that the host sees nothing of it."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import node_harness
import pytest
from node_harness import NOBODY, Machine, python, shell

from app.errors import StartError
from app.standalone import dns
from app.standalone.envoy import find_envoy
from app.standalone.process import Mount, Program
from app.standalone.volumes import publish_files

pytestmark = pytest.mark.root

ENVOY_UID = 1500
NEW_PLACES = ("/etc/osm-test", "/config-osm-test", "/usr/osm-test")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with node_harness.machine(tmp_path_factory.mktemp("node") / "state") as made:
        yield made


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory below one that only root may enter, as a checkout in root's home is."""
    directory = tmp_path / "private" / "project"
    directory.mkdir(parents=True)
    directory.chmod(0o755)
    directory.parent.chmod(0o700)
    (directory.parent / "secret").write_text("not yours")
    (directory / "app.py").write_text("import os; print(sorted(os.listdir('..')), os.getuid())")
    return directory


def _volume(tmp_path: Path, **files: str) -> Path:
    directory = tmp_path / "volume"
    content = {name: text.encode() for name, text in files.items()}
    publish_files(directory, content, uid=0, gid=0)
    return directory


STATUS = (
    "lines = open('/proc/self/status').read().splitlines()\n"
    "wanted = 'Uid Gid Groups CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs'.split()\n"
    "import json\n"
    "fields = dict(line.split(':', 1) for line in lines)\n"
    "print(json.dumps({name: fields[name].split() for name in wanted}))\n"
)


@pytest.mark.parametrize(
    ("uid", "capabilities", "mask", "bound"),
    [
        pytest.param(NOBODY, (), 0, 0, id="nobody"),
        pytest.param(ENVOY_UID, (), 0, 0, id="envoy"),
        pytest.param(0, (), 0, 0, id="root-asked-for-nothing"),
        pytest.param(0, ("NET_ADMIN", "NET_RAW"), 0x3000, 0x3000, id="osm-init"),
    ],
)
def test_only_the_rights_asked_for_are_left(
    machine: Machine, uid: int, capabilities: tuple[str, ...], mask: int, bound: int
) -> None:
    code, output = machine.run(python(STATUS, uid=uid, gid=uid, capabilities=capabilities))
    none, given = ["0" * 16], [f"{mask:016x}"]
    assert (code, json.loads(output)) == (
        0,
        {
            "Uid": [str(uid)] * 4,
            "Gid": [str(uid)] * 4,
            "Groups": [],
            "CapInh": none,
            "CapPrm": given,
            "CapEff": given,
            "CapBnd": [f"{bound:016x}"],
            "CapAmb": none,
            "NoNewPrivs": ["1"],
        },
    )


def test_init_sets_the_rules_of_its_pod_only(machine: Machine) -> None:
    rules = "*nat\\n-N OSM_TEST\\n-A OSM_TEST -m owner --uid-owner 1500 -j RETURN\\nCOMMIT\\n"
    script = f"printf '{rules}' | iptables-restore --noflush && iptables -t nat -S OSM_TEST"
    capabilities = ("NET_ADMIN", "NET_RAW")
    code, output = machine.run(shell(script, uid=0, gid=0, capabilities=capabilities))
    assert (code, output.splitlines()) == (
        0,
        ["-N OSM_TEST", "-A OSM_TEST -m owner --uid-owner 1500 -j RETURN"],
    )
    code, output = machine.run(shell(script))
    assert code != 0, output


@pytest.mark.parametrize("target", NEW_PLACES)
def test_volumes_are_seen_at_places_the_host_does_not_have(
    machine: Machine, tmp_path: Path, target: str
) -> None:
    mount = Mount(source=_volume(tmp_path, key="value"), target=target)
    script = f"cat {target}/key; touch {target}/new 2>/dev/null || echo ' read-only'; ls {target}"
    assert machine.run(shell(script, mounts=(mount,))) == (0, "value read-only\nkey\n")
    assert not Path(target).exists()


def test_what_a_container_writes_is_not_on_the_host(machine: Machine, tmp_path: Path) -> None:
    volume = tmp_path / "data"
    volume.mkdir()
    volume.chmod(0o777)
    script = (
        "for d in /tmp /run /etc /dev/shm /data; do echo mine > $d/osm-test-file; done; ls /data"
    )
    mounts = (Mount(source=volume, target="/data", read_only=False),)
    code, output = machine.run(shell(script, mounts=mounts, uid=0, gid=0))
    assert (code, output.splitlines()[-1]) == (0, "osm-test-file"), output
    assert [path.read_text() for path in volume.iterdir()] == ["mine\n"]
    places = ("/tmp", "/run", "/etc", "/dev/shm")
    assert [place for place in places if Path(place, "osm-test-file").exists()] == []


def test_root_cannot_write_to_the_host(machine: Machine) -> None:
    script = "touch /usr/osm-test /etc/ssl/osm-test /home/osm-test /root/osm-test /sys/osm-test"
    code, output = machine.run(shell(script, uid=0, gid=0))
    assert (code, output.count("Read-only file system")) == (1, 5), output


def test_mounts_below_mounts_and_single_files(machine: Machine, tmp_path: Path) -> None:
    data, config = tmp_path / "data", _volume(tmp_path, key="value")
    data.mkdir()
    (data / "outer").write_text("outer")
    mounts = (
        Mount(source=data, target="/data", read_only=False),
        Mount(source=config, target="/data/config"),
        Mount(source=config / "key", target="/etc/one-file"),
    )
    script = "cat /data/outer /data/config/key /etc/one-file; ls /data"
    assert machine.run(shell(script, mounts=mounts)) == (0, "outervaluevalueconfig\nouter\n")


def test_a_link_in_a_volume_does_not_lead_out_of_it(machine: Machine, tmp_path: Path) -> None:
    data, outside = tmp_path / "data", tmp_path / "outside"
    data.mkdir()
    outside.mkdir(mode=0o700)
    mode = outside.stat().st_mode
    for link in ("below", "file"):
        (data / link).symlink_to(outside / "made" if link == "file" else outside)
    config = _volume(tmp_path, key="value")
    for source, target in ((config, "/data/below/config"), (config / "key", "/data/file")):
        mounts = (
            Mount(source=data, target="/data", read_only=False),
            Mount(source=source, target=target),
        )
        with pytest.raises(StartError, match="is a link in a volume: nothing can be mounted there"):
            machine.start(shell("true", mounts=mounts))
    assert (list(outside.iterdir()), outside.stat().st_mode) == ([], mode)


def test_a_secret_is_readable_by_its_user_only(machine: Machine, tmp_path: Path) -> None:
    volume = tmp_path / "secret"
    publish_files(volume, {"key": b"private"}, uid=ENVOY_UID, gid=ENVOY_UID, mode=0o400)
    mounts = (Mount(source=volume, target="/etc/envoy"),)
    owner = shell("cat /etc/envoy/key", mounts=mounts, uid=ENVOY_UID, gid=ENVOY_UID)
    assert machine.run(owner) == (0, "private")
    code, output = machine.run(shell("cat /etc/envoy/key", mounts=mounts))
    assert (code, "Permission denied" in output) == (1, True)


def test_a_swap_of_a_volumes_files_is_seen_inside(machine: Machine, tmp_path: Path) -> None:
    volume = _volume(tmp_path, key="old")
    mounts = (Mount(source=volume, target="/config"),)
    process = machine.start(
        python(
            "import time\n"
            "print(open('/config/key').read(), flush=True)\n"
            "while open('/config/key').read() == 'old': time.sleep(0.01)\n"
            "print(open('/config/key').read())",
            mounts=mounts,
        )
    )
    publish_files(volume, {"key": b"new"}, uid=0, gid=0)
    exited = machine.exits.get(timeout=node_harness.SECONDS)
    assert (exited.process, exited.code) == (process, 0)
    assert process.log.read_text().split()[-1] == "new"


def test_names_of_the_pod(machine: Machine) -> None:
    place = machine.place("web")
    script = "hostname; cat /etc/hostname /etc/hosts /etc/resolv.conf"
    assert machine.run(shell(script)) == (
        0,
        (
            "web\nweb\n"
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
            f"{place.address}\tweb\n"
            f"nameserver {machine.node.dns_address}\n"
            "search shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
        ),
    )


def test_an_app_below_a_private_directory_runs_as_nobody(machine: Machine, project: Path) -> None:
    program = Program(
        name="app",
        argv=("python3", "app.py"),
        uid=NOBODY,
        gid=NOBODY,
        working_dir=str(project),
    )
    assert machine.run(program) == (0, f"['project'] {NOBODY}\n")


def test_the_interpreter_is_ours_and_runs_wherever_it_lives(machine: Machine) -> None:
    script = "import sys, json, ssl; print(sys.version_info[:3], sys.base_prefix)"
    assert machine.run(
        Program(name="app", argv=("python3", "-c", script), uid=NOBODY, gid=NOBODY)
    ) == (
        0,
        f"{tuple(sys.version_info[:3])} {sys.base_prefix}\n",
    )


def test_a_program_starts_with_a_clean_slate(machine: Machine) -> None:
    script = "grep -E 'Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd; umask; pwd; ulimit -n"
    code, output = machine.run(shell(script))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    _, blocked, _, ignored, *rest = output.split()
    # Descriptor 3 is the listed directory; libc ignores two signals of its own, 32 and 33.
    assert (code, int(blocked, 16), int(ignored, 16) & 0x7FFFFFFF, rest) == (
        0,
        0,
        0,
        ["0", "1", "2", "3", "0022", "/", str(hard)],
    )


def test_environment_is_exactly_as_told_with_our_programs_first_in_path(machine: Machine) -> None:
    script = "import json, os; print(json.dumps(dict(os.environ)))"
    program = python(
        script, env=(("GREETING", "hello world"), ("PATH", "/usr/bin"), ("LC_ALL", "C"))
    )
    code, output = machine.run(program)
    environment = {"GREETING": "hello world", "PATH": "/osm/bin:/usr/bin", "LC_ALL": "C"}
    assert (code, json.loads(output)) == (0, environment)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        pytest.param(
            Program(name="app", argv=("no-such-program",), uid=NOBODY, gid=NOBODY),
            "container app of Pod shop/web: program no-such-program is not there in PATH"
            " (/osm/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin),"
            " or uid 65534 may not enter its directory",
            id="not-in-path",
        ),
        pytest.param(
            Program(name="app", argv=("/no/such/program",), uid=NOBODY, gid=NOBODY),
            "container app of Pod shop/web: program /no/such/program is not there,"
            " or uid 65534 may not enter its directory",
            id="no-such-file",
        ),
        pytest.param(
            Program(name="app", argv=("/etc/passwd",), uid=NOBODY, gid=NOBODY),
            "container app of Pod shop/web: /etc/passwd is not executable for uid 65534:"
            " change its mode or runAsUser",
            id="not-executable",
        ),
        pytest.param(
            shell("true", working_dir="/no/such/directory"),
            "container app of Pod shop/web: working directory /no/such/directory:"
            " No such file or directory for uid 65534",
            id="no-working-directory",
        ),
        pytest.param(
            shell("true", uid=0, gid=0, capabilities=("NET_ADMIN", "SYS_PTRACE")),
            "container app of Pod shop/web: capabilities ['SYS_PTRACE'] are not given"
            " on one machine, only NET_ADMIN, NET_BIND_SERVICE, NET_RAW",
            id="capability-we-do-not-give",
        ),
        pytest.param(
            shell("true", mounts=(Mount(source=Path("/no/such/volume"), target="/data"),)),
            "container app of Pod shop/web: No such file or directory: /no/such/volume",
            id="no-volume",
        ),
    ],
)
def test_what_cannot_start_is_told_in_one_sentence(
    machine: Machine, program: Program, message: str
) -> None:
    with pytest.raises(StartError) as refusal:
        machine.start(program)
    assert str(refusal.value) == message
    assert list((machine.state_dir / "pods" / "shop_web").glob("*.json*")) == []


def test_a_working_directory_closed_to_its_user_is_refused(machine: Machine, project: Path) -> None:
    project.chmod(0o700)
    with pytest.raises(
        StartError, match=r"working directory .*/project: uid 65534 may not enter it$"
    ):
        machine.start(shell("true", working_dir=str(project)))


@pytest.mark.envoy
def test_envoy_runs_as_its_user_wherever_its_binary_lives(machine: Machine) -> None:
    program = Program(
        name="envoy",
        argv=("envoy", "--version"),
        uid=ENVOY_UID,
        gid=ENVOY_UID,
        binaries=(("envoy", find_envoy(None)),),
    )
    code, output = machine.run(program)
    assert (code, "/1.40." in output) == (0, True), output


RESOLVE = """
import socket, sys
for name in sys.argv[1:]:
    try:
        found = socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)
        print(name, len(found), found[0][4][0])
    except socket.gaierror as failure:
        print(name, failure.strerror)
"""


def test_names_of_the_mesh_resolve_inside_a_sandbox(machine: Machine) -> None:
    zone = dns.zone_path(machine.state_dir)
    many = [f"10.42.9.{last}" for last in range(1, 101)]
    names = {
        "bookstore.shop.svc.cluster.local": ["10.43.0.20"],
        "db.other.svc.cluster.local": many,
        "idle.shop.svc.cluster.local": [],
    }
    dns.write_zone(zone, names)
    server = dns.start_server(machine.node, machine.processes, machine.state_dir)
    asked = (
        "bookstore",
        "BookStore.shop",
        "db.other.svc.cluster.local",
        "idle",
        "example.com",
        "web",
    )
    program = Program(name="app", argv=("python3", "-c", RESOLVE, *asked), uid=NOBODY, gid=NOBODY)
    code, output = machine.run(program)
    shown = output.splitlines()
    assert (code, shown[:2]) == (0, ["bookstore 1 10.43.0.20", "BookStore.shop 1 10.43.0.20"])
    assert shown[2].startswith("db.other.svc.cluster.local 100 10.42.9.")
    assert shown[3:] == [
        "idle No address associated with hostname",
        "example.com Name or service not known",
        f"web 1 {machine.place('web').address}",
    ]
    dns.write_zone(zone, {"bookstore.shop.svc.cluster.local": ["10.43.0.21"]})
    again = Program(
        name="app", argv=("python3", "-c", RESOLVE, "bookstore"), uid=NOBODY, gid=NOBODY
    )
    assert machine.run(again) == (0, "bookstore 1 10.43.0.21\n")
    machine.processes.stop(server, grace_seconds=5)
    assert machine.exits.get(timeout=node_harness.SECONDS).process == server
