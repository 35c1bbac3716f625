"""The benchmark runs, and prints what ``make bench`` promises."""

from __future__ import annotations

import json
import subprocess
import sys

NEVER_SENT = "status-only change: messages"


def test_a_small_run_prints_every_case_as_json() -> None:
    command = [sys.executable, "-m", "benchmarks.streams", "--proxies", "15", "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    results = json.loads(done.stdout)
    assert all(result.keys() == {"case", "value", "unit", "reach", "ok"} for result in results)
    found = {result["case"]: result for result in results}
    assert {
        "cold connect of all",
        "memory per proxy",
        "one endpoint",
        "one endpoint: CPU",
        "one endpoint: sent",
        "one split weight",
        "permissive mode on",
        "permissive mode off",
    } <= found.keys()
    assert found[NEVER_SENT] == {
        "case": NEVER_SENT,
        "value": 0,
        "unit": "messages",
        "reach": 0,
        "ok": True,
    }
    assert found["one endpoint: built"]["value"] == 1
    assert found["one endpoint: messages (EDS 10)"]["ok"]
