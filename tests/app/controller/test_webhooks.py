"""The two webhook configurations, whole."""

import base64
from typing import Any

import pytest

from app.controller.webhooks import (
    WebhookScope,
    injection,
    injection_ref,
    is_enforced,
    restored,
    validation,
    validation_ref,
    version_label,
)
from app.objects.meta import RawObject
from app.settings import Settings

SCOPE = WebhookScope(version="2.0.0", roots=b"roots")
BUNDLE = base64.b64encode(b"roots").decode()
MESH_NAMESPACES = {
    "matchLabels": {"openservicemesh.io/monitored-by": "osm"},
    "matchExpressions": [
        {"key": "openservicemesh.io/ignore", "operator": "DoesNotExist"},
        {
            "key": "kubernetes.io/metadata.name",
            "operator": "NotIn",
            "values": ["kube-system", "osm-system"],
        },
        {"key": "control-plane", "operator": "DoesNotExist"},
    ],
}


def rule(group: str, version: str, *resources: str, on: str = "CREATE UPDATE") -> dict[str, Any]:
    return {
        "apiGroups": [group],
        "apiVersions": version.split(),
        "operations": on.split(),
        "resources": list(resources),
        "scope": "*",
    }


def labels(app: str) -> dict[str, str]:
    return {
        "app": app,
        "app.kubernetes.io/instance": "osm",
        "app.kubernetes.io/name": "openservicemesh.io",
        "app.kubernetes.io/version": "2.0.0",
        "openservicemesh.io/reconcile": "true",
    }


def service(name: str, path: str, port: int) -> dict[str, Any]:
    return {
        "caBundle": BUNDLE,
        "service": {"namespace": "osm-system", "name": name, "path": path, "port": port},
    }


def validating(name: str, policy: str, selector: RawObject, *rules: RawObject) -> RawObject:
    return {
        "name": name,
        "clientConfig": service("osm-validator", "/validate", 9093),
        "rules": list(rules),
        "failurePolicy": policy,
        "matchPolicy": "Exact",
        "namespaceSelector": selector,
        "objectSelector": {},
        "sideEffects": "NoneOnDryRun",
        "timeoutSeconds": 10,
        "admissionReviewVersions": ["v1"],
    }


def validation_of(policy: str) -> RawObject:
    settings_of_meshes = "config.openservicemesh.io"
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "osm-validator-mesh-osm", "labels": labels("osm-controller")},
        "webhooks": [
            validating(
                "osm-validator.k8s.io",
                policy,
                MESH_NAMESPACES,
                rule(
                    "policy.openservicemesh.io",
                    "v1alpha1",
                    "ingressbackends",
                    "egresses",
                    "upstreamtrafficsettings",
                    "trafficdenies",
                ),
                rule("access.smi-spec.io", "v1alpha3", "traffictargets"),
            ),
            validating(
                "osm-control-plane-validator.k8s.io",
                policy,
                {},
                rule(settings_of_meshes, "v1alpha2", "meshrootcertificates"),
            ),
            validating(
                "osm-warnings.k8s.io",
                "Ignore",
                MESH_NAMESPACES,
                rule("policy.openservicemesh.io", "v1alpha1", "retries", "telemetries"),
                rule("specs.smi-spec.io", "v1alpha4", "httproutegroups", "tcproutes"),
                rule("split.smi-spec.io", "v1alpha2 v1alpha4", "trafficsplits"),
            ),
            validating(
                "osm-control-plane-warnings.k8s.io",
                "Ignore",
                {},
                rule(settings_of_meshes, "v1alpha1 v1alpha2", "meshconfigs"),
                rule(settings_of_meshes, "v1alpha2", "meshrootcertificates", on="DELETE"),
            ),
        ],
    }


def test_injection_is_asked_for_pods_of_the_mesh_and_never_of_its_control_plane() -> None:
    assert injection(Settings(), SCOPE) == {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "osm-webhook-osm", "labels": labels("osm-injector")},
        "webhooks": [
            {
                "name": "osm-inject.k8s.io",
                "clientConfig": service("osm-injector", "/mutate-pod-creation", 9090),
                "rules": [rule("", "v1", "pods", on="CREATE")],
                "failurePolicy": "Fail",
                "matchPolicy": "Exact",
                "namespaceSelector": MESH_NAMESPACES,
                "objectSelector": {},
                "reinvocationPolicy": "Never",
                "sideEffects": "NoneOnDryRun",
                "timeoutSeconds": 10,
                "admissionReviewVersions": ["v1"],
            }
        ],
    }


