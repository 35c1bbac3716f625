"""What the validation listener knows: what was written before the question, though just before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta

import factory
import pytest
from fakes.source import FakeSource
from fakes.writer import FakeWriter
from fastapi.testclient import TestClient

from app.controller.runtime import Runtime
from app.main import body_budget, create_validation
from app.objects.meta import RawObject
from app.ports import Compute
from app.settings import Settings

HOURS = timedelta(hours=1)
TARGET = factory.traffic_target("shop/web", to="web", sources=["web.shop"], groups=["routes"])


@pytest.fixture
def source() -> FakeSource:
    return FakeSource(factory.namespace("shop"), factory.account("shop/web"))


@pytest.fixture
def validator(source: FakeSource) -> Iterator[TestClient]:
    """The listener of a control plane that holds changes back for an hour."""
    settings = Settings(ads_host="127.0.0.1", ads_port=0, quiet_time=HOURS, longest_wait=HOURS)
    compute = Compute(source=source, writer=FakeWriter(), envoy_admin=None)
    runtime = Runtime(settings, compute)
    runtime.start()
    with TestClient(create_validation(runtime, body_budget())) as client:
        yield client
    runtime.stop()


def warnings(validator: TestClient, raw: RawObject) -> list[str]:
    request = {"uid": "1", "operation": "CREATE", "namespace": "shop", "object": raw}
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    headers = {"content-type": "application/json"}
    answer = validator.post("/validate", content=json.dumps(review), headers=headers).json()
    assert answer["response"]["allowed"]
    return list(answer["response"].get("warnings", ()))


def test_what_is_missing_is_warned_about(validator: TestClient) -> None:
    (warning,) = warnings(validator, TARGET)
    assert "no HTTPRouteGroup 'routes'" in warning


def test_what_was_written_a_moment_ago_is_not_missing(
    source: FakeSource, validator: TestClient
) -> None:
    source.put(factory.route_group("shop/routes", all=".*"))
    assert warnings(validator, TARGET) == []
