"""Policy objects of the mesh to the snapshot's ``policies`` part, and what is wrong with them.

``refresh`` calls it when an object of the table, a route, a Service or the MeshConfig changed. Each
kind has a module of its own beside this one, which gets a :class:`PolicySource` and returns its
field and its findings. One tie rule for all: the oldest object wins, then the name, then the
namespace (data-plane 4); the loser is a finding.
"""

from __future__ import annotations

from app.mesh.findings import Finding
from app.mesh.policies.denials import denials_in_force
from app.mesh.policies.egress import egress_in_force
from app.mesh.policies.ingress import ingress_in_force
from app.mesh.policies.part import Policies
from app.mesh.policies.retries import retries_in_force
from app.mesh.policies.source import PolicySource
from app.mesh.policies.upstreams import upstreams_in_force


def read_policies(source: PolicySource) -> tuple[Policies, tuple[Finding, ...]]:
    """What is in force, and what is not and why."""
    upstreams, wrong_upstreams = upstreams_in_force(source)
    retries, wrong_retries = retries_in_force(source)
    egress, wrong_egress = egress_in_force(source)
    ingress, wrong_ingress = ingress_in_force(source)
    denials, wrong_denials = denials_in_force(source)
    found = Policies(
        upstreams=upstreams, retries=retries, egress=egress, ingress=ingress, denials=denials
    )
    findings = (*wrong_upstreams, *wrong_retries, *wrong_egress, *wrong_ingress, *wrong_denials)
    return found, findings
