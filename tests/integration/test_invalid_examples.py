"""A real API server refuses each invalid example with its promised words, by schema or webhook.

Both webhooks answer as a controller would, over TLS, with the bookstore as their mesh; definitions
and configurations are those that the controller registers. What only kubectl refuses (what is not
YAML, a kind that no server has) is left to the tests on a whole cluster.
"""

from __future__ import annotations

import json
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kube_server import KubeServer
from until import until
from webhook_listeners import ROOTS, port_of, serving

from app.controller.crds import load_crds
from app.controller.webhooks import WebhookScope, injection, validation
from app.listeners import HttpServer
from app.settings import Settings

pytestmark = pytest.mark.kube

CHECKOUT = Path(__file__).parents[2]
EXAMPLES = CHECKOUT / "examples"
PROMISE = "# refused: "
OF_KUBECTL = frozenset({"broken", "unknown-kind"})
FILES = [
    pytest.param(file, id=file.stem)
    for file in sorted((EXAMPLES / "invalid").glob("*.yaml"))
    if file.stem not in OF_KUBECTL
]
WATCHED = ("Namespace", "ServiceAccount")
DEFINITIONS = load_crds()
PLURALS = {crd["spec"]["names"]["kind"]: crd["spec"]["names"]["plural"] for crd in DEFINITIONS}


def url_of(raw: dict[str, Any]) -> str:
    """Where an object of its kind is created."""
    version, kind = raw["apiVersion"], raw["kind"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    namespace = raw["metadata"].get("namespace")
    plural = PLURALS.get(kind, f"{kind.lower()}s")
    return f"{root}/namespaces/{namespace}/{plural}" if namespace else f"{root}/{plural}"


@pytest.fixture(scope="module")
def listeners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    """Both webhooks of a controller that knows the bookstore."""
    folders = [EXAMPLES / "bookstore" / "apps", EXAMPLES / "bookstore" / "smi"]
    with serving(folders, tmp_path_factory.mktemp("state")) as running:
        yield running


@pytest.fixture(scope="module")
def cluster(listeners: HttpServer, whole_kube: KubeServer) -> KubeServer:
    """A server that asks the webhooks, with the bookstore's namespaces and accounts."""
    settings = Settings(
        webhook_url="https://localhost",
        injector_port=port_of(listeners, "injector"),
        validator_port=port_of(listeners, "validator"),
    )
    scope = WebhookScope(version="test", roots=ROOTS)
    for raw in (*DEFINITIONS, *bookstore()):
        whole_kube.call("POST", url_of(raw), raw)
    whole_kube.new_namespace("osm-system")
    for raw in (validation(settings, scope, enforced=True), injection(settings, scope)):
        whole_kube.call("POST", url_of(raw), raw)
    wait_until_asked(whole_kube)
    return whole_kube


def bookstore() -> Iterator[dict[str, Any]]:
    """Its namespaces and accounts, namespaces first."""
    files = sorted((EXAMPLES / "bookstore" / "apps").glob("*.yaml"))
    found = [raw for file in files for raw in yaml.safe_load_all(file.read_text()) if raw]
    for kind in WATCHED:
        yield from (raw for raw in found if raw["kind"] == kind)


def refusal(server: KubeServer, raw: dict[str, Any]) -> str:
    """What the server says to the object; empty when it would take it. Nothing is stored."""
    try:
        server.call("POST", f"{url_of(raw)}?dryRun=All", raw)
    except urllib.error.HTTPError as error:
        return str(json.loads(error.read())["message"])
    return ""


def wait_until_asked(server: KubeServer) -> None:
    """The server has read its new configurations, which takes it a second or so."""
    probes = ("setting-host", "pod-port-twice")
    until(
        lambda: all("webhook" in refusal(server, example(name)) for name in probes), "both webhooks"
    )


def example(name: str) -> dict[str, Any]:
    raw: dict[str, Any] = yaml.safe_load((EXAMPLES / "invalid" / f"{name}.yaml").read_text())
    return raw


@pytest.mark.parametrize("file", FILES)
def test_invalid_example_is_refused_with_the_promised_words(
    cluster: KubeServer, file: Path
) -> None:
    message = refusal(cluster, example(file.stem))
    promised = [
        line.removeprefix(PROMISE)
        for line in file.read_text().splitlines()
        if line.startswith(PROMISE)
    ]
    assert [words for words in promised if words not in message] == [], message


@pytest.mark.parametrize("name", ["apps/traffic-split", "smi/mesh-config", "smi/traffic-targets"])
def test_good_example_is_taken(cluster: KubeServer, name: str) -> None:
    text = (EXAMPLES / "bookstore" / f"{name}.yaml").read_text()
    assert {refusal(cluster, raw) for raw in yaml.safe_load_all(text)} == {""}
