"""One YAML file → documents that know the line of every field.

``local`` calls this for each file of ``-f DIR``. Values are what ``kubectl`` would send: JSON types
only, so dates stay text; a key given twice, a foreign tag and a runaway alias are refused with
``file:line``. Kubernetes reads YAML 1.1; ``kind: List`` stands for its items.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from app.objects.meta import RawObject, Rejected

READ_CODE = "E3002"
MAX_FILE_BYTES = 4 * 1024 * 1024
_MAX_VALUES = 200_000
"""Values of one document with aliases spelled out; more is a mistake or an attack."""
_MAX_DEPTH = 100
_TAG = "tag:yaml.org,2002:"
_MERGE_TAG = f"{_TAG}merge"
_PLAIN_TAGS = {f"{_TAG}{name}" for name in ("null", "bool", "int", "float")}
_TEXT_TAGS = {f"{_TAG}{name}" for name in ("str", "timestamp", "value")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One object as written, and where."""

    raw: RawObject
    source: str
    node: yaml.Node = field(repr=False)

    @property
    def where(self) -> str:
        """``file:line`` of the document's first line."""
        return f"{self.source}:{_line(self.node)}"

    def where_of(self, path: str) -> str:
        """``file:line`` of a field such as ``spec.backends[0].weight``, or its parent."""
        return f"{self.source}:{_line_of(self.node, path)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileContent:
    """What one file says. ``broken``: it does not parse, so nothing is known of its documents."""

    documents: tuple[Document, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    broken: bool = False


class _BadValueError(Exception):
    """A YAML value that is no JSON value."""

    def __init__(self, node: yaml.Node, reason: str) -> None:
        super().__init__(reason)
        self.node = node
        self.reason = reason


def read_documents(text: str, source: str) -> FileContent:
    """The documents of a file in order; those that cannot be read are rejected one by one."""
    loader = yaml.CSafeLoader(text)
    documents: list[Document] = []
    rejected: list[Rejected] = []
    try:
        while loader.check_node():
            node = loader.get_node()
            try:
                if node is not None:
                    documents.extend(_documents(loader, node, source))
            except _BadValueError as error:
                where = f"{source}:{_line(error.node)}"
                rejected.append(Rejected(where=where, reason=error.reason, code=READ_CODE))
    except yaml.YAMLError as error:
        return FileContent(rejected=(_broken(error, text, source),), broken=True)
    except RecursionError:
        reason = (
            "the file is nested too deeply; it has no effect, what was read before stays in force"
        )
        return FileContent(
            rejected=(Rejected(where=f"{source}:1", reason=reason, code=READ_CODE),), broken=True
        )
    finally:
        loader.dispose()
    return FileContent(documents=tuple(documents), rejected=tuple(rejected))


def _documents(loader: yaml.CSafeLoader, node: yaml.Node, source: str) -> Iterator[Document]:
    value = _Values(loader).value(node, 0)
    if value is None:
        return
    if not isinstance(value, dict):
        raise _BadValueError(
            node, "is not a Kubernetes object; a document is a mapping with apiVersion and kind"
        )
    if not str(value.get("kind", "")).endswith("List") or "items" not in value:
        yield Document(raw=value, source=source, node=node)
        return
    items = _child(node, "items")
    if not isinstance(items, yaml.SequenceNode):
        raise _BadValueError(items or node, "the items of a List must be a sequence of objects")
    for raw, item in zip(value["items"], items.value, strict=True):
        if not isinstance(raw, dict):
            raise _BadValueError(item, "is not a Kubernetes object; an item of a List is a mapping")
        yield Document(raw=raw, source=source, node=item)


class _Values:
    """Turns the nodes of one document into JSON values, counting them."""

    def __init__(self, loader: yaml.CSafeLoader) -> None:
        self._loader = loader
        self._count = 0

    def value(self, node: yaml.Node, depth: int) -> object:
        """The JSON value of a node."""
        self._count += 1
        if self._count > _MAX_VALUES or depth > _MAX_DEPTH:
            raise _BadValueError(node, "the document is too large once its aliases are spelled out")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, depth + 1) for item in node.value]
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, object]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _BadValueError(key, "the key of a mapping must be plain text")
            if key.value in seen:
                raise _BadValueError(key, f"the key {key.value!r} is given twice; remove one")
            seen.add(key.value)
        own: dict[str, object] = {}
        merged: dict[str, object] = {}
        for key, item in node.value:
            if key.tag == _MERGE_TAG:
                merged = self._merged(item, depth)
            else:
                own[str(key.value)] = self.value(item, depth + 1)
        return {**merged, **own}

    def _merged(self, node: yaml.Node, depth: int) -> dict[str, object]:
        """What ``<<`` brings in. The library's own way multiplies before anybody can count."""
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, object] = {}
        for part in reversed(parts):  # the first wins
            value = self.value(part, depth + 1)
            if not isinstance(value, dict):
                raise _BadValueError(part, "<< takes a mapping, or a sequence of mappings")
            merged.update(value)
        return merged

    def _scalar(self, node: yaml.Node) -> object:
        if node.tag in _TEXT_TAGS:
            return str(node.value)
        if node.tag not in _PLAIN_TAGS:
            raise _BadValueError(node, f"the tag {node.tag!r} is not supported; write plain YAML")
        try:
            value = self._loader.construct_object(node)
        except ValueError as error:
            raise _BadValueError(node, f"{node.value!r} is no number: {error}") from error
        if isinstance(value, float) and not math.isfinite(value):
            raise _BadValueError(node, f"{node.value!r} is not a finite number")
        plain: object = value
        return plain


def _broken(error: yaml.YAMLError, text: str, source: str) -> Rejected:
    line, problem = 1, " ".join(str(error).split())
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        last = text.rstrip().count("\n")
        line = min(mark.line, last) + 1 if mark is not None else 1
        problem = ", ".join(part for part in (error.context, error.problem) if part)
    reason = f"is not YAML: {problem}; the file has no effect, what was read before stays in force"
    return Rejected(where=f"{source}:{line}", reason=reason, code=READ_CODE)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _line_of(node: yaml.Node, path: str) -> int:
    """The line on which a reader finds the field: that of its key, or of the item in a sequence.

    Keys may hold dots, so the longest key that fits is taken.
    """
    line, rest = _line(node), path.strip(".")
    while rest:
        step = _item(node, rest) if rest.startswith("[") else _field(node, rest)
        if step is None:
            break
        line, node, rest = step
    return line


def _item(node: yaml.Node, rest: str) -> tuple[int, yaml.Node, str] | None:
    number, _, after = rest[1:].partition("]")
    if not isinstance(node, yaml.SequenceNode) or not number.isdigit():
        return None
    if int(number) >= len(node.value):
        return None
    item = node.value[int(number)]
    return _line(item), item, after.lstrip(".")


def _field(node: yaml.Node, rest: str) -> tuple[int, yaml.Node, str] | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    fitting = [
        (key, value)
        for key, value in node.value
        if rest.startswith(key.value) and rest[len(key.value) :][:1] in ("", ".", "[")
    ]
    if not fitting:
        return None
    key, value = max(fitting, key=lambda pair: len(pair[0].value))
    return _line(key), value, rest[len(key.value) :].lstrip(".")


def _child(node: yaml.Node, name: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for key, value in node.value if key.value == name), None)
