"""What an API server serves, and the URLs of it; pure.

Discovery documents of one group and version (``APIResourceList``) come in, paths go out, to
``kube_client``. One document at a time is asked for: a broken aggregated API elsewhere does not
matter. Source: the Kubernetes API reference, “API Concepts”.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from app.objects.meta import RawObject
from app.ports import ServerVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedKind:
    """A kind in one version, as the server names it in URLs."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool
    subresources: frozenset[str] = frozenset()

    def path(self, *, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of all objects, of those in a namespace, or of one (or a part of it)."""
        parts = [group_path(self.api_version)]
        if self.namespaced and namespace:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        parts += [quote(part, safe="") for part in (name, subresource) if part]
        return "/".join(parts)


def group_path(api_version: str) -> str:
    """The URL path of a group and version; ``v1`` is the core group."""
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def parse_kinds(document: RawObject, api_version: str) -> Mapping[str, ServedKind]:
    """The kinds of one discovery document, by name; the first plural of a kind counts."""
    entries = [entry for entry in document.get("resources") or [] if entry.get("kind")]
    parts: dict[str, set[str]] = {}
    for entry in entries:
        plural, _, subresource = entry["name"].partition("/")
        parts.setdefault(plural, set()).update({subresource} - {""})
    found: dict[str, ServedKind] = {}
    for entry in entries:
        if "/" not in entry["name"]:
            served = ServedKind(
                api_version=api_version,
                kind=entry["kind"],
                plural=entry["name"],
                namespaced=bool(entry.get("namespaced")),
                subresources=frozenset(parts[entry["name"]]),
            )
            found.setdefault(served.kind, served)
    return found


def parse_version(document: RawObject) -> ServerVersion:
    """The release; vendors write minor numbers such as ``29+``."""
    major, minor = (_leading_number(document.get(part)) for part in ("major", "minor"))
    return ServerVersion(major=major, minor=minor, text=str(document.get("gitVersion") or ""))


def _leading_number(text: object) -> int:
    digits = str(text or "")
    end = next((at for at, letter in enumerate(digits) if not letter.isdigit()), len(digits))
    return int(digits[:end] or 0)
