"""Whatever is asked, the admin API answers as its OpenAPI document says, and never with a 5xx."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from app.controller.runtime import Runtime
from app.main import create_api

ALONE = {"Host": "127.0.0.1"}
WITH_TOKEN = {"Authorization": "Bearer writer"}


def ask_everything(runtime: Runtime, headers: dict[str, str], *, examples: int) -> int:
    document = schemathesis.openapi.from_asgi("/openapi.json", create_api(runtime), headers=headers)
    operations = [found.ok() for found in document.get_all_operations()]
    for operation in operations:

        @given(case=operation.as_strategy())
        @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
        def asks(case: schemathesis.Case) -> None:
            case.call_and_validate(headers=headers)

        asks()
    return len(operations)


def test_answers_are_as_documented(runtime: Runtime) -> None:
    assert ask_everything(runtime, ALONE, examples=20) >= 20


@pytest.mark.usefixtures("in_cluster")
def test_answers_in_a_cluster_are_as_documented(runtime: Runtime) -> None:
    assert ask_everything(runtime, WITH_TOKEN, examples=10) >= 25
