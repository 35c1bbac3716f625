"""The bookstore on real Envoys: edits of files change traffic within a second and lose nothing."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.bookstore_mesh import EXAMPLE, OSM, RunningMesh, machine
from e2e.caller import Caller, allowed, shared
from e2e.packets import captured_between_pods

pytestmark = [pytest.mark.root, pytest.mark.envoy, pytest.mark.serial]

LEDGER = Path(__file__).with_name("ledger.yaml")
README = Path(__file__).parents[2] / "README.md"
TARGETS = "smi/traffic-targets.yaml"
SPLIT = "apps/traffic-split.yaml"
REACTION_SECONDS = 1.0


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    running = RunningMesh(tmp_path_factory.mktemp("mesh"))
    try:
        running.up()
        yield running
    finally:
        running.down()


@pytest.fixture
def buyer(mesh: RunningMesh) -> Iterator[Caller]:
    with mesh.caller("bookbuyer") as caller:
        allowed(caller.collect(0, 20))
        yield caller


def weights(v1: int, v2: int) -> Any:
    def change(documents: list[dict[str, Any]]) -> None:
        backends = documents[0]["spec"]["backends"]
        backends[0]["weight"], backends[1]["weight"] = v1, v2

    return change


def without(kind: str, *names: str) -> Any:
    def change(documents: list[dict[str, Any]]) -> None:
        documents[:] = [
            d for d in documents if d["kind"] != kind or d["metadata"]["name"] not in names
        ]

    return change


def thief_may(*routes: str) -> Any:
    def change(documents: list[dict[str, Any]]) -> None:
        thief = {"kind": "ServiceAccount", "name": "bookthief", "namespace": "bookthief"}
        rule = {"kind": "HTTPRouteGroup", "name": "bookstore", "matches": list(routes)}
        for version in ("v1", "v2"):
            name = f"bookstore-{version}"
            target = {"kind": "ServiceAccount", "name": name, "namespace": "bookstore"}
            documents.append(
                {
                    "apiVersion": "access.smi-spec.io/v1alpha3",
                    "kind": "TrafficTarget",
                    "metadata": {"name": f"thief-{version}", "namespace": "bookstore"},
                    "spec": {"destination": target, "rules": [rule], "sources": [thief]},
                }
            )

    return change


def test_both_versions_are_asked_by_weight(mesh: RunningMesh, buyer: Caller) -> None:
    answers = buyer.collect(0, 400)
    allowed(answers)
    shared(answers, 90, 10)


def test_split_edit_takes_effect_within_a_second_and_loses_nothing(
    mesh: RunningMesh, buyer: Caller
) -> None:
    with mesh.edited(SPLIT, weights(50, 50)) as written:
        answers = buyer.collect(written + REACTION_SECONDS, 300)
        shared(answers, 50, 50)
        allowed(buyer.since(0))


def test_version_without_weight_is_not_asked_after_a_second(
    mesh: RunningMesh, buyer: Caller
) -> None:
    with mesh.edited(SPLIT, weights(0, 100)) as written:
        answers = buyer.collect(written + REACTION_SECONDS, 100)
        assert {seen.version for seen in answers} == {"v2"}
        allowed(buyer.since(0))


def test_deleted_traffic_target_stops_the_caller_within_a_second(
    mesh: RunningMesh, buyer: Caller
) -> None:
    names = ("bookstore-v1", "bookstore-v2")
    with mesh.edited(TARGETS, without("TrafficTarget", *names)) as written:
        answers = buyer.collect(written + REACTION_SECONDS, 50)
        outcomes = {(seen.status, seen.version) for seen in answers}
        assert outcomes <= {
            (0, "ConnectionRefusedError"),
            (0, "ConnectionResetError"),
            (0, "RemoteDisconnected"),
        }
        restored = mesh.write(TARGETS, original())
        allowed(buyer.collect(restored + REACTION_SECONDS, 50))


def original() -> str:
    return (EXAMPLE / TARGETS).read_text()


def test_route_taken_from_one_of_two_callers_is_forbidden_and_unknown_route_not_found(
    mesh: RunningMesh, buyer: Caller
) -> None:
    with mesh.edited(TARGETS, thief_may("books-bought", "buy-a-book")) as written:
        with mesh.caller("bookthief") as thief:
            allowed(thief.collect(written + REACTION_SECONDS, 30))
            mesh.write(TARGETS, original())
            rewritten = mesh.edit(TARGETS, thief_may("books-bought"))
            answers = thief.collect(rewritten + REACTION_SECONDS, 30)
            assert {seen.status for seen in answers} == {403}
        with mesh.caller("bookthief", "/books-bought") as thief:
            allowed(thief.collect(0, 10))
        with mesh.caller("bookthief", "/secret-shelf") as thief:
            assert {seen.status for seen in thief.collect(0, 10)} == {404}
    allowed(buyer.since(0))


def test_traffic_between_pods_is_never_plain(mesh: RunningMesh, buyer: Caller) -> None:
    addresses = {pod.address for pod in mesh.pods()}
    with captured_between_pods(addresses) as packets:
        buyer.collect(0, len(buyer.since(0)) + 300)
    assert len(packets) > 300
    words = (b"HTTP/1", b"GET /", b"bookstore", b"books", b"restock", b"INCR")
    # The server's name stands in a TLS handshake as SNI: that is how Envoys address each other.
    told = [p for p in packets for word in words if word in p and not is_handshake(p)]
    assert told == []


def is_handshake(payload: bytes) -> bool:
    """A TLS record of type handshake (RFC 8446, section 5.1)."""
    return payload[:2] == b"\x16\x03"


def test_killed_controller_loses_nothing_and_its_successor_changes_nothing(
    mesh: RunningMesh, buyer: Caller
) -> None:
    before = mesh.stats()
    killed_at = buyer.since(0)[-1].asked
    mesh.kill_controller()
    buyer.collect(killed_at, 200)
    mesh.up()
    allowed(buyer.collect(killed_at, len(buyer.since(killed_at)) + 200))
    after = mesh.stats()
    assert after.keys() == before.keys()
    for pod, counters in after.items():
        kept = "cluster_manager.active_clusters"
        assert counters[kept] >= before[pod][kept], pod
        for name in ("cluster_manager.cluster_removed", "listener_manager.listener_modified"):
            assert counters[name] == before[pod][name], (pod, name)
        # A listener that an earlier test took away may still be draining, and be done meanwhile.
        for name in ("listeners_draining", "filter_chains_draining"):
            draining = f"listener_manager.total_{name}"
            assert counters[draining] <= before[pod][draining], (pod, name)


def test_rolling_restart_of_the_bookstore_loses_nothing(mesh: RunningMesh, buyer: Caller) -> None:
    old = {pod.name for pod in mesh.pods() if pod.namespace == "bookstore"}

    def annotate(documents: list[dict[str, Any]]) -> None:
        for document in documents:
            if document["kind"] == "Deployment":
                template = document["spec"]["template"]["metadata"]
                template["annotations"] = {"restarted": "once"}

    mesh.edit("apps/bookstore.yaml", annotate)
    mesh.wait_until(lambda: not old & {p.name for p in mesh.pods()} and mesh.is_settled(), 60)
    answers = buyer.collect(0, len(buyer.since(0)) + 100)
    allowed(answers)


def test_killed_pod_is_replaced(mesh: RunningMesh) -> None:
    old = mesh.pod("bookstore-v2").name
    mesh.osm("standalone", "kill", old)
    mesh.wait_until(lambda: old not in {p.name for p in mesh.pods()} and mesh.is_settled())


def test_scale_by_editing_the_file(mesh: RunningMesh, buyer: Caller) -> None:
    def scale(documents: list[dict[str, Any]]) -> None:
        documents[-1]["spec"]["replicas"] = 2

    count = len(mesh.pods())
    with mesh.edited("apps/bookstore.yaml", scale):
        mesh.wait_until(lambda: len(mesh.pods()) == count + 1 and mesh.is_settled())
    mesh.wait_until(lambda: len(mesh.pods()) == count and mesh.is_settled())
    allowed(buyer.since(0))


def test_bad_file_changes_nothing_and_is_reported(mesh: RunningMesh, buyer: Caller) -> None:
    def versions() -> dict[str, Any]:
        details = (mesh.api(f"/api/v1/proxies/{p['uuid']}") for p in mesh.api("/api/v1/proxies"))
        return {
            d["pod"]: {k["kind"]: k["acknowledged"] for k in d["kinds"] if k["kind"] != "SDS"}
            for d in details
        }

    before = versions()
    mesh.write("smi/bad.yaml", "kind: TrafficTarget\nmetadata: {name: x\n")
    mesh.wait_until(lambda: mesh.api("/api/v1/rejected") != [])
    (rejected,) = json.loads(mesh.osm("policy", "rejected", "-o", "json", *API))
    assert "bad.yaml:" in rejected["where"]
    allowed(buyer.collect(0, len(buyer.since(0)) + 100))
    assert versions() == before
    (mesh.folder / "smi/bad.yaml").unlink()
    mesh.wait_until(lambda: mesh.api("/api/v1/rejected") == [])


def test_warehouse_counts_in_redis(mesh: RunningMesh, buyer: Caller) -> None:
    pod = mesh.pod("redis").name

    def restocked() -> int:
        return int(mesh.osm("standalone", "exec", pod, "--", "redis-cli", "GET", "restocked") or 0)

    first = restocked()
    mesh.wait_until(lambda: restocked() > first)


API = ("--api", "http://127.0.0.1:19391")


@pytest.mark.parametrize(
    "command", [("proxy", "list"), ("service", "list"), ("policy", "list"), ("policy", "rejected")]
)
def test_lists_come_as_table_and_json(mesh: RunningMesh, command: tuple[str, str]) -> None:
    assert mesh.osm(*command, *API)
    json.loads(mesh.osm(*command, "-o", "json", *API))


def test_every_line_of_the_curl_tour_works(mesh: RunningMesh) -> None:
    tour = README.read_text().partition("<!-- tour")[2].partition("```console\n")[2]
    lines = [line.removeprefix("$ ") for line in tour.partition("```")[0].splitlines()]
    assert len(lines) >= 14
    # Every curl fails on an HTTP error here, and each line must print an answer or set a variable.
    script = 'set -euo pipefail\ncurl() { command curl --fail-with-body "$@"; }\n'
    for line in lines:
        script += line.replace(":9091", ":19391") + "\necho\n"
    subprocess.run(["bash", "-c", script], check=True, capture_output=True, text=True)


def test_pattern_larger_than_envoys_own_limit_is_taken(mesh: RunningMesh) -> None:
    def lengthen(documents: list[dict[str, Any]]) -> None:
        matches = documents[0]["spec"]["matches"]
        matches.append({"name": "long", "pathRegex": "/[a-z]{3,300}", "methods": ["GET"]})
        for document in documents:
            if document["metadata"]["name"].startswith("bookstore-"):
                document["spec"]["rules"][0]["matches"].append("long")

    with mesh.edited(TARGETS, lengthen) as written, mesh.caller("bookbuyer", "/nosuch") as caller:
        # The bookstore itself knows no such shelf: its own 404 has a version, Envoy's has none.
        answers = caller.collect(written + REACTION_SECONDS, 20)
        assert {seen.status for seen in answers} == {404}
        assert {seen.version for seen in answers} <= {"v1", "v2"}
    assert [proxy["rejected"] for proxy in mesh.api("/api/v1/proxies")] == [[]] * 6


def test_stateful_pods_are_reached_by_name_and_a_job_ends(mesh: RunningMesh) -> None:
    count = len(mesh.pods())
    mesh.write("apps/ledger.yaml", LEDGER.read_text())

    def is_audited() -> bool:
        return [p.status for p in mesh.pods() if p.name.startswith("audit-")] == ["Completed"]

    mesh.wait_until(is_audited, 60)
    told = mesh.osm("standalone", "logs", mesh.pod("audit-").name).splitlines()
    assert told[-2:] == ["ledger-0.ledger ledger-0", "ledger-1.ledger ledger-1"]
    (mesh.folder / "apps/ledger.yaml").unlink()
    mesh.wait_until(lambda: len(mesh.pods()) == count and mesh.is_settled())


def test_second_mesh_of_the_name_is_refused_and_changes_nothing(
    mesh: RunningMesh, tmp_path: Path
) -> None:
    before = machine()
    command = [OSM, "standalone", "up", "-f", mesh.folder, "--state-dir", tmp_path / "other"]
    ended = subprocess.run(
        [*command, "--api-port", "0"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, "already" in ended.stderr) == (1, True), ended.stderr
    assert machine() == before
    assert mesh.is_settled()


def test_down_leaves_the_machine_as_it_was(mesh: RunningMesh) -> None:
    """Last in the file: it ends the mesh the tests above share."""
    mesh.down()
    assert machine() == mesh.before
    assert not mesh.state.exists()
