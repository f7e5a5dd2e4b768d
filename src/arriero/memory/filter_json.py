"""Filters as callers write them, in OpenAI's form, to filters. Pure.

{"type": "eq", "key": "language", "value": "nl"}
{"type": "and", "filters": [...]}
{"type": "in", "key": "year", "value": [2023, 2024]}
"""

from __future__ import annotations

from arriero.errors import InvalidRequest
from arriero.memory.filters import Comparison, Compound, Filter
from arriero.memory.records import Attribute

MAX_DEPTH = 8
MAX_FILTERS = 64
MAX_VALUES = 256

COMPARISONS = ("eq", "ne", "gt", "gte", "lt", "lte", "in", "nin")


def read_filter(value: object, param: str = "where", depth: int = 1) -> Filter:
    """Return the filter that a JSON value says. Raises InvalidRequest naming its place."""
    if not isinstance(value, dict):
        raise InvalidRequest(f"{param}: expected an object with type, key and value", param=param)
    kind = value.get("type")
    if kind in ("and", "or"):
        return Compound(kind, _inner(value.get("filters"), param, depth))
    if kind not in COMPARISONS:
        raise InvalidRequest(f"{param}.type: expected one of {', '.join(COMPARISONS)}, and, or", param=param)
    key = value.get("key")
    if not isinstance(key, str) or not key:
        raise InvalidRequest(f"{param}.key: expected the name of an attribute", param=f"{param}.key")
    return Comparison(key, kind, _value(value.get("value"), kind, f"{param}.value"))


def _inner(value: object, param: str, depth: int) -> tuple[Filter, ...]:
    place = f"{param}.filters"
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_FILTERS or depth == MAX_DEPTH:
        raise InvalidRequest(
            f"{place}: expected 1 to {MAX_FILTERS} filters, at most {MAX_DEPTH} within each other",
            param=place,
        )
    return tuple(read_filter(one, f"{place}[{index}]", depth + 1) for index, one in enumerate(value))


def _value(value: object, kind: str, param: str) -> Attribute | tuple[Attribute, ...]:
    if kind not in ("in", "nin"):
        return _attribute(value, param)
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_VALUES:
        raise InvalidRequest(f"{param}: expected a list of 1 to {MAX_VALUES} values", param=param)
    return tuple(_attribute(one, f"{param}[{index}]") for index, one in enumerate(value))


def _attribute(value: object, param: str) -> Attribute:
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError:
            raise InvalidRequest(f"{param}: the number is too large", param=param) from None
    raise InvalidRequest(f"{param}: expected a string, a number or a boolean", param=param)
