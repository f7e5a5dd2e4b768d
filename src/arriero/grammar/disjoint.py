"""Whether two schemas can be shown to have no value in common.

A proof, not a search: True is certain, False means that none was found. Works on schemas as they were
written, through references, and gives up when a budget is spent.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from arriero.errors import InvalidRequest
from arriero.grammar.keywords import ALL_TYPES
from arriero.grammar.references import Document

MAX_WORK = 20_000
MAX_DEPTH = 12

Parts = list[Mapping[str, Any]]
"""Schemas that all hold for one value."""


class Disjointness:
    """The proofs about one document."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._work = 0

    def proved(self, left: object, right: object, depth: int = 0) -> bool:
        """Return whether no value conforms to both."""
        self._work += 1
        if self._work > MAX_WORK or depth > MAX_DEPTH:
            return False
        if left is False or right is False:
            return True
        ours, theirs = self._parts(left), self._parts(right)
        if self._some_choice(ours, right, depth) or self._some_choice(theirs, left, depth):
            return True
        shared = self._types(ours, depth) & self._types(theirs, depth)
        return all(self._apart(name, ours, theirs, depth) for name in shared)

    def types(self, raw: object) -> frozenset[str]:
        """Return the types that a value which conforms can have."""
        return self._types(self._parts(raw), 0)

    def _some_choice(self, parts: Parts, other: object, depth: int) -> bool:
        """Return whether all branches of one choice are apart from the other schema."""
        choices = [part[key] for part in parts for key in ("anyOf", "oneOf") if _is_list(part.get(key))]
        return any(all(self.proved(branch, other, depth + 1) for branch in choice) for choice in choices)

    def _apart(self, name: str, ours: Parts, theirs: Parts, depth: int) -> bool:
        """Return whether no value of one type conforms to both."""
        left, right = _values(name, ours), _values(name, theirs)
        if left is not None and right is not None:
            return not left & right
        if name == "number":
            return _ranges_apart(ours, theirs)
        return name == "object" and self._objects_apart(ours, theirs, depth)

    def _objects_apart(self, ours: Parts, theirs: Parts, depth: int) -> bool:
        return any(
            self.proved(mine, other, depth + 1)
            for name in _required(ours) | _required(theirs)
            for mine in _property(ours, name)
            for other in _property(theirs, name)
        )

    def _parts(self, raw: object) -> Parts:
        """Return the schema with what its `$ref` and `allOf` add, each once."""
        found: dict[int, Mapping[str, Any]] = {}
        pending = [raw]
        while pending and len(found) < MAX_DEPTH:
            one = pending.pop()
            if not isinstance(one, Mapping) or id(one) in found:
                continue
            found[id(one)] = one
            if _is_list(one.get("allOf")):
                pending.extend(one["allOf"])
            if "$ref" in one:
                pending.append(self._target(one["$ref"]))
        return list(found.values())

    def _target(self, reference: object) -> object:
        try:
            return self._document.at(self._document.target(reference, ()))
        except InvalidRequest:
            return True

    def _types(self, parts: Parts, depth: int) -> frozenset[str]:
        types = ALL_TYPES
        for part in parts:
            types &= _named_types(part)
            for key in ("anyOf", "oneOf"):
                if _is_list(part.get(key)) and depth <= MAX_DEPTH and self._work <= MAX_WORK:
                    self._work += len(part[key])
                    branches = (self._types(self._parts(one), depth + 1) for one in part[key])
                    types &= frozenset().union(*branches)
        return types


def _named_types(part: Mapping[str, Any]) -> frozenset[str]:
    types = ALL_TYPES
    if "type" in part:
        named = part["type"] if _is_list(part["type"]) else [part["type"]]
        types &= {"number" if name == "integer" else name for name in named if isinstance(name, str)}
    for value in _listed(part):
        types &= frozenset(map(_type_of, value))
    return types


def _values(name: str, parts: Parts) -> frozenset[str] | None:
    """Return the values of one type, as canonical texts, if they are listed."""
    for part in parts:
        for values in _listed(part):
            return frozenset(canonical(value) for value in values if _type_of(value) == name)
    return None


def _listed(part: Mapping[str, Any]) -> Iterator[list[Any]]:
    if "const" in part:
        yield [part["const"]]
    if _is_list(part.get("enum")):
        yield list(part["enum"])


def canonical(value: Any) -> str:
    """Return a text that is the same for equal JSON values, and only for those."""
    if isinstance(value, Mapping):
        return (
            "{" + ",".join(sorted(f"{json.dumps(key)}:{canonical(one)}" for key, one in value.items())) + "}"
        )
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(canonical, value)) + "]"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value)


def _type_of(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case Mapping():
            return "object"
        case _:
            return "array"


def _required(parts: Parts) -> set[str]:
    return {
        name
        for part in parts
        if _is_list(part.get("required"))
        for name in part["required"]
        if isinstance(name, str)
    }


def _property(parts: Parts, name: str) -> list[object]:
    """Return the schemas for one property, `true` if nothing is said of it."""
    found = []
    for part in parts:
        properties = part.get("properties")
        if isinstance(properties, Mapping) and name in properties:
            found.append(properties[name])
        elif "patternProperties" not in part and "additionalProperties" in part:
            found.append(part["additionalProperties"])
    return found or [True]


def _ranges_apart(ours: Parts, theirs: Parts) -> bool:
    return _below(ours, theirs) or _below(theirs, ours)


def _below(ours: Parts, theirs: Parts) -> bool:
    """Return whether some upper bound of ours lies below some lower bound of theirs."""
    return any(
        upper < lower or (upper == lower and (not upper_counts or not lower_counts))
        for upper, upper_counts in _bounds(ours, "maximum", "exclusiveMaximum")
        for lower, lower_counts in _bounds(theirs, "minimum", "exclusiveMinimum")
    )


def _bounds(parts: Parts, inclusive: str, exclusive: str) -> list[tuple[Decimal, bool]]:
    found = [(part.get(key), key == inclusive) for part in parts for key in (inclusive, exclusive)]
    return [
        (Decimal(repr(bound)), counts)
        for bound, counts in found
        if isinstance(bound, (int, float)) and not isinstance(bound, bool)
    ]


def _is_list(value: object) -> bool:
    return isinstance(value, (list, tuple))
