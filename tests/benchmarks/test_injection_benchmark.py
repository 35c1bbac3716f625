"""The benchmark of injection runs, and prints what it promises."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.kube, pytest.mark.serial]


def test_a_small_run_injects_every_pod_and_prints_json() -> None:
    command = [sys.executable, "-m", "benchmarks.injection", "-o", "json"]
    command += ["--proxies", "15", "--seconds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [(one["case"], one["unit"]) for one in json.loads(done.stdout)] == [
        ("Pods injected per second", "Pods/s"),
        ("whole creation, p50", "ms"),
        ("whole creation, p99", "ms"),
        ("webhook call, mean", "ms"),
        ("webhook calls over 100 ms, as the API server saw them", "%"),
        ("memory of the controller", "MB"),
    ]
