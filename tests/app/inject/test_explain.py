"""The way to a decision, in sentences for ``osm inject --explain``."""

from __future__ import annotations

import factory
import pytest
from injections import pod

from app.inject.decide import explain
from app.objects.meta import RawObject

SWITCH = "openservicemesh.io/sidecar-injection"
ENABLED = factory.namespace("shop", annotations={SWITCH: "enabled"})
MONITORED = "Namespace shop is monitored by mesh osm."
OWN_NETWORK = "The Pod's network is its own."
NO_ANNOTATION = f"The Pod's own annotation {SWITCH} is not set."


@pytest.mark.parametrize(
    ("raw", "namespace", "sentences"),
    [
        pytest.param(
            pod(spec={"serviceAccountName": "cart"}),
            ENABLED,
            (
                OWN_NETWORK,
                MONITORED,
                f"Its annotation {SWITCH} is 'enabled'.",
                NO_ANNOTATION,
                (
                    "The Pod gets a sidecar and runs as cart.shop; its metrics are not announced "
                    "to Prometheus."
                ),
            ),
            id="injected",
        ),
        pytest.param(
            pod(spec={"hostNetwork": True}),
            factory.namespace("shop"),
            (
                "The Pod's network is that of its host.",
                MONITORED,
                f"Its annotation {SWITCH} is not set.",
                NO_ANNOTATION,
                "The Pod gets no sidecar: the Pod is on the network of its host.",
            ),
            id="host-network",
        ),
        pytest.param(
            pod(annotations={SWITCH: "yes"}),
            factory.namespace("shop", monitored=False),
            (
                OWN_NETWORK,
                "Namespace shop has no label openservicemesh.io/monitored-by: osm.",
                f"The Pod's own annotation {SWITCH} is 'yes'.",
                "The Pod gets no sidecar: namespace shop is not monitored by this mesh.",
            ),
            id="not-monitored",
        ),
        pytest.param(
            pod(),
            factory.namespace("shop", labels={"openservicemesh.io/ignore": "true"}),
            (
                OWN_NETWORK,
                (
                    "Namespace shop is monitored by mesh osm, but has the label "
                    "openservicemesh.io/ignore."
                ),
                f"Its annotation {SWITCH} is not set.",
                NO_ANNOTATION,
                "The Pod gets no sidecar: namespace shop has the label openservicemesh.io/ignore.",
            ),
            id="ignored",
        ),
        pytest.param(
            pod(),
            factory.namespace("shop", labels={"control-plane": "x"}, annotations={SWITCH: "yes"}),
            (
                OWN_NETWORK,
                "Namespace shop is monitored by mesh osm, but has the label control-plane.",
                f"Its annotation {SWITCH} is 'yes'.",
                NO_ANNOTATION,
                "The Pod gets no sidecar: namespace shop has the label control-plane.",
            ),
            id="left-alone-by-the-webhooks",
        ),
        pytest.param(
            pod(annotations={SWITCH: "maybe"}),
            ENABLED,
            (
                OWN_NETWORK,
                MONITORED,
                f"Its annotation {SWITCH} is 'enabled'.",
                f"The Pod's own annotation {SWITCH} is 'maybe'.",
                (
                    f"The Pod is refused: Pod annotation {SWITCH}: 'maybe' is unknown; write "
                    "enabled or disabled."
                ),
            ),
            id="refused",
        ),
        pytest.param(
            pod(namespace="gone"),
            None,
            ("The Pod is refused: namespace gone not found; try again when it exists.",),
            id="no-namespace",
        ),
        pytest.param(
            {"metadata": {}},
            ENABLED,
            ("The Pod is refused: Pod field spec: Field required.",),
            id="no-pod",
        ),
    ],
)
def test_each_question_has_its_sentence(
    raw: RawObject, namespace: RawObject | None, sentences: tuple[str, ...]
) -> None:
    assert explain(raw, namespace, mesh_name="osm", osm_namespace="osm-system") == sentences
