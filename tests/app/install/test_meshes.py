"""Meshes, found by the labels of Deployments and namespaces."""

from __future__ import annotations

import factory

from app.install.meshes import Mesh, meshes_of
from app.objects.meta import RawObject


def deployment(path: str, app: str, mesh: str, **labels: str) -> RawObject:
    return factory.raw(
        "Deployment",
        path,
        api="apps/v1",
        meta={"labels": {"app": app, "meshName": mesh, **labels}},
    )


def member(name: str, mesh: str) -> RawObject:
    return factory.raw(
        "Namespace", name, meta={"labels": {"openservicemesh.io/monitored-by": mesh}}
    )


def test_each_controller_is_a_mesh_with_its_members() -> None:
    version = {"app.kubernetes.io/version": "v1.2.4"}
    deployments = [
        deployment("two/osm-controller", "osm-controller", "two", enforceSingleMesh="false"),
        deployment("one/osm-controller", "osm-controller", "one", **version),
        deployment("one/osm-bootstrap", "osm-bootstrap", "one"),
        deployment("one/osm-prometheus", "osm-prometheus", "one"),
    ]
    namespaces = [member("shop", "two"), member("books", "two"), member("x", "gone")]
    assert meshes_of(deployments, namespaces) == (
        Mesh(name="one", namespace="one", version="v1.2.4", is_original=True),
        Mesh(name="two", namespace="two", members=("books", "shop")),
    )


def test_a_cluster_without_controllers_has_no_mesh() -> None:
    assert meshes_of([], [member("shop", "osm")]) == ()
