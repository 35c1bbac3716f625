"""``explain`` says what really happens: hundreds of calls of generated meshes, asked and made."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

import pytest
from e2e.policies.explained_worlds import Asked, World, world
from e2e.policies.policy_mesh import PolicyMesh

pytestmark = [pytest.mark.root, pytest.mark.envoy]

ASK_ALL = """
import http.client, json, socket, sys
def request(asked):
    connection = http.client.HTTPConnection(asked["host"], asked["port"], timeout=5)
    connection.putrequest(asked["method"], asked["path"], skip_host="host" in asked["headers"])
    for name, value in {**asked["headers"], "connection": "close"}.items():
        connection.putheader(name, value)
    connection.endheaders()
    return str(connection.getresponse().status)
def connect(asked):
    with socket.create_connection((asked["host"], asked["port"]), timeout=5) as connection:
        connection.sendall(b"hello\\n")
        return connection.recv(100).decode().strip()
for asked in json.loads(sys.argv[1]):
    try:
        print(request(asked) if asked["path"] else connect(asked), flush=True)
    except (OSError, http.client.HTTPException):
        print("", flush=True)
"""
CLOSED = {"", "connection closed", "no address"}
ANSWERED = {"200", "HELLO", "the application's answer"}
SMI = {"enablePermissiveTrafficPolicyMode": False}
WORLDS = [
    *(world(seed, **SMI) for seed in range(1, 9)),
    world(20, enablePermissiveTrafficPolicyMode=True),
    world(21, enablePermissiveTrafficPolicyMode=True, enableEgress=True),
    world(22, **SMI, enableEgress=True),
]


def explained(mesh: PolicyMesh, client: str, asked: Asked) -> dict[str, Any]:
    name, _, namespace = asked.service.partition(".")
    own = "outside" if client == "outside" else "shop"
    words = [("from", f"{own}/{client}"), ("to", f"{namespace}/{name}"), ("port", str(asked.port))]
    words += [("method", asked.method), ("path", asked.path or "/")]
    words += [("header", f"{name}:{value}") for name, value in asked.headers.items()]
    found: dict[str, Any] = mesh.api(f"/api/v1/explain?{urlencode(words)}")
    return found


def made(mesh: PolicyMesh, client: str, asked: list[Asked]) -> list[str]:
    """The status, or the answer of a TCP server, of each; empty where there is none."""
    questions = [
        {
            "host": one.service,
            "port": one.port,
            "method": one.method,
            "path": one.path,
            "headers": one.headers,
        }
        for one in asked
    ]
    return mesh.exec(client, "python3", "-c", ASK_ALL, json.dumps(questions)).split("\n")[:-1]


def disagreements(mesh: PolicyMesh, one: World, client: str) -> list[str]:
    """What was told otherwise than it is; made again until it is as told, or never is."""
    asked = one.asked[client]
    told = [explained(mesh, client, question) for question in asked]
    left: list[str] = []

    def all_agree() -> bool:
        seen = made(mesh, client, asked)
        left[:] = [
            f"{client}: {question}: told {answer['outcome']}, {answer['seen']}; got {real!r}"
            for question, answer, real in zip(asked, told, seen, strict=True)
            if not agree(answer, real)
        ]
        return not left

    with suppress(AssertionError):
        mesh.wait(all_agree)
    return left


def agree(told: dict[str, Any], seen: str) -> bool:
    words = set(told["seen"].split(" or "))
    allowed = told["outcome"] in ("allowed", "partly allowed")
    if seen in ANSWERED:
        return allowed and bool(words & ANSWERED)
    return seen in words or (seen in CLOSED and bool(words & CLOSED))


def in_force(mesh: PolicyMesh, one: World) -> bool:
    policies = mesh.api("/api/v1/policies")
    traffic = mesh.api("/api/v1/config")["spec"]["traffic"]
    return (
        [target["name"] for target in policies["access"]] == one.names("TrafficTarget")
        and [split["name"] for split in policies["splits"]] == one.names("TrafficSplit")
        and all(traffic[name] == value for name, value in one.traffic.items())
    )


@pytest.mark.parametrize("one", [pytest.param(w, id=f"world-{w.seed}") for w in WORLDS])
def test_answer_is_what_really_happens(mesh: PolicyMesh, one: World) -> None:
    with mesh.configured(traffic=one.traffic), mesh.apply(one.text):
        mesh.wait(lambda: in_force(mesh, one))
        wrong = [text for client in one.asked for text in disagreements(mesh, one, client)]
        assert wrong == [], one.text


def test_questions_are_many() -> None:
    assert sum(len(asked) for one in WORLDS for asked in one.asked.values()) >= 200
