from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
import yaml

from xds.builders.bootstrap import build_bootstrap, build_files, renamed_bootstrap
from xds.policy.bootstrap import AdsServer, BootstrapSpec, Probe, ProbeCheck, ProbeType
from xds.policy.identity import ProxyId, ServiceIdentity
from xds.policy.proxy import TlsParameters
from xds.protos import Bootstrap, Cluster, Listener
from xds.resource import ResourceError

PROXY = ProxyId(
    uuid="6e1a5b2c-0000-4000-8000-000000000001",
    identity=ServiceIdentity(namespace="shop", service_account="cart"),
)
SPEC = BootstrapSpec(
    proxy=PROXY,
    pod_name="cart-1",
    product_version="2.0.0",
    ads=AdsServer(
        host="controller.test", server_name="sni.test", certificate_names=("ads.a", "ads.b")
    ),
    tls=TlsParameters(),
    waits_for_config=True,
    drain_delay=timedelta(seconds=5),
)


def cluster(document: Bootstrap, name: str) -> Cluster:
    return next(c for c in document.static_resources.clusters if c.name == name)


def listeners(*probes: Probe) -> dict[str, Listener]:
    document = build_bootstrap(replace(SPEC, probes=probes))
    return {listener.name: listener for listener in document.static_resources.listeners}


def probe(kind: ProbeType, check: ProbeCheck = ProbeCheck.HTTP) -> Probe:
    return Probe(container="app", type=kind, check=check, port=80)


def test_same_spec_gives_the_same_text() -> None:
    assert build_files(SPEC) == build_files(SPEC)


@pytest.mark.parametrize(
    ("host", "is_static"),
    [("controller.test", False), ("10.0.0.1", True), ("10.0.0.1.test", False)],
)
def test_controller_is_found_by_name_or_at_an_address(host: str, is_static: bool) -> None:
    document = build_bootstrap(replace(SPEC, ads=replace(SPEC.ads, host=host)))
    found = cluster(document, "osm-controller")
    assert (found.WhichOneof("cluster_discovery_type") == "type") is is_static
    assert found.cluster_type.name == ("" if is_static else "envoy.clusters.dns")
    endpoint = found.load_assignment.endpoints[0].lb_endpoints[0].endpoint
    assert endpoint.address.socket_address.address == host


@pytest.mark.parametrize("waits", [True, False])
def test_sidecar_waits_for_its_first_configuration_where_it_is_told_to(waits: bool) -> None:
    dynamic = build_bootstrap(replace(SPEC, waits_for_config=waits)).dynamic_resources
    for source in (dynamic.cds_config, dynamic.lds_config):
        assert source.HasField("initial_fetch_timeout") is waits
        assert source.initial_fetch_timeout.ToSeconds() == 0


def test_either_name_of_the_controller_is_accepted() -> None:
    document = yaml.safe_load(build_files(SPEC)["bootstrap.yaml"])
    tls = document["static_resources"]["clusters"][0]["transport_socket"]["typed_config"]
    validation = tls["common_tls_context"]["combined_validation_context"]
    assert tls["sni"] == "sni.test"
    assert validation["default_validation_context"] == {
        "match_typed_subject_alt_names": [
            {"san_type": "DNS", "matcher": {"exact": "ads.a"}},
            {"san_type": "DNS", "matcher": {"exact": "ads.b"}},
        ]
    }


@pytest.mark.parametrize(
    ("probes", "names"),
    [
        pytest.param((), ["readiness_listener"], id="readiness-always"),
        pytest.param(
            (probe(ProbeType.STARTUP), probe(ProbeType.LIVENESS)),
            ["liveness_listener", "readiness_listener", "startup_listener"],
            id="types-in-use",
        ),
    ],
)
def test_listeners_are_those_of_probe_types_in_use(
    probes: tuple[Probe, ...], names: list[str]
) -> None:
    assert list(listeners(*probes)) == names


def test_only_a_tunnel_needs_the_tls_inspector() -> None:
    found = listeners(
        probe(ProbeType.LIVENESS, ProbeCheck.HTTPS), probe(ProbeType.READINESS, ProbeCheck.GRPC)
    )
    assert {n: (len(x.listener_filters), len(x.filter_chains)) for n, x in found.items()} == {
        "liveness_listener": (1, 2),
        "readiness_listener": (0, 1),
    }


@pytest.mark.parametrize("seconds", [0.0, 2.5])
def test_drain_is_delayed_where_a_delay_is_wanted(seconds: float) -> None:
    files = build_files(replace(SPEC, drain_delay=timedelta(seconds=seconds)))
    document = yaml.safe_load(files["bootstrap.yaml"])
    (listener,) = document["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    (host,) = manager["route_config"]["virtual_hosts"]
    drain = next(r for r in host["routes"] if r["match"] == {"path": "/osm-drain"})
    settings = drain.get("typed_per_filter_config", {}).get("envoy.filters.http.fault")
    assert settings == (
        {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
            "delay": {"fixed_delay": "2.500s", "percentage": {"numerator": 100}},
        }
        if seconds
        else None
    )


def test_renamed_bootstrap_differs_in_its_node_only() -> None:
    other = replace(PROXY, uuid="other")
    text = renamed_bootstrap("{admin: {a: 1}}", proxy=other, pod_name="p", product_version="3")
    assert yaml.safe_load(text) == {
        "admin": {"a": 1},
        "node": {
            "id": "other",
            "metadata": {
                "pod": "p",
                "namespace": "shop",
                "service_account": "cart",
                "product_version": "3",
            },
        },
    }


@pytest.mark.parametrize("text", ["", "[]", "{", "text"])
def test_what_is_no_bootstrap_is_not_renamed(text: str) -> None:
    with pytest.raises(ResourceError):
        renamed_bootstrap(text, proxy=PROXY, pod_name="p", product_version="3")
