"""Whatever is asked, the admin API answers as its OpenAPI document says, and never with a 5xx."""

import schemathesis
from hypothesis import HealthCheck, given, settings

from app.controller.runtime import Runtime
from app.main import create_api

HOST = {"Host": "127.0.0.1"}


def test_answers_are_as_documented(runtime: Runtime) -> None:
    document = schemathesis.openapi.from_asgi("/openapi.json", create_api(runtime), headers=HOST)
    operations = [found.ok() for found in document.get_all_operations()]
    assert len(operations) >= 12
    for operation in operations:

        @given(case=operation.as_strategy())
        @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
        def asks(case: schemathesis.Case) -> None:
            case.call_and_validate(headers=HOST)

        asks()
