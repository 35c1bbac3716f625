"""Rules for TrafficDeny.

What would deny nothing of what it says is refused; what denies more than it says is a warning, as
``app/mesh/policies/denials.py`` decides it.
"""

from __future__ import annotations

from collections.abc import Iterator

from app.objects.access import TrafficDeny
from app.objects.smi import HTTPRouteGroup, Subject, TCPRoute
from app.validate.context import Context
from app.validate.verdict import Remark, refuse, warn

_ACCOUNT = "ServiceAccount"
_ALL = "all traffic of the sources is denied until there is one"


def traffic_deny(new: TrafficDeny, _: TrafficDeny | None, context: Context) -> Iterator[Remark]:
    """A TrafficDeny speaks for accounts of its own namespace only."""
    own, destination = new.namespace, new.spec.destination
    yield from _no_account("spec.destination", destination)
    if destination.namespace not in ("", own):
        reason = f"must be {own!r}, that of the TrafficDeny, not {destination.namespace!r}"
        yield refuse("spec.destination.namespace", f"{reason}: correct it")
    for index, source in enumerate(new.spec.sources):
        yield from _no_account(f"spec.sources[{index}]", source)
        namespace = source.namespace or own
        yield from context.absent_account(f"spec.sources[{index}].name", namespace, source.name)
    yield from _routes(new, context)


def _no_account(field: str, named: Subject) -> Iterator[Remark]:
    if named.kind != _ACCOUNT:
        yield refuse(f"{field}.kind", f"must be {_ACCOUNT}, not {named.kind!r}: correct it")


def _routes(new: TrafficDeny, context: Context) -> Iterator[Remark]:
    models = {"HTTPRouteGroup": HTTPRouteGroup, "TCPRoute": TCPRoute}
    for index, ref in enumerate(new.spec.rules):
        field, model = f"spec.rules[{index}]", models.get(ref.kind)
        if model is None:
            reason = f"must be HTTPRouteGroup or TCPRoute, not {ref.kind!r}: correct it"
            yield refuse(f"{field}.kind", reason)
        elif context.knows(new.namespace) and not context.objects.get(
            model, new.namespace, ref.name
        ):
            reason = f"there is no {ref.kind} {ref.name!r} in this namespace: {_ALL}"
            yield warn(f"{field}.name", reason)
