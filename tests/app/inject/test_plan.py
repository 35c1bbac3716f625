"""The whole edit: two layouts, the Secret, copies of injected Pods, and the patch in between."""

from __future__ import annotations

import copy
from base64 import b64decode, b64encode
from typing import Any

import jsonpatch
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from injections import (
    OTHER_UUID,
    UUID,
    container,
    credentials,
    injected,
    options,
    pod,
    shop,
    sidecar,
    wanted,
)

from app.errors import InjectionError
from app.inject.patch import diff
from app.inject.plan import plan
from app.inject.secret import read_bootstrap, renewal, secret_files
from app.objects.config import MeshConfigSpec
from app.objects.meta import RawObject
from xds.resource import ResourceError


def names(containers: list[RawObject]) -> list[str]:
    return [c["name"] for c in containers]


@pytest.mark.parametrize(
    ("native", "init", "regular"),
    [
        (True, ["early", "osm-init", "envoy"], ["app"]),
        (False, ["early", "osm-init"], ["app", "envoy"]),
    ],
)
def test_sidecar_stands_where_its_layout_wants_it(
    native: bool, init: list[str], regular: list[str]
) -> None:
    raw = pod(spec={"initContainers": [container("early")]})
    spec = injected(raw, native=native).pod["spec"]
    assert (names(spec["initContainers"]), names(spec["containers"])) == (init, regular)


def test_secret_holds_all_that_the_sidecar_starts_from() -> None:
    secret = injected(pod()).secret
    files = secret_files(secret)
    assert {k: v for k, v in secret.items() if k != "data"} == {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {
            "name": f"envoy-bootstrap-config-{UUID}",
            "namespace": "shop",
            "labels": {
                "app.kubernetes.io/name": "openservicemesh.io",
                "app.kubernetes.io/instance": "osm",
                "app.kubernetes.io/version": "2.0.0",
            },
            "annotations": {
                "openservicemesh.io/signing-issuer-id": "signer",
                "openservicemesh.io/validating-issuer-id": "validator",
                "openservicemesh.io/xds-certificate-expiry": "2026-02-03T04:05:06Z",
            },
        },
    }
    assert {name: files.pop(name) for name in ("sds_cert.pem", "sds_key.pem", "cacert.pem")} == {
        "sds_cert.pem": b"chain 1\n",
        "sds_key.pem": b"key 1\n",
        "cacert.pem": b"roots\n",
    }
    assert files.pop("signing_issuer_id") == b"signer"
    assert files.pop("validating_issuer_id") == b"validator"
    assert sorted(files) == [
        "bootstrap.yaml",
        "tls_certificate_sds_secret.yaml",
        "validation_context_sds_secret.yaml",
    ]


def test_file_sds_watches_the_directory() -> None:
    files = secret_files(injected(pod()).secret)
    secret_type = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
    assert yaml.safe_load(files["tls_certificate_sds_secret.yaml"]) == {
        "resources": [
            {
                "@type": secret_type,
                "name": "tls_sds",
                "tls_certificate": {
                    "certificate_chain": {"filename": "/etc/envoy/sds_cert.pem"},
                    "private_key": {"filename": "/etc/envoy/sds_key.pem"},
                    "watched_directory": {"path": "/etc/envoy"},
                },
            }
        ]
    }
    assert yaml.safe_load(files["validation_context_sds_secret.yaml"]) == {
        "resources": [
            {
                "@type": secret_type,
                "name": "validation_context_sds",
                "validation_context": {
                    "trusted_ca": {"filename": "/etc/envoy/cacert.pem"},
                    "watched_directory": {"path": "/etc/envoy"},
                },
            }
        ]
    }


def test_private_key_shows_in_no_repr() -> None:
    planned = injected(pod())
    encoded = planned.secret["data"]["sds_key.pem"]
    shown = repr(planned) + repr(credentials())
    assert b64decode(encoded) == b"key 1\n"
    assert encoded not in shown
    assert "key 1" not in shown


def test_renewal_changes_credentials_and_annotations_only() -> None:
    patch = renewal(credentials(2))
    assert sorted(patch) == ["data", "metadata"]
    assert sorted(patch["metadata"]) == ["annotations"]
    assert sorted(patch["data"]) == [
        "cacert.pem",
        "sds_cert.pem",
        "sds_key.pem",
        "signing_issuer_id",
        "validating_issuer_id",
    ]
    assert b64decode(patch["data"]["sds_key.pem"]) == b"key 2\n"


def test_prometheus_is_told_where_the_namespace_says_so() -> None:
    raw = pod(annotations={"prometheus.io/port": "1", "own": "kept"})
    annotations = injected(raw, namespace=shop(metrics="yes")).pod["metadata"]["annotations"]
    assert annotations == {
        "own": "kept",
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "15010",
        "prometheus.io/path": "/stats/prometheus",
    }


@pytest.mark.parametrize(
    ("field", "option"),
    [("envoyImage", "envoy_image"), ("initContainerImage", "init_container_image")],
)
def test_image_that_nobody_names_is_an_error(field: str, option: str) -> None:
    raw = pod()
    with pytest.raises(InjectionError, match=f"set spec.sidecar.{field} in MeshConfig"):
        plan(
            raw,
            wanted(raw),
            sidecar=sidecar(),
            config=MeshConfigSpec(),
            options=options(**{option: ""}),
        )


def test_pull_policy_is_that_of_the_settings() -> None:
    raw = pod()
    planned = plan(
        raw,
        wanted(raw),
        sidecar=sidecar(),
        config=MeshConfigSpec(),
        options=options(pull_policy="Always"),
    )
    assert planned.pod["spec"]["initContainers"][0]["imagePullPolicy"] == "Always"


def test_pod_without_metadata_gets_a_label() -> None:
    raw = {"spec": {"containers": [container()]}}
    assert injected(raw).pod["metadata"] == {"labels": {"osm-proxy-uuid": UUID}}


PROBED = container(
    livenessProbe={"tcpSocket": {"port": 80}}, readinessProbe={"httpGet": {"port": 80}}
)


def copied(raw: RawObject, name: str) -> RawObject:
    """What ``kubectl debug --copy-to --keep-labels`` makes of a Pod."""
    edited = copy.deepcopy(raw)
    edited["metadata"]["name"] = name
    return edited


@pytest.mark.parametrize("native", [True, False], ids=["native", "container"])
def test_copy_gets_a_name_a_certificate_and_a_secret_of_its_own(native: bool) -> None:
    first = injected(pod(PROBED), native=native)
    source = copied(first.pod, "debug")
    source["spec"]["volumes"][0]["secret"]["defaultMode"] = 0o400
    new = sidecar(OTHER_UUID, credentials=credentials(2), previous=first.secret)
    second = injected(source, native=native, new=new)

    assert {(op["op"], op["path"]): op["value"] for op in diff(source, second.pod)} == {
        ("replace", "/metadata/labels/osm-proxy-uuid"): OTHER_UUID,
        (
            "replace",
            "/spec/volumes/0/secret/secretName",
        ): f"envoy-bootstrap-config-{OTHER_UUID}",
    }
    before, after = (yaml.safe_load(read_bootstrap(s)) for s in (first.secret, second.secret))
    assert after.pop("node") == {
        "id": OTHER_UUID,
        "metadata": {**before.pop("node")["metadata"], "pod": "debug"},
    }
    assert after == before
    assert second.secret["metadata"]["name"] == f"envoy-bootstrap-config-{OTHER_UUID}"
    assert secret_files(second.secret)["sds_key.pem"] == b"key 2\n"


@pytest.mark.parametrize("native", [True, False], ids=["native", "container"])
def test_injecting_twice_is_injecting_once(native: bool) -> None:
    first = injected(pod(PROBED), native=native)
    second = injected(first.pod, native=native, new=sidecar(previous=first.secret))
    assert second == first
    assert diff(first.pod, second.pod) == []


def test_bootstrap_of_the_original_survives_a_copy() -> None:
    first = injected(pod())
    old = yaml.safe_dump({"node": {"id": "old"}, "admin": {"unknown": 1}})
    secret = copy.deepcopy(first.secret)
    secret["data"] = encoded(old)
    second = injected(first.pod, new=sidecar(OTHER_UUID, previous=secret))
    document = yaml.safe_load(read_bootstrap(second.secret))
    assert (document["admin"], document["node"]["id"]) == ({"unknown": 1}, OTHER_UUID)


def encoded(text: str) -> RawObject:
    return {"bootstrap.yaml": b64encode(text.encode()).decode()}


@pytest.mark.parametrize(
    ("previous", "error", "message"),
    [
        pytest.param(
            None,
            InjectionError,
            f"Secret shop/envoy-bootstrap-config-{UUID} is gone; copy a Pod that runs",
            id="no-secret",
        ),
        pytest.param(
            {"metadata": {"name": "s"}},
            InjectionError,
            "Secret s has no bootstrap.yaml",
            id="empty",
        ),
        pytest.param(
            {"data": encoded("[]")}, ResourceError, "is no YAML mapping", id="not-a-mapping"
        ),
        pytest.param({"data": encoded("{")}, ResourceError, "is no YAML mapping", id="not-yaml"),
    ],
)
def test_copy_of_a_pod_without_its_secret_is_refused(
    previous: RawObject | None, error: type[Exception], message: str
) -> None:
    first = injected(pod())
    with pytest.raises(error, match=message):
        injected(first.pod, new=sidecar(OTHER_UUID, previous=previous))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ports = st.integers(1, 14999)
probes = st.one_of(
    st.fixed_dictionaries(
        {
            "httpGet": st.fixed_dictionaries(
                {"port": ports, "scheme": st.sampled_from(["", "HTTPS"])}
            )
        }
    ),
    st.fixed_dictionaries({"tcpSocket": st.fixed_dictionaries({"port": ports})}),
    st.fixed_dictionaries({"grpc": st.fixed_dictionaries({"port": ports})}),
    st.fixed_dictionaries({"exec": json_values}),
)
containers = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from("abcdefgh"), "unknown": json_values},
        optional={
            "livenessProbe": probes,
            "readinessProbe": probes,
            "startupProbe": probes,
            "ports": st.none() | st.just([]),
        },
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda one: one["name"],
)
pods = st.fixed_dictionaries(
    {
        "metadata": st.fixed_dictionaries(
            {"unknown": json_values},
            optional={"labels": st.none() | st.just({"a": "b"}), "annotations": st.none()},
        ),
        "spec": st.fixed_dictionaries(
            {"containers": containers, "unknown": json_values},
            optional={
                "initContainers": st.none() | st.lists(st.just({"name": "i"}), max_size=1),
                "volumes": st.none() | st.just([{"name": "v", "emptyDir": {}}]),
            },
        ),
        "status": json_values,
    }
)


@settings(max_examples=40, deadline=None)
@given(raw=pods, native=st.booleans())
def test_patch_leads_from_the_pod_to_the_edited_pod(raw: RawObject, native: bool) -> None:
    first = injected(raw, native=native, namespace=shop(metrics="yes"))
    assert jsonpatch.apply_patch(raw, diff(raw, first.pod)) == first.pod
    second = injected(
        first.pod,
        native=native,
        namespace=shop(metrics="yes"),
        new=sidecar(previous=first.secret),
    )
    assert second == first


@settings(max_examples=40, deadline=None)
@given(raw=pods)
def test_what_nobody_here_knows_survives(raw: RawObject) -> None:
    edited: Any = injected(raw).pod
    assert edited["status"] == raw["status"]
    assert edited["metadata"]["unknown"] == raw["metadata"]["unknown"]
    assert edited["spec"]["unknown"] == raw["spec"]["unknown"]
    assert [c["unknown"] for c in edited["spec"]["containers"]] == [
        c["unknown"] for c in raw["spec"]["containers"]
    ]
