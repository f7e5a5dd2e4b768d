"""Where a `$ref` leads. Only within one document: nothing is ever fetched."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from arriero.grammar.refusal import Path, refusal

VALUES = frozenset({"const", "enum", "default", "example", "examples"})
"""Below these stand values, not schemas."""

INDEX = re.compile(r"0|[1-9][0-9]{0,8}")


class Document:
    """A schema and the names in it. Values are those that `check_budget` has let pass."""

    def __init__(self, root: object, *, where: str) -> None:
        self.root = root
        self.where = where
        self.base = _base(root)
        self.anchors: dict[str, Path] = {}
        for path, node in _nodes(root):
            self._add_names(node, path)

    def target(self, reference: object, path: Path) -> Path:
        """Return the place that the `$ref` at `path` leads to. Raises InvalidRequest."""
        if not isinstance(reference, str):
            raise refusal(self.where, path, "a reference must be a text")
        document, _, fragment = reference.partition("#")
        if document not in ("", self.base):
            raise refusal(self.where, path, f"{reference[:80]} is outside this schema; only #... is followed")
        fragment = unquote(fragment)
        if fragment and not fragment.startswith("/"):
            if fragment not in self.anchors:
                raise refusal(self.where, path, f"no $anchor has the name {fragment[:80]}")
            return self.anchors[fragment]
        return self._pointed(fragment, path)

    def at(self, target: Path) -> object:
        """Return what stands at a place that `target` has given."""
        value: Any = self.root
        for part in target:
            value = value[part]
        return value

    def _pointed(self, pointer: str, path: Path) -> Path:
        found: list[str | int] = []
        value: object = self.root
        for token in pointer.split("/")[1:]:
            key = token.replace("~1", "/").replace("~0", "~")
            if isinstance(value, Mapping) and key in value:
                found.append(key)
                value = value[key]
            elif isinstance(value, (list, tuple)) and INDEX.fullmatch(key) and int(key) < len(value):
                found.append(int(key))
                value = value[int(key)]
            else:
                raise refusal(self.where, path, f"nothing stands at #{pointer[:80]}")
        return tuple(found)

    def _add_names(self, node: Mapping[str, object], path: Path) -> None:
        if isinstance(anchor := node.get("$anchor"), str):
            if anchor in self.anchors:
                raise refusal(self.where, (*path, "$anchor"), f"{anchor[:80]} is used twice")
            self.anchors[anchor] = path
        own = node.get("$id")
        if path and isinstance(own, str) and not own.startswith("#") and _has_reference(node):
            raise refusal(self.where, (*path, "$id"), "references below an inner $id cannot be followed")


def _base(root: object) -> str | None:
    if not isinstance(root, Mapping):
        return None
    own = root.get("$id", root.get("id"))
    return own.partition("#")[0] or None if isinstance(own, str) else None


def _nodes(root: object) -> Iterator[tuple[Path, Mapping[str, object]]]:
    """Yield every object that may be a schema, and its place."""
    pending: list[tuple[Path, object]] = [((), root)]
    while pending:
        path, value = pending.pop()
        if isinstance(value, Mapping):
            yield path, value
            pending.extend(((*path, key), one) for key, one in value.items() if key not in VALUES)
        elif isinstance(value, (list, tuple)):
            pending.extend(((*path, index), one) for index, one in enumerate(value))


def _has_reference(node: Mapping[str, object]) -> bool:
    return any("$ref" in inner or "$anchor" in inner for _, inner in _nodes(node))
