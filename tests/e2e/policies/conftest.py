"""One mesh on this machine for all tests of this folder; each takes its policies back.

``shop`` has servers ``web`` (in two versions behind one Service, too) and ``feed``, and clients
``buyer`` and ``visitor``; ``outside`` has servers that are not of the mesh.
"""

from collections.abc import Iterator

import pytest
from e2e.policies.policy_mesh import PolicyMesh, pod_python


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PolicyMesh]:
    """The mesh is up, permissive, without egress, and no policy is in force."""
    with pod_python() as python:
        found = PolicyMesh(tmp_path_factory.mktemp("policies"), python)
        try:
            found.up()
            yield found
        finally:
            found.down()
