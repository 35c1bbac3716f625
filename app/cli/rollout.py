"""What ``osm install`` and ``osm mesh upgrade`` share: options, the wait, the report of a failure.

Progress is a line on standard error that rewrites itself; where that is no terminal nothing is
shown until something goes wrong. Specification: kubernetes-surface 7.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Annotated

import typer

from app.cli.output import errors, warn
from app.errors import SettingError, UnreachableError
from app.install.apply import wait_for_rollout
from app.install.deadline import Deadline
from app.install.manifests import Manifests, find_manifests, load_manifests
from app.install.overrides import Overrides
from app.install.render import CONTROLLER, Dialect, Installation, render
from app.install.status import pod_lines
from app.objects.config import parse_duration
from app.objects.meta import ObjectRef, RawObject
from app.ports import Cluster

ChartPath = Annotated[
    Path | None,
    typer.Option("--osm-chart-path", help="folder of manifests instead of those of this release"),
]
SetValues = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="a value; repeatable, or several with commas between"
    ),
]
Timeout = Annotated[
    str, typer.Option("--timeout", metavar="DURATION", help="how long to wait; 0s: without end")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be in the cluster."""

    installation: Installation
    manifests: Manifests
    overrides: Overrides

    def objects(self, dialect: Dialect, *, with_definitions: bool = False) -> list[RawObject]:
        """The objects to apply.

        Without definitions: the controller writes those when it starts, since it knows how to do
        it where objects of older ones are stored.
        """
        rendered = render(
            self.manifests.objects, self.manifests.optional, self.installation, dialect
        )
        return [
            raw for raw in rendered if with_definitions or raw["kind"] != "CustomResourceDefinition"
        ]


def make_plan(overrides: Overrides, chart_path: Path | None, namespace: str) -> Plan:
    """The plan of these values; warnings about them are told."""
    for warning in overrides.warnings:
        warn(warning)
    installation = Installation(
        values=overrides.values,
        namespace=overrides.values.osm.osm_namespace or namespace,
        # A label takes no plus sign, which a local version has.
        version=distribution_version("openservicemesh").replace("+", "-"),
    )
    manifests = load_manifests(find_manifests(chart_path))
    return Plan(installation=installation, manifests=manifests, overrides=overrides)


def dialect_of(cluster: Cluster) -> Dialect:
    """The versions of optional kinds that the server has, the newest first."""
    is_new = cluster.serves("autoscaling/v2", "HorizontalPodAutoscaler")
    has_policy = cluster.serves("policy/v1", "PodDisruptionBudget")
    return Dialect(
        autoscaling="autoscaling/v2" if is_new else "autoscaling/v2beta2",
        policy="policy/v1" if has_policy else "policy/v1beta1",
    )


def parse_timeout(text: str) -> timedelta:
    """The duration of ``--timeout``; raise ``SettingError``."""
    found = timedelta(0) if text == "0" else parse_duration(text)
    if found is None or found < timedelta(0):
        raise SettingError(f"--timeout: must be a duration such as 5m or 90s, not {text!r}")
    return found


@contextmanager
def progress(text: str) -> Iterator[Callable[[str], None]]:
    """A line that says what is going on, as long as the context lasts."""
    with errors.status(text) as status:
        yield status.update


def wait_until_ready(cluster: Cluster, namespace: str, timeout: timedelta) -> None:
    """The controller's Deployment is rolled out.

    Raise ``UnreachableError`` when it is not in time, having said what its Pods do.
    """
    ref = controller_ref(namespace)
    with progress("waiting for the controller") as told:
        done = wait_for_rollout(
            cluster,
            ref,
            lambda rollout: told(f"waiting for the controller: {rollout}"),
            Deadline(timeout),
        )
    if done:
        return
    labels = f"app={CONTROLLER}"
    pods = cluster.list("v1", "Pod", namespace=namespace, labels=labels)
    events = cluster.list("v1", "Event", namespace=namespace)
    for line in pod_lines(pods, events) or (f"{ref} has no Pods",):
        errors.print(line, soft_wrap=True)
    raise UnreachableError(
        f"{ref} was not ready within {timeout.total_seconds():.0f}s; "
        f"see `kubectl logs -n {namespace} -l {labels}`, or give it longer with --timeout"
    )


def controller_ref(namespace: str) -> ObjectRef:
    """The controller's Deployment."""
    return ObjectRef(api_version="apps/v1", kind="Deployment", namespace=namespace, name=CONTROLLER)
