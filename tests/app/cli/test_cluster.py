"""Options of a cluster, the config file, and what is loaded for which command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from app.cli.cluster import CliConfig, ClusterOptions, options_of, parse_config, read_options
from app.cli.lazy import Part, lazy_group
from app.cli.main import PARTS, app
from app.errors import SettingError

RUNNER = CliRunner()


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config.yaml"
    monkeypatch.setenv("OSM_CONFIG", str(path))
    return path


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("", CliConfig(), id="empty"),
        pytest.param("install:\n", CliConfig(), id="empty-part"),
        pytest.param("other: 1\ninstall: {unknown: 2}\n", CliConfig(), id="unknown-fields"),
        pytest.param(
            "install: {kind: managed, distribution: AKS, namespace: kube-system}",
            CliConfig(kind="managed", distribution="AKS", namespace="kube-system"),
            id="all",
        ),
    ],
)
def test_config(text: str, found: CliConfig) -> None:
    assert parse_config(text, "c.yaml") == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("install: {kind: other}", "install.kind: write managed or self", id="kind"),
        pytest.param("install: {namespace: [a]}", "install.namespace: must be a text", id="type"),
        pytest.param("install: 3", "install: must be an object", id="no-object"),
        pytest.param("- a", "c.yaml: must be an object", id="a-list"),
        pytest.param("a: [", "c.yaml is not YAML", id="no-yaml"),
    ],
)
def test_config_that_cannot_be_read_is_told(text: str, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        parse_config(text, "c.yaml")


def test_a_config_file_that_was_named_must_exist(config: Path) -> None:
    with pytest.raises(SettingError, match=f"OSM_CONFIG: there is no file {config}"):
        read_options()


def test_a_flag_comes_before_the_config_file(config: Path) -> None:
    config.write_text("install: {namespace: of-the-file}")
    assert read_options().osm_namespace == "of-the-file"
    assert read_options().named is False
    found = read_options(osm_namespace="of-the-flag", context="c")
    assert (found.osm_namespace, found.context, found.named) == ("of-the-flag", "c", True)


def test_a_sub_command_knows_the_options_of_the_root() -> None:
    found: list[ClusterOptions] = []
    root, part = typer.Typer(), typer.Typer()

    @root.callback()
    def main(context: typer.Context) -> None:
        context.obj = read_options(context="there", verbose=True)

    @part.command()
    def leaf(context: typer.Context) -> None:
        found.append(options_of(context))

    @part.command()
    def other() -> None:
        """Makes the part a group."""

    root.add_typer(part, name="part")
    result = RUNNER.invoke(root, ["part", "leaf"])
    assert result.exit_code == 0, result.output
    assert found == [ClusterOptions(context="there", verbose=True, named=True)]


def test_a_managed_installation_hides_what_installs(config: Path) -> None:
    config.write_text("install: {kind: managed}")
    made = typer.Typer(cls=lazy_group({"version": Part("app.cli.version", "version")}))

    @made.command()
    def install() -> None:
        """Install the mesh."""

    @made.callback()
    def root() -> None:
        """The root."""

    shown = RUNNER.invoke(made, ["--help"]).output
    assert "│ version " in shown
    assert "│ install " not in shown
    result = RUNNER.invoke(made, ["install"])
    assert isinstance(result.exception, SettingError)
    assert "install.kind: managed" in str(result.exception)
    config.write_text("install: {kind: self-hosted}")
    assert RUNNER.invoke(made, ["install"]).exit_code == 0


def test_a_managed_installation_hides_what_installs_deeper_down(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = typer.Typer()

    @part.command("list")
    def list_all() -> None:
        """List."""

    @part.command()
    def upgrade() -> None:
        """Upgrade."""

    monkeypatch.setitem(sys.modules, "a_part", SimpleNamespace(app=part))
    made = typer.Typer(cls=lazy_group({"mesh": Part("a_part")}))
    made.callback()(lambda: None)
    config.write_text("install: {kind: managed}")
    shown = RUNNER.invoke(made, ["mesh", "--help"]).output
    assert "│ list " in shown
    assert "│ upgrade " not in shown
    assert isinstance(RUNNER.invoke(made, ["mesh", "upgrade"]).exception, SettingError)


def test_every_part_is_a_command() -> None:
    result = RUNNER.invoke(app, ["--help"])
    assert result.exit_code == 0, result.output
    assert [
        name for name, part in PARTS.items() if (f"│ {name} " in result.output) is part.hidden
    ] == []


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["version", "--client-only"], id="version"),
        pytest.param(["standalone", "--help"], id="standalone"),
        pytest.param(["demo", "--help"], id="demo"),
        pytest.param(["proxy", "--help"], id="proxy"),
        pytest.param(["inject", "--help"], id="inject"),
    ],
)
def test_commands_of_one_machine_load_no_library_of_a_cluster(words: list[str]) -> None:
    heavy = ["kubernetes", "grpc", "fastapi", "uvicorn", "app.compute.kube_client"]
    script = (
        "import json, sys; from app.cli.main import main; sys.argv = json.loads(sys.argv[1])\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        f"print(json.dumps([m for m in {heavy!r} if m in sys.modules]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, json.dumps(["osm", *words])],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(run.stdout.splitlines()[-1]) == []
