"""What ``osm namespace list`` says of a namespace."""

from __future__ import annotations

import factory
import pytest

from app.cli.namespace import row_of

ENABLED = {"openservicemesh.io/sidecar-injection": "enabled"}


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        pytest.param({}, "enabled", id="enabled"),
        pytest.param({"openservicemesh.io/ignore": "no"}, "disabled (ignored)", id="ignored"),
        pytest.param({"control-plane": "x"}, "disabled (ignored)", id="of-a-control-plane"),
    ],
)
def test_injection_is_told_as_the_webhooks_see_it(labels: dict[str, str], said: str) -> None:
    raw = factory.namespace("shop", labels=labels, annotations=ENABLED)
    assert row_of(raw) == {"namespace": "shop", "mesh": "osm", "sidecar_injection": said}
