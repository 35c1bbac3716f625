"""Asks a service over and over from inside a Pod and remembers every answer with its time."""

import json
import math
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

SIGMAS = 4

ASK = """
import http.client, json, sys, time
host, path, pause = sys.argv[1], sys.argv[2], float(sys.argv[3])
while True:
    asked = time.time()
    connection = http.client.HTTPConnection(host, 14001, timeout=10)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        answer.read()
        outcome = {"status": answer.status, "version": answer.headers.get("Bookstore-Version")}
    except (OSError, http.client.HTTPException) as error:
        outcome = {"status": 0, "version": type(error).__name__}
    finally:
        connection.close()
    print(json.dumps({"asked": asked} | outcome), flush=True)
    time.sleep(pause)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One answer; status 0: refused, reset or closed, with the error's name as version."""

    asked: float
    status: int
    version: str | None


class Caller:
    """Asks from inside a Pod until it is ended."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._arrived = threading.Condition()
        self._seen: list[Seen] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._arrived:
                self._seen.append(Seen(**json.loads(line)))
                self._arrived.notify_all()

    def since(self, moment: float) -> list[Seen]:
        """Answers to what was asked after the moment."""
        with self._arrived:
            return [seen for seen in self._seen if seen.asked >= moment]

    def collect(self, moment: float, count: int, timeout_seconds: float = 30.0) -> list[Seen]:
        """At least ``count`` answers to what was asked after the moment."""
        with self._arrived:
            enough = self._arrived.wait_for(
                lambda: sum(s.asked >= moment for s in self._seen) >= count, timeout_seconds
            )
        assert enough, f"fewer than {count} answers in {timeout_seconds} s"
        return self.since(moment)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()


def eventually(holds: Callable[[], bool], timeout_seconds: float, tell: Callable[[], str]) -> None:
    """Returns once the condition of another process holds; its state is told when it never does."""
    deadline = time.monotonic() + timeout_seconds
    pause = threading.Event()
    while not holds():
        assert time.monotonic() < deadline, tell()
        pause.wait(0.05)


def allowed(answers: list[Seen]) -> None:
    """No request failed."""
    failed = [seen for seen in answers if seen.status != 200]
    assert failed == [], "\n".join(map(str, failed))


def shared(answers: list[Seen], v1: int, v2: int) -> None:
    """Both versions were asked as often as their weights say, within four standard deviations."""
    share = v1 / (v1 + v2)
    expected = share * len(answers)
    deviation = math.sqrt(len(answers) * share * (1 - share))
    asked = sum(seen.version == "v1" for seen in answers)
    assert abs(asked - expected) <= SIGMAS * deviation, (asked, expected, deviation)
