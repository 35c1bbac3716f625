from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import factory
import pytest
from typer.testing import CliRunner

from app import logs
from app.cli.standalone import app, configure_logs, container_of, find_pod
from app.compute.declared import RawKey
from app.compute.kept import KeptObjects
from app.errors import NotFoundError, SettingError
from app.objects.meta import ObjectKey, ObjectKind
from app.settings import read_settings
from app.standalone.container_logs import log_path
from app.standalone.podlist import OBJECTS_FOLDER

RUNNER = CliRunner()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with three Pods and one log."""
    kept = KeptObjects(tmp_path / OBJECTS_FOLDER)
    born = datetime.now(UTC) - timedelta(hours=2)
    for path in ("blue/web", "green/web", "green/db"):
        raw = factory.pod(path, ip="10.0.0.1", meta={"creationTimestamp": born.isoformat()})
        kept.save(RawKey.of(raw), raw)
    log = log_path(tmp_path, ObjectKey(kind=ObjectKind.POD, namespace="green", name="db"), "app")
    log.parent.mkdir(parents=True)
    log.write_text("one\ntwo\n")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "namespace", "found"),
    [
        pytest.param("db", "", "green/db", id="the-only-one"),
        pytest.param("web", "blue", "blue/web", id="by-namespace"),
        pytest.param("green/web", "", "green/web", id="by-path"),
    ],
)
def test_a_pod_is_found_by_name(state: Path, name: str, namespace: str, found: str) -> None:
    pod = find_pod(state, name, namespace)
    assert f"{pod.namespace}/{pod.name}" == found


@pytest.mark.parametrize(
    ("name", "words"),
    [
        pytest.param("web", r"several namespaces \(blue, green\)", id="not-only-one"),
        pytest.param("nobody", "there are: blue/web, green/db, green/web", id="none"),
    ],
)
def test_a_pod_that_is_not_found_is_told_with_those_there_are(
    state: Path, name: str, words: str
) -> None:
    with pytest.raises(NotFoundError, match=words):
        find_pod(state, name)


def test_the_first_application_is_meant_where_no_container_is_named(state: Path) -> None:
    pod = find_pod(state, "db")
    assert (container_of(pod, ""), container_of(pod, "app")) == ("app", "app")
    with pytest.raises(NotFoundError, match="it has app"):
        container_of(pod, "envoy")


def test_pods_are_listed_as_json_and_as_a_table(state: Path) -> None:
    words = ["ps", "--state-dir", str(state), "-n", "green", "-o", "json"]
    rows = json.loads(RUNNER.invoke(app, words).stdout)
    assert [(row["name"], row["status"], row["age"]) for row in rows] == [
        ("db", "Running", "2h"),
        ("web", "Running", "2h"),
    ]
    table = RUNNER.invoke(app, ["ps", "--state-dir", str(state)]).stdout
    assert table.split()[:3] == ["NAMESPACE", "NAME", "READY"]


def test_a_log_is_printed_as_it_was_written(state: Path) -> None:
    result = RUNNER.invoke(app, ["logs", "db", "--state-dir", str(state)])
    assert (result.exit_code, result.stdout) == (0, "one\ntwo\n")


def test_only_a_running_mesh_can_end_a_pod(state: Path) -> None:
    result = RUNNER.invoke(app, ["kill", "db", "--state-dir", str(state)])
    assert isinstance(result.exception, NotFoundError)
    assert "nobody would end the Pod" in str(result.exception)


def test_flags_come_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSM_MESH_NAME", "of-the-environment")
    assert read_settings().mesh_name == "of-the-environment"
    found = read_settings(mesh_name="of-the-flag", api_port=7, state_dir=Path("/s"))
    assert (found.mesh_name, found.api_port, found.state_dir) == ("of-the-flag", 7, Path("/s"))


def test_an_option_with_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSM_ADS_PORT", "abc")
    with pytest.raises(SettingError, match=r"^OSM_ADS_PORT: .*integer.*, not 'abc'$"):
        read_settings()


def test_lines_with_errors_are_counted() -> None:
    stream = io.StringIO()
    metrics = configure_logs(read_settings(human_debug_log=True), stream, human=False)
    logs.logger("test").error("it failed", error_code="E5006")
    assert metrics.errors.get("E5006") == 1
    assert not stream.getvalue().startswith("{")
