"""What ``osm controller run`` makes of flags and variables, and how it tells what is wrong."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from app.cli import controller
from app.cli.control_plane import is_native
from app.cli.controller import Ended, EndSignals, controller_settings
from app.errors import SettingError
from app.ports import ServerVersion
from app.settings import Settings, read_settings

NEEDED = {"mesh_name": "osm", "osm_namespace": "osm-system"}
RUNNER = CliRunner()


def settings(environment: dict[str, str] | None = None, **flags: Any) -> Settings:
    return controller_settings({**NEEDED, **flags}, environment or {})


def test_listeners_are_open_to_the_cluster_unless_told_otherwise() -> None:
    assert settings().api_host == "0.0.0.0"


def test_variable_of_the_address_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSM_API_HOST", "127.0.0.1")
    assert settings().api_host == "127.0.0.1"


def test_images_are_known_by_the_variables_of_the_original() -> None:
    found = settings(
        {"OSM_DEFAULT_ENVOY_IMAGE": "envoy:1", "OSM_DEFAULT_INIT_CONTAINER_IMAGE": "osm:2"}
    )
    assert (found.envoy_image, found.init_container_image) == ("envoy:1", "osm:2")
    assert settings().envoy_image == Settings().envoy_image


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        pytest.param(
            {"mesh_name": None, "osm_namespace": None},
            r"needs --mesh-name, --osm-namespace \(or OSM_MESH_NAME",
            id="nothing",
        ),
        pytest.param({"osm_namespace": ""}, "needs --osm-namespace", id="empty"),
        pytest.param({"certificate_manager": "vault"}, "HashiCorp Vault are planned", id="vault"),
        pytest.param(
            {"certificate_manager": "cert-manager"}, "not in this release", id="cert-manager"
        ),
        pytest.param({"certificate_manager": "tresorr"}, "write tresor, not", id="unknown"),
        pytest.param({"webhook_timeout": "31"}, "OSM_WEBHOOK_TIMEOUT", id="timeout"),
        pytest.param({"webhook_timeout": "ten"}, "OSM_WEBHOOK_TIMEOUT", id="no-number"),
        pytest.param({"enable_reconciler": "perhaps"}, "OSM_ENABLE_RECONCILER", id="no-switch"),
    ],
)
def test_what_cannot_be_is_told(flags: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        settings(**flags)


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        pytest.param([], None, id="absent"),
        pytest.param(["--enable-reconciler"], "true", id="alone"),
        pytest.param(["--enable-reconciler=false"], "false", id="with-a-value"),
    ],
)
def test_switches_are_written_as_in_go(arguments: list[str], value: str | None) -> None:
    seen: list[dict[str, Any]] = []
    app = typer.Typer()

    @app.command(cls=controller._GoFlags)
    def run(enable_reconciler: str | None = None) -> None:
        seen.append({"enable_reconciler": enable_reconciler})

    assert RUNNER.invoke(app, arguments).exit_code == 0
    assert seen == [{"enable_reconciler": value}]


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        pytest.param("5s", timedelta(seconds=5), id="seconds"),
        pytest.param("250ms", timedelta(milliseconds=250), id="milliseconds"),
        pytest.param("1m", timedelta(minutes=1), id="minutes"),
        pytest.param("2", timedelta(seconds=2), id="bare"),
        pytest.param("PT3S", timedelta(seconds=3), id="iso"),
    ],
)
def test_duration_is_read_from_a_variable(
    monkeypatch: pytest.MonkeyPatch, text: str, duration: timedelta
) -> None:
    monkeypatch.setenv("OSM_SHUTDOWN_DELAY", text)
    assert read_settings().shutdown_delay == duration


@pytest.mark.parametrize("text", ["", "soon", "5h", "61s", "-1s", "inf", "1e300"])
def test_duration_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("OSM_SHUTDOWN_DELAY", text)
    with pytest.raises(SettingError, match="OSM_SHUTDOWN_DELAY"):
        read_settings()


@pytest.mark.parametrize(
    ("url", "names"),
    [
        pytest.param("", (), id="none"),
        pytest.param("https://localhost", ("localhost",), id="name"),
        pytest.param("https://192.0.2.7/", ("192.0.2.7",), id="address"),
        pytest.param("https://[2001:db8::1]", ("2001:db8::1",), id="address-of-version-6"),
    ],
)
def test_host_of_the_webhook_url_is_named_in_certificates(url: str, names: tuple[str, ...]) -> None:
    assert read_settings(webhook_url=url).webhook_names == names


@pytest.mark.parametrize(
    "url", ["http://a", "https://a:1", "https://a/b", "a", "https://u@a", "https://", "https://a?b"]
)
def test_webhook_url_is_a_base_without_port(url: str) -> None:
    with pytest.raises(SettingError, match="OSM_WEBHOOK_URL"):
        read_settings(webhook_url=url)


@pytest.mark.parametrize(
    ("version", "native"),
    [((1, 20), False), ((1, 28), False), ((1, 29), True), ((1, 33), True), ((2, 0), True)],
)
def test_sidecars_are_native_since_1_29(version: tuple[int, int], native: bool) -> None:
    major, minor = version
    assert is_native(ServerVersion(major=major, minor=minor, text="")) is native


@pytest.fixture
def signals() -> Iterator[EndSignals]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield EndSignals()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_signal_breaks_the_start_off(signals: EndSignals) -> None:
    with pytest.raises(Ended):
        signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    assert signals.again.is_set()


def test_first_signal_ends_the_wait_and_the_second_the_delay(signals: EndSignals) -> None:
    threading.Timer(0.05, signal.raise_signal, (signal.SIGTERM,)).start()
    signals.wait()
    assert not signals.again.is_set()
    signal.raise_signal(signal.SIGINT)
    assert signals.again.is_set()
