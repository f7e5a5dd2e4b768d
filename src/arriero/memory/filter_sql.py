"""Filters as SQL over the tables `document d` and `attribute`. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, assert_never

from arriero.errors import InvalidRequest
from arriero.memory.filters import Comparison, Compound, OneOf
from arriero.memory.sqlite_schema import stored_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arriero.memory.filters import Filter
    from arriero.memory.records import Attribute

Sql = tuple[str, tuple[object, ...]]
"""An expression and the values of its question marks."""

_ORDER = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_MAX_DEPTH = 32
_MAX_VALUES = 10_000
"""Below SQLite's own bounds on depth and variables."""


def condition(where: Filter | None) -> Sql:
    """Return the expression that is true for the documents that the filter lets pass."""
    if where is None:
        return "true", ()
    expression, values = _filter(where, 1)
    if len(values) > _MAX_VALUES:
        raise InvalidRequest(f"filter: more than {_MAX_VALUES} values", param="filter")
    return expression, values


def _filter(where: Filter, depth: int) -> Sql:
    if depth > _MAX_DEPTH:
        raise InvalidRequest(f"filter: nested deeper than {_MAX_DEPTH}", param="filter")
    match where:
        case Comparison():
            return _comparison(where)
        case Compound(operator="and"):
            return _joined([_filter(part, depth + 1) for part in where.filters], "and", empty="true")
        case Compound():
            return _joined([_filter(part, depth + 1) for part in where.filters], "or", empty="false")
        case OneOf():
            return "d.id in (select value from json_each(?))", (json.dumps(where.document_ids),)
        case _:
            assert_never(where)


def _joined(parts: Sequence[Sql], word: str, *, empty: str) -> Sql:
    """Join as a balanced tree, because SQLite bounds the depth of expressions."""
    if not parts:
        return empty, ()
    if len(parts) == 1:
        return parts[0]
    half = len(parts) // 2
    left, left_values = _joined(parts[:half], word, empty=empty)
    right, right_values = _joined(parts[half:], word, empty=empty)
    return f"({left} {word} {right})", left_values + right_values


def _comparison(where: Comparison) -> Sql:
    values = where.value if isinstance(where.value, tuple) else (where.value,)
    match where.operator:
        case "eq" | "in":
            return _among(where.key, values)
        case "ne" | "nin":
            expression, bound = _among(where.key, values)
            return f"not {expression}", bound
        case _:
            comparisons = [_compared(_ORDER[where.operator], value) for value in values]
            return _documents(where.key, _joined(comparisons, "or", empty="false"))


def _among(key: str, values: Sequence[Attribute]) -> Sql:
    return _documents(key, _joined([_compared("=", value) for value in values], "or", empty="false"))


def _documents(key: str, matches: Sql) -> Sql:
    expression, values = matches
    return (
        f"d.number in (select document from attribute where key = cast(? as text) and {expression})",
        (stored_text(key), *values),
    )


def _compared(sign: str, value: Attribute) -> Sql:
    kind, bound = typed(value)
    if kind == "text":
        return f"(kind = 'text' and value {sign} cast(? as text))", (bound,)
    return f"(kind = '{kind}' and value {sign} ?)", (bound,)


def typed(value: Attribute) -> tuple[str, object]:
    """Return the kind of an attribute, and its value as SQLite compares it."""
    match value:
        case bool():
            return "bool", int(value)
        case str():
            return "text", stored_text(value)
        case _:
            return "number", float(value)