@pytest.mark.parametrize(
    ("enforced", "policy"),
    [pytest.param(False, "Ignore", id="at-first"), pytest.param(True, "Fail", id="when-ready")],
)
def test_validation_refuses_once_it_is_enforced_but_warnings_never_do(
    enforced: bool, policy: str
) -> None:
    assert validation(Settings(), SCOPE, enforced=enforced) == validation_of(policy)


def test_traffic_targets_are_validated_unless_switched_off() -> None:
    settings = Settings(validate_traffic_target=False)
    (policies, *_) = validation(settings, SCOPE, enforced=True)["webhooks"]
    assert [rule["resources"] for rule in policies["rules"]] == [
        ["ingressbackends", "egresses", "upstreamtrafficsettings", "trafficdenies"]
    ]


def test_settings_name_mesh_namespace_timeout_and_configurations() -> None:
    settings = Settings(
        mesh_name="bookstore",
        osm_namespace="mesh",
        webhook_timeout=4,
        webhook_config_name="inject",
        validator_webhook_config="validate",
    )
    made = injection(settings, SCOPE)
    (webhook,) = made["webhooks"]
    assert (injection_ref(settings).name, validation_ref(settings).name) == ("inject", "validate")
    assert made["metadata"]["name"] == "inject"
    assert made["metadata"]["labels"]["app.kubernetes.io/instance"] == "bookstore"
    assert webhook["timeoutSeconds"] == 4
    assert webhook["clientConfig"]["service"]["namespace"] == "mesh"
    assert webhook["namespaceSelector"]["matchLabels"] == {
        "openservicemesh.io/monitored-by": "bookstore"
    }
    assert webhook["namespaceSelector"]["matchExpressions"][1]["values"] == ["kube-system", "mesh"]


def test_a_control_plane_outside_the_cluster_is_asked_by_url() -> None:
    settings = Settings(
        webhook_url="https://osm.example.com", injector_port=19090, validator_port=19093
    )
    made = [
        *injection(settings, SCOPE)["webhooks"],
        *validation(settings, SCOPE, enforced=True)["webhooks"],
    ]
    assert [webhook["clientConfig"] for webhook in made] == [
        {"caBundle": BUNDLE, "url": "https://osm.example.com:19090/mutate-pod-creation"},
        *[{"caBundle": BUNDLE, "url": "https://osm.example.com:19093/validate"}] * 4,
    ]


def test_no_selector_asks_for_a_label_that_old_servers_do_not_set() -> None:
    webhooks = [
        *injection(Settings(), SCOPE)["webhooks"],
        *validation(Settings(), SCOPE, enforced=True)["webhooks"],
    ]
    asked = {
        (expression["key"], expression["operator"])
        for webhook in webhooks
        for expression in webhook["namespaceSelector"].get("matchExpressions", ())
    }
    assert ("kubernetes.io/metadata.name", "In") not in asked
    assert {key for key, operator in asked if operator in ("In", "Exists")} == set()


def test_restored_keeps_foreign_metadata_and_nothing_else() -> None:
    wanted = injection(Settings(), SCOPE)
    current = {
        **wanted,
        "metadata": {
            "name": "osm-webhook-osm",
            "resourceVersion": "7",
            "labels": {"team": "a", "app": "other"},
            "annotations": {"note": "b"},
        },
        "webhooks": [],
    }
    assert restored(current, wanted) == {
        **wanted,
        "metadata": {
            "name": "osm-webhook-osm",
            "resourceVersion": "7",
            "labels": {"team": "a", **labels("osm-injector")},
            "annotations": {"note": "b"},
        },
    }
    assert current["webhooks"] == []


@pytest.mark.parametrize(
    ("current", "answer"),
    [
        pytest.param(None, False, id="nothing-there"),
        pytest.param({"webhooks": None}, False, id="no-webhooks"),
        pytest.param(validation_of("Ignore"), False, id="ours-at-first"),
        pytest.param(validation_of("Fail"), True, id="ours-when-ready"),
        pytest.param(
            {"webhooks": [{"name": "osm-validator.k8s.io", "failurePolicy": "Fail"}]},
            True,
            id="of-an-original",
        ),
    ],
)
def test_what_is_there_tells_whether_validation_is_enforced(
    current: RawObject | None, answer: bool
) -> None:
    assert is_enforced(current) is answer


@pytest.mark.parametrize(
    ("version", "label"),
    [
        pytest.param("2.0.0.dev0", "2.0.0.dev0", id="as-it-is"),
        pytest.param("2.1.0+local.1", "2.1.0-local.1", id="plus-is-no-label"),
        pytest.param("v" + "1" * 70, "v" + "1" * 62, id="cut"),
        pytest.param("2.0-", "2.0", id="ends-in-a-letter-or-digit"),
    ],
)
def test_release_becomes_a_label(version: str, label: str) -> None:
    assert version_label(version) == label
