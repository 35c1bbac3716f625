"""The ``osm`` command and ``kubectl`` as a user of a test's API server types them."""

from __future__ import annotations

import shutil
import subprocess

from cluster_pods import starting_pods
from kube_server import KubeServer
from typer.testing import CliRunner, Result

from app.cli.main import app

SYSTEM = "osm-system"
CONTROLLERS = "app=osm-controller"


class Osm:
    """The command, for one cluster."""

    def __init__(self, server: KubeServer) -> None:
        self.server = server
        self._config = str(server.kubeconfig())

    def __call__(self, *args: str, stdin: str = "") -> Result:
        return CliRunner().invoke(app, ["--kubeconfig", self._config, *args], input=stdin)

    def done(self, *args: str, stdin: str = "") -> str:
        """Standard output of a command that succeeds."""
        result = self(*args, stdin=stdin)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout

    def ready(self, *args: str) -> Result:
        """A command that waits, while the controllers' Pods get ready."""
        with starting_pods(self.server, SYSTEM, CONTROLLERS):
            result = self(*args, "--timeout", "60s")
        assert result.exit_code == 0, (result.output, result.exception)
        return result

    def install(self, *args: str) -> str:
        """What installing says."""
        return self.ready("install", *args).stdout


def kubectl(server: KubeServer, *args: str, stdin: str = "") -> str:
    """Standard output of a kubectl that succeeds."""
    program = shutil.which("kubectl")
    assert program, "kubectl is needed on the PATH"
    command = [program, "--kubeconfig", str(server.kubeconfig()), *args]
    result = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout
