"""What the admission webhook would make of a Pod, told and shown; pure.

The same decision and the same plan as in the controller, with a placeholder for the certificate
that only a control plane can issue. Used by ``osm inject --explain``.
Specification: kubernetes-surface 3.2, 3.5–3.7 and 10.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from app.cli.templates import Template
from app.errors import InjectionError
from app.inject.decide import Inject, Skip, decide, explain, read_namespace
from app.inject.plan import InjectionOptions, NewSidecar, plan
from app.inject.pod import ENVOY_CONTAINER, INIT_CONTAINER
from app.inject.secret import Credentials
from app.objects.config import MeshConfigSpec
from app.objects.meta import RawObject
from xds.policy.proxy import KeyPair, TrustBundle

PLACEHOLDER_UUID: Final = "00000000-0000-4000-8000-000000000000"
_PLACEHOLDER = Credentials(
    key_pair=KeyPair(certificate_chain=b"issued on admission", private_key=b"made on admission"),
    trust=TrustBundle(roots=b"known on admission"),
    expires=datetime(1970, 1, 1, tzinfo=UTC),
    signing_issuer_id="",
    validating_issuer_id="",
)
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_RULE_SIGNS = ("-A ", "-I ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which mesh is meant, and what it adds to every Pod."""

    osm_namespace: str
    config: MeshConfigSpec
    options: InjectionOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """What becomes of the Pods of one workload."""

    template: Template
    outcome: str
    """inject, skip or refuse."""
    reasons: tuple[str, ...]
    """What was asked, one sentence each; the last is the decision."""
    containers: tuple[RawObject, ...] = field(default=(), repr=False)
    """Those that are added: name, init, image and ports."""
    probes: tuple[RawObject, ...] = ()
    """Those that ask the sidecar instead: container, probe, before and after."""
    rules: tuple[str, ...] = ()
    """What ``osm-init`` tells iptables about the Pod's traffic, in order."""

    def as_json(self) -> RawObject:
        """The same for programs."""
        return {
            "kind": self.template.kind,
            "namespace": self.template.namespace,
            "name": self.template.name,
            "where": self.template.where,
            "outcome": self.outcome,
            "reasons": list(self.reasons),
            "containers": list(self.containers),
            "probes": list(self.probes),
            "rules": list(self.rules),
        }

    def lines(self) -> Iterator[str]:
        """The same for people."""
        yield f"{self.template} ({self.template.where}): {self.outcome}"
        yield from (f"  {reason}" for reason in self.reasons)
        for added in self.containers:
            kind = "init container" if added["init"] else "container"
            ports = ", ".join(str(port) for port in added["ports"]) or "none"
            yield f"  added: {kind} {added['name']}, image {added['image']}, ports {ports}"
        for moved in self.probes:
            yield (
                f"  probe: {moved['probe']} of {moved['container']}: "
                f"{moved['before']} is asked through the sidecar at {moved['after']}"
            )
        yield from (f"  iptables: {rule}" for rule in self.rules)


def explain_template(template: Template, namespace: RawObject | None, scope: Scope) -> Explained:
    """What the webhook would do; ``namespace`` as the API server shows it, None: there is none."""
    options = scope.options
    reasons = explain(
        template.pod, namespace, mesh_name=options.mesh_name, osm_namespace=scope.osm_namespace
    )
    try:
        decision = _decided(template, namespace, scope)
        if isinstance(decision, Skip):
            return Explained(template=template, outcome="skip", reasons=reasons)
        if decision.previous is not None:
            # A copy has its containers already, and only a cluster has the Secret it starts from.
            return Explained(template=template, outcome="inject", reasons=reasons)
        after = _planned(template.pod, decision, scope)
    except InjectionError as error:
        told = reasons if str(error) in reasons[-1] else (*reasons, f"The Pod is refused: {error}.")
        return Explained(template=template, outcome="refuse", reasons=told)
    return Explained(
        template=template,
        outcome="inject",
        reasons=reasons,
        containers=tuple(_added(after)),
        probes=tuple(_moved(template.pod, after)),
        rules=tuple(_rules(after)),
    )


def _decided(template: Template, namespace: RawObject | None, scope: Scope) -> Inject | Skip:
    shown = read_namespace(namespace, name=template.namespace, mesh_name=scope.options.mesh_name)
    return decide(
        template.pod,
        shown,
        namespace_name=template.namespace,
        osm_namespace=scope.osm_namespace,
    )


def _planned(pod: RawObject, decision: Inject, scope: Scope) -> RawObject:
    sidecar = NewSidecar(uuid=PLACEHOLDER_UUID, credentials=_PLACEHOLDER)
    made = plan(pod, decision, sidecar=sidecar, config=scope.config, options=scope.options)
    return made.pod


def _added(pod: RawObject) -> Iterator[RawObject]:
    for place in ("initContainers", "containers"):
        for container in pod["spec"].get(place) or ():
            if container["name"] in (INIT_CONTAINER, ENVOY_CONTAINER):
                ports = [port["containerPort"] for port in container.get("ports") or ()]
                yield {
                    "name": container["name"],
                    "init": place == "initContainers",
                    "image": container["image"],
                    "ports": ports,
                }


def _moved(before: RawObject, after: RawObject) -> Iterator[RawObject]:
    # The sidecar is added last, so what was there keeps its position.
    for old, new in zip(before["spec"]["containers"], after["spec"]["containers"], strict=False):
        for name in _PROBES:
            if old.get(name) != new.get(name):
                yield {
                    "container": old["name"],
                    "probe": name,
                    "before": _question(old[name]),
                    "after": _question(new[name]),
                }


def _question(probe: dict[str, Any]) -> str:
    if "httpGet" in probe:
        asked = probe["httpGet"]
        scheme = str(asked.get("scheme") or "HTTP").lower()
        return f"{scheme} port {asked['port']} {asked.get('path') or '/'}"
    for action in ("tcpSocket", "grpc"):
        if action in probe:
            return f"{action} port {probe[action]['port']}"
    return "exec"


def _rules(pod: RawObject) -> Iterator[str]:
    for container in pod["spec"]["initContainers"]:
        if container["name"] == INIT_CONTAINER:
            script = container["args"][-1]
            yield from (line for line in script.splitlines() if line.startswith(_RULE_SIGNS))
