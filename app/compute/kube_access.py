"""Who may use the admin API in a cluster: asked of the API server, remembered for seconds.

A bearer token is reviewed (TokenReview), then whether its owner may ``get`` or ``update`` the
MeshConfig of this mesh (SubjectAccessReview): whoever may read or change that may read or change
the mesh. Implements ``Authenticator``; called by ``app.deps``. Source: kubernetes-surface 8.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.errors import ForbiddenError, KubernetesError, UnauthenticatedError
from app.objects.meta import RawObject
from app.ports import Caller, Cluster

_GROUP = "config.openservicemesh.io"
_RESOURCE = "meshconfigs"
_ALLOWED_SECONDS = 10.0
_REFUSED_SECONDS = 1.0
_MOST_REMEMBERED = 1000
_LONGEST_TOKEN = 16 * 1024
_HOW = "send the token of a cluster user: Authorization: Bearer <token>"

Verdict = Caller | UnauthenticatedError | ForbiddenError


@dataclass(frozen=True, slots=True, kw_only=True)
class _Remembered:
    until: float
    verdict: Verdict


class KubeAuthenticator:
    """Asks the API server about tokens; never keeps one. Thread-safe."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        osm_namespace: str,
        config_name: str,
        as_bearer: Callable[[str], Cluster],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``as_bearer`` gives the cluster as the owner of a token may use it."""
        self._cluster = cluster
        self._osm_namespace = osm_namespace
        self._config_name = config_name
        self._as_bearer = as_bearer
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._remembered: dict[tuple[bytes, str], _Remembered] = {}

    def caller(self, token: str, verb: str) -> Caller:
        """The token's owner, who may ``get`` (read) or ``update`` (write) the mesh.

        Raises ``UnauthenticatedError``, ``ForbiddenError``, ``UnreachableError``.
        """
        verdict = self._verdict(token, verb)
        if isinstance(verdict, Caller):
            return verdict
        # A copy: a raised error collects the traceback of whoever raises it.
        raise type(verdict)(str(verdict))

    def cluster_as(self, token: str) -> Cluster:
        """The API server as the token's owner may use it; asks nothing by itself."""
        return self._as_bearer(token)

    def _verdict(self, token: str, verb: str) -> Verdict:
        if not token or len(token) > _LONGEST_TOKEN or not token.isascii():
            return UnauthenticatedError(f"no token that could be checked: {_HOW}")
        key = (hashlib.sha256(token.encode()).digest(), verb)
        with self._lock:
            known = self._remembered.get(key)
        if known is not None and self._monotonic() < known.until:
            return known.verdict
        verdict = self._ask(token, verb)
        self._remember(key, verdict)
        return verdict

    def _ask(self, token: str, verb: str) -> Verdict:
        user = self._review("TokenReview", "authentication.k8s.io/v1", {"token": token})
        if not user.get("authenticated"):
            return UnauthenticatedError(f"the API server does not know this token: {_HOW}")
        who = user.get("user") or {}
        access = self._review(
            "SubjectAccessReview", "authorization.k8s.io/v1", self._access(who, verb)
        )
        name = str(who.get("username") or "")
        if not access.get("allowed"):
            return ForbiddenError(
                f"{name} may not {verb} {_RESOURCE}.{_GROUP} {self._config_name} in namespace "
                f"{self._osm_namespace}; a Role can allow it"
            )
        return Caller(name=name, groups=tuple(who.get("groups") or ()))

    def _access(self, user: RawObject, verb: str) -> RawObject:
        return {
            "user": user.get("username"),
            "uid": user.get("uid"),
            "groups": user.get("groups"),
            "extra": user.get("extra"),
            "resourceAttributes": {
                "group": _GROUP,
                "resource": _RESOURCE,
                "namespace": self._osm_namespace,
                "name": self._config_name,
                "verb": verb,
            },
        }

    def _review(self, kind: str, api_version: str, spec: RawObject) -> dict[str, Any]:
        """The review's status."""
        review = {"apiVersion": api_version, "kind": kind, "metadata": {}, "spec": spec}
        try:
            return self._cluster.create(review).get("status") or {}
        except (ForbiddenError, UnauthenticatedError) as error:
            # Ours is the right that lacks, not the caller's.
            raise KubernetesError(f"tokens cannot be checked: {error}") from error

    def _remember(self, key: tuple[bytes, str], verdict: Verdict) -> None:
        good = isinstance(verdict, Caller)
        now = self._monotonic()
        entry = _Remembered(
            until=now + (_ALLOWED_SECONDS if good else _REFUSED_SECONDS), verdict=verdict
        )
        with self._lock:
            self._remembered.pop(key, None)
            self._remembered[key] = entry
            while len(self._remembered) > _MOST_REMEMBERED:
                del self._remembered[next(iter(self._remembered))]
