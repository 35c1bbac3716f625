"""Definitions: read, merged with what is there, applied."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from fakes.cluster import FakeCluster

from app.controller.crds import apply_crds, crd_merge, is_newer, last_applied, load_crds
from app.errors import KubernetesError, SettingError
from app.objects.meta import RawObject

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def version(name: str, *, served: bool = True, storage: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "served": served,
        "storage": storage,
        "schema": {"openAPIV3Schema": {"type": "object", "description": name}},
    }


def crd(*versions: dict[str, Any], name: str = "things.example.com") -> RawObject:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/name": "openservicemesh.io"}},
        "spec": {
            "group": "example.com",
            "conversion": {"strategy": "None"},
            "versions": list(versions or (version("v1alpha2", storage=True),)),
        },
    }


def original(**spec: Any) -> RawObject:
    """A definition as an original installation leaves it behind."""
    found = crd(version("v1alpha1", storage=True))
    found["metadata"] |= {"resourceVersion": "5", "annotations": {"team": "a"}}
    found["spec"]["conversion"] = {
        "strategy": "Webhook",
        "webhook": {
            "clientConfig": {"service": {"name": "osm-bootstrap", "namespace": "osm-system"}},
            "conversionReviewVersions": ["v1"],
        },
    }
    found["spec"] |= spec
    found["status"] = {"storedVersions": ["v1alpha1"]}
    return found


# Reading


def test_release_defines_every_kind_of_the_mesh() -> None:
    assert sorted(found["metadata"]["name"] for found in load_crds()) == [
        "egresses.policy.openservicemesh.io",
        "extensionservices.config.openservicemesh.io",
        "httproutegroups.specs.smi-spec.io",
        "ingressbackends.policy.openservicemesh.io",
        "meshconfigs.config.openservicemesh.io",
        "meshrootcertificates.config.openservicemesh.io",
        "retries.policy.openservicemesh.io",
        "tcproutes.specs.smi-spec.io",
        "telemetries.policy.openservicemesh.io",
        "trafficdenies.policy.openservicemesh.io",
        "trafficsplits.split.smi-spec.io",
        "traffictargets.access.smi-spec.io",
        "upstreamtrafficsettings.policy.openservicemesh.io",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(None, "there are no definitions", id="none"),
        pytest.param("kind: [", "cannot be read", id="broken"),
        pytest.param("kind: Pod", "must hold one CustomResourceDefinition", id="another-kind"),
        pytest.param("[]", "must hold one CustomResourceDefinition", id="a-list"),
    ],
)
def test_folder_without_good_definitions_is_named(
    tmp_path: Path, text: str | None, message: str
) -> None:
    (tmp_path / "kustomization.yaml").touch()
    (tmp_path / "crds").mkdir()
    if text is not None:
        (tmp_path / "crds" / "things.yaml").write_text(text)
    with pytest.raises(SettingError, match=f"OSM_MANIFESTS_DIR: .*{message}"):
        load_crds(tmp_path)


# Merging


def test_missing_definition_is_created_with_stamp_and_note() -> None:
    wanted = crd()
    made = crd_merge(wanted, version="2.0.0")(None)
    note = made["metadata"]["annotations"][LAST_APPLIED]
    assert made == {
        **wanted,
        "metadata": {
            "name": "things.example.com",
            "annotations": {LAST_APPLIED: note},
            "labels": {
                "app.kubernetes.io/name": "openservicemesh.io",
                "openservicemesh.io/reconcile": "2.0.0",
            },
        },
    }
    assert json.loads(note) == {**wanted, "metadata": {**wanted["metadata"], "annotations": {}}}
    assert note.endswith("}\n")


def test_equal_definition_is_left_as_it_is() -> None:
    merge = crd_merge(crd(), version="2.0.0")
    made = merge(None)
    assert merge({**made, "status": {"storedVersions": ["v1alpha2"]}}) == {
        **made,
        "status": {"storedVersions": ["v1alpha2"]},
    }


def test_definition_that_kubectl_applied_is_stamped_and_keeps_its_note() -> None:
    current = crd()
    current["metadata"]["annotations"] = {LAST_APPLIED: "kubectl's own"}
    made = crd_merge(crd(), version="2.0.0")(current)
    assert made["metadata"]["annotations"] == {LAST_APPLIED: "kubectl's own"}
    assert made["metadata"]["labels"]["openservicemesh.io/reconcile"] == "2.0.0"


def test_original_is_overwritten_and_keeps_its_metadata() -> None:
    wanted = crd(version("v1alpha2", storage=True), version("v1alpha1"))
    current = original()
    before = copy.deepcopy(current)
    made = crd_merge(wanted, version="2.0.0")(current)
    assert made["spec"] == wanted["spec"]
    assert made["metadata"]["resourceVersion"] == "5"
    assert made["metadata"]["annotations"] == {"team": "a", LAST_APPLIED: last_applied(wanted)}
    assert current == before


def test_version_of_stored_objects_stays_listed_but_is_not_served() -> None:
    wanted = crd(version("v1alpha2", storage=True))
    made = crd_merge(wanted, version="2.0.0")(original())
    assert made["spec"]["versions"] == [
        version("v1alpha2", storage=True),
        version("v1alpha1", served=False),
    ]
    assert made["spec"]["conversion"] == {"strategy": "None"}


def test_unknown_version_without_stored_objects_goes() -> None:
    current = original()
    current["status"] = {"storedVersions": ["v1alpha2"]}
    made = crd_merge(crd(), version="2.0.0")(current)
    assert [one["name"] for one in made["spec"]["versions"]] == ["v1alpha2"]


@pytest.mark.parametrize(
    ("stamp", "version", "answer"),
    [
        pytest.param("2.1.0", "2.0.0", True, id="later"),
        pytest.param("v2.0.1", "2.0.0.dev0", True, id="later-patch"),
        pytest.param("2.0.0", "2.0.0", False, id="equal"),
        pytest.param("v1.2.4", "2.0.0", False, id="original"),
        pytest.param("2.0.0-rc.1", "2.0.0", False, id="release-candidate"),
        pytest.param("2.10.0", "2.9.0", True, id="by-number"),
        pytest.param("latest-main", "2.0.0", False, id="no-version"),
        pytest.param("", "2.0.0", False, id="no-stamp"),
        pytest.param("9.0.0", "main", False, id="we-do-not-know-ourselves"),
    ],
)
def test_stamps_are_compared_as_releases(stamp: str, version: str, answer: bool) -> None:
    assert is_newer(stamp, version) is answer


def test_definition_of_a_newer_release_is_left_alone() -> None:
    current = crd(version("v1beta1", storage=True))
    current["metadata"]["labels"]["openservicemesh.io/reconcile"] = "2.1.0"
    assert crd_merge(crd(), version="2.0.0")(current) is current


# Applying


def test_applying_twice_writes_once() -> None:
    cluster = FakeCluster()
    wanted = [crd(name="b.example.com"), crd(name="a.example.com")]
    apply_crds(cluster, wanted, version="2.0.0")
    apply_crds(cluster, wanted, version="2.0.0")
    assert [call for call in cluster.calls if call[0] != "read"] == [
        ("create", "CustomResourceDefinition b.example.com"),
        ("create", "CustomResourceDefinition a.example.com"),
    ]


class Slow(FakeCluster):
    """Serves no definition; its status says ``why``, or it is being deleted."""

    def __init__(self, *, why: str = "", deleting: bool = False) -> None:
        super().__init__()
        self.why, self.deleting = why, deleting

    def read(self, ref: Any) -> RawObject | None:
        found = super().read(ref)
        if found is None:
            return {"metadata": {"deletionTimestamp": "now"}} if self.deleting else None
        refused = {"type": "NamesAccepted", "status": "False", "message": self.why}
        return {**found, "status": {"conditions": [refused] if self.why else None}}


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        pytest.param(Slow(), "does not serve .* things.example.com: it gives no", id="no-reason"),
        pytest.param(Slow(why="short name taken"), "short name taken", id="with-its-reason"),
        pytest.param(Slow(deleting=True), "is still being deleted", id="being-deleted"),
    ],
)
def test_definition_that_is_not_served_in_time_is_named(cluster: Slow, message: str) -> None:
    with pytest.raises(KubernetesError, match=message):
        apply_crds(cluster, [crd()], version="2.0.0", timeout_seconds=0.05)
