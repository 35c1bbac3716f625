"""Policies and questions drawn at random, the same at every run, for ``test_explain``."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import yaml

CLIENTS = ("buyer", "visitor", "outside")
SERVERS = ("web-v1", "web-v2", "feed")
GROUP: dict[str, Any] = {
    "apiVersion": "specs.smi-spec.io/v1alpha4",
    "kind": "HTTPRouteGroup",
    "metadata": {"name": "routes", "namespace": "shop"},
    "spec": {
        "matches": [
            {"name": "books", "pathRegex": "/books/[0-9]+", "methods": ["GET"]},
            {"name": "admin", "pathRegex": "/admin", "headers": [{"x-role": "a|b"}]},
            {"name": "writes", "pathRegex": ".*", "methods": ["POST", "PUT"]},
        ]
    },
}
EMPTY: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "empty", "namespace": "shop"},
    "spec": {
        "selector": {"app": "nobody"},
        "ports": [{"name": "main", "port": 8000, "targetPort": 8080, "appProtocol": "http"}],
    },
}


@dataclass(frozen=True, kw_only=True)
class World:
    """Policies in force, the traffic section of the MeshConfig, and what is asked."""

    seed: int
    objects: list[dict[str, Any]]
    traffic: dict[str, Any]
    asked: dict[str, list[Asked]]
    """By client."""

    @property
    def text(self) -> str:
        return yaml.safe_dump_all(self.objects)

    def names(self, kind: str) -> list[str]:
        return sorted(o["metadata"]["name"] for o in self.objects if o["kind"] == kind)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request or, without a path, one connection."""

    service: str
    port: int
    method: str = "GET"
    path: str = ""
    headers: dict[str, str] = field(default_factory=dict)


def world(seed: int, **traffic: Any) -> World:
    draw = random.Random(seed)
    objects = [GROUP, EMPTY]
    objects += [tcp_route("feed-port", 9090), tcp_route("web-port", 8080)]
    objects += [target(draw, f"t{number}") for number in range(draw.randint(1, 4))]
    if draw.random() < 0.5:
        objects.append(split(draw))
    if draw.random() < 0.5:
        objects.append(egress(draw))
    asked = {client: [question(draw) for _ in range(12)] for client in CLIENTS[:2]}
    asked["outside"] = [question(draw) for _ in range(3)]
    return World(seed=seed, objects=objects, traffic=traffic, asked=asked)


def tcp_route(name: str, port: int) -> dict[str, Any]:
    return {
        "apiVersion": "specs.smi-spec.io/v1alpha4",
        "kind": "TCPRoute",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"matches": {"ports": [port]}},
    }


def target(draw: random.Random, name: str) -> dict[str, Any]:
    chosen = draw.sample(["books", "admin", "writes"], draw.randint(1, 3))
    rules: list[dict[str, Any]] = [{"kind": "HTTPRouteGroup", "name": "routes", "matches": chosen}]
    if draw.random() < 0.4:
        routes = draw.sample(["feed-port", "web-port"], draw.randint(1, 2))
        rules += [{"kind": "TCPRoute", "name": route} for route in routes]
    sources = draw.sample(["buyer", "visitor"], draw.randint(1, 2))
    return {
        "apiVersion": "access.smi-spec.io/v1alpha3",
        "kind": "TrafficTarget",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "destination": account(draw.choice(SERVERS)),
            "sources": [account(source) for source in sources],
            "rules": rules,
        },
    }


def account(name: str) -> dict[str, str]:
    return {"kind": "ServiceAccount", "name": name, "namespace": "shop"}


def split(draw: random.Random) -> dict[str, Any]:
    weights = draw.choice([(100, 0), (0, 100), (50, 50)])
    spec: dict[str, Any] = {
        "service": "web",
        "backends": [
            {"service": name, "weight": weight}
            for name, weight in zip(("web-v1", "web-v2"), weights, strict=True)
        ],
    }
    if draw.random() < 0.5:
        spec["matches"] = [{"kind": "HTTPRouteGroup", "name": "routes"}]
    return {
        "apiVersion": "split.smi-spec.io/v1alpha4",
        "kind": "TrafficSplit",
        "metadata": {"name": "canary", "namespace": "shop"},
        "spec": spec,
    }


def egress(draw: random.Random) -> dict[str, Any]:
    sources = draw.sample(["buyer", "visitor"], draw.randint(1, 2))
    return {
        "apiVersion": "policy.openservicemesh.io/v1alpha1",
        "kind": "Egress",
        "metadata": {"name": "out", "namespace": "shop"},
        "spec": {
            "sources": [account(source) for source in sources],
            "hosts": [draw.choice(["outside.outside", "elsewhere.example"])],
            "ports": [{"number": 8000, "protocol": draw.choice(["http", "tcp"])}],
        },
    }


def question(draw: random.Random) -> Asked:
    service = draw.choices(
        ["web.shop", "web-v1.shop", "web-v2.shop", "feed.shop", "empty.shop", "outside.outside"],
        weights=[5, 5, 5, 4, 1, 3],
    )[0]
    if service == "feed.shop":
        return Asked(service=service, port=draw.choices([9000, 9001], weights=[6, 1])[0])
    headers = draw.choice([{}, {}, {"x-role": "a"}, {"x-role": "c"}])
    host = draw.choices(["", "nobody.shop", "web-v2.shop", "WEB.shop."], weights=[9, 1, 1, 1])[0]
    return Asked(
        service=service,
        port=draw.choices([8000, 8001], weights=[15, 1])[0],
        method=draw.choice(["GET", "GET", "POST"]),
        path=draw.choice(["/", "/books/1", "/books/1", "/admin", "/books/../admin", "/books/x"]),
        headers={**headers, **({"host": host} if host else {})},
    )
