"""Whatever is written, decoding answers; and whatever it accepts, the mesh can read."""

from __future__ import annotations

import copy
from typing import Any

import factory
from hypothesis import given, settings
from hypothesis import strategies as st

from app.mesh.refresh import LiveMesh, MeshScope
from app.objects.meta import Rejected
from app.objects.scheme import decode
from xds.policy.identity import Issuers

OBJECTS = (
    factory.namespace("shop"),
    factory.pod("shop/web", ip="10.0.0.1", ports={"http": 80}, meta=factory.owned_by("A", "a")),
    factory.service("shop/web"),
    factory.endpoints("shop/web", {"web": "10.0.0.1"}),
    factory.endpoint_slice("shop/web-a", "web", [factory.endpoint("10.0.0.1", pod="web")]),
    factory.mesh_config(
        sidecar={"drainDelay": "1s", "resources": {"limits": {"cpu": 1}}},
        traffic={"outboundIPRangeExclusionList": ["10.0.0.0/8"]},
        certificate={"serviceCertValidityDuration": "1h", "certKeyBitSize": 2048},
    ),
    factory.traffic_target("shop/t", to="web", sources=["x.shop"], groups=["g"], tcp=["r"]),
    factory.route_group("shop/g", {"name": "m", "methods": ["GET"], "headers": [{"a": "b"}]}),
    factory.tcp_route("shop/r", 80),
    factory.traffic_split("shop/web", {"web": 1}),
    factory.egress("shop/e", matches=[("specs.smi-spec.io", "HTTPRouteGroup", "g")]),
    factory.ingress_backend("shop/i", skip=True),
    factory.retry("shop/r"),
    factory.traffic_setting(
        "shop/u",
        connectionSettings={"tcp": {"connectTimeout": "1s"}},
        rateLimit={
            "global": {"http": {"rateLimitService": {"host": "h", "port": 1}, "domain": ""}}
        },
    ),
    factory.telemetry("shop/t", selector={"a": "b"}, accessLog={"format": "x"}),
    factory.extension_service("shop/x"),
    factory.root_certificate("osm-system/r"),
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["None", "1h", "10.0.0.1", "{x}", "%s", "(", "::1", "\ud800"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands inside an object."""
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, inner in entries:
        found.append((*path, key))
        if isinstance(inner, dict | list):
            found += paths(inner, (*path, key))
    return found


PLACES = [(obj, path) for obj in OBJECTS for path in paths(obj)]


@settings(deadline=None, max_examples=500)
@given(st.sampled_from(PLACES), JSON)
def test_anything_anywhere_is_read_or_refused_in_words(place: Any, value: Any) -> None:
    original, (*way, last) = place
    raw = copy.deepcopy(original)
    inner: Any = raw
    for key in way:
        inner = inner[key]
    inner[last] = value
    answer = decode(raw, "a.yaml:1")
    if isinstance(answer, Rejected):
        assert answer.reason
        assert "\n" not in str(answer)
        assert len(str(answer)) < 500
        return
    mesh = LiveMesh(MeshScope(), Issuers())
    events = [factory.changed(obj) for obj in OBJECTS if obj is not original]
    assert mesh.refresh([*events, factory.changed(raw)]).revision == 1
