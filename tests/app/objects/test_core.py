"""What the views of Kubernetes' own objects tell beyond their fields."""

from __future__ import annotations

from typing import Any

import factory
import pytest

from app.objects.core import EndpointConditions, EndpointSlice, Pod, Service
from app.objects.meta import ObjectKey, ObjectKind, selects
from app.objects.scheme import decode


def pod(**fields: Any) -> Pod:
    _, view = decode(factory.pod("shop/web", **fields))
    assert isinstance(view, Pod)
    return view


def service(**fields: Any) -> Service:
    _, view = decode(factory.service("shop/web", **fields))
    assert isinstance(view, Service)
    return view


def test_pod_without_account_runs_as_default() -> None:
    assert pod(spec={"serviceAccountName": ""}).service_account == "default"
    assert pod(account="cart").service_account == "cart"


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_finished_pod(phase: str) -> None:
    assert pod(phase=phase).finished
    assert not pod().finished


def test_host_of_a_pod_is_that_of_its_spec_else_its_name() -> None:
    assert pod(spec={"hostname": "db"}).host == "db"
    assert pod().host == "web"


def test_addresses_of_a_pod() -> None:
    raw = factory.pod("shop/web", ip="10.0.0.1")
    raw["status"]["podIPs"] = [{"ip": "10.0.0.1"}, {"ip": "FD00::1"}]
    _, view = decode(raw)
    assert isinstance(view, Pod)
    assert view.addresses == {"10.0.0.1", "fd00::1"}
    assert pod().addresses == frozenset()


def test_named_port_of_a_pod() -> None:
    raw = factory.pod("shop/web", ports={"http": 8080})
    raw["spec"]["containers"][0]["ports"].insert(
        0, {"name": "http", "containerPort": 53, "protocol": "UDP"}
    )
    raw["spec"]["initContainers"] = [{"ports": [{"name": "side", "containerPort": 9}]}]
    _, view = decode(raw)
    assert isinstance(view, Pod)
    found = [view.port_number(name) for name in ("http", "side", "none")]
    assert found == [8080, 9, None]


@pytest.mark.parametrize(
    ("spec", "addresses"),
    [
        pytest.param({"clusterIP": "10.96.0.1"}, ("10.96.0.1",), id="one"),
        pytest.param(
            {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"]},
            ("10.96.0.1", "fd00::1"),
            id="two-families",
        ),
        pytest.param({"clusterIP": "None", "clusterIPs": ["None"]}, (), id="headless"),
        pytest.param({"clusterIP": ""}, (), id="not-given-one"),
    ],
)
def test_addresses_of_a_service(spec: dict[str, Any], addresses: tuple[str, ...]) -> None:
    found = service(spec=spec)
    assert (found.addresses, found.headless) == (addresses, not addresses)


@pytest.mark.parametrize(
    ("conditions", "ready", "draining"),
    [
        pytest.param({}, True, False, id="unknown-counts-as-ready"),
        pytest.param({"ready": False}, False, False, id="not-ready"),
        pytest.param(
            {"ready": False, "serving": True, "terminating": True}, False, True, id="draining"
        ),
        pytest.param(
            {"ready": False, "serving": False, "terminating": True}, False, False, id="gone"
        ),
    ],
)
def test_conditions_of_an_endpoint(
    conditions: dict[str, bool], ready: bool, draining: bool
) -> None:
    found = EndpointConditions.model_validate(conditions)
    assert (found.is_ready, found.is_draining) == (ready, draining)


def test_service_of_a_slice() -> None:
    _, view = decode(factory.endpoint_slice("shop/web-x", "web"))
    assert isinstance(view, EndpointSlice)
    assert view.service == "web"
    assert EndpointSlice().service == ""


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        pytest.param({"a": "1"}, True, id="fits"),
        pytest.param({"a": "1", "b": "3"}, False, id="one-pair-differs"),
        pytest.param({"c": "1"}, False, id="label-is-missing"),
        pytest.param({}, False, id="empty-selects-nothing"),
    ],
)
def test_selector(selector: dict[str, str], expected: bool) -> None:
    assert selects(selector, {"a": "1", "b": "2"}) is expected


def test_keys_read_as_kind_and_path() -> None:
    assert str(ObjectKey(kind=ObjectKind.POD, namespace="shop", name="web")) == "Pod shop/web"
    assert str(ObjectKey(kind=ObjectKind.NAMESPACE, name="shop")) == "Namespace shop"
