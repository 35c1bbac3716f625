"""Each invalid example is refused by the cluster with the words that the example promises."""

import pytest
from e2e.node.cluster_node import CHECKOUT, ClusterNode

pytestmark = [pytest.mark.root, pytest.mark.envoy, pytest.mark.node]

EXAMPLES = sorted((CHECKOUT / "examples" / "invalid").glob("*.yaml"))
PROMISE = "# refused: "


@pytest.mark.parametrize("example", [pytest.param(e, id=e.stem) for e in EXAMPLES])
def test_example_is_refused_with_the_promised_words(example, bookstore: ClusterNode) -> None:
    promised = [
        line.removeprefix(PROMISE)
        for line in example.read_text().splitlines()
        if line.startswith(PROMISE)
    ]
    assert promised, f"{example.name} promises nothing"
    refusal = bookstore.refusal("apply", "-f", str(example))
    for words in promised:
        assert words in refusal
