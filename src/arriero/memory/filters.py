"""Which documents a search may find: comparisons of their attributes, joined by and, or."""

from __future__ import annotations

import operator
from typing import Literal

import msgspec

from arriero.memory.records import Attribute, Document


class Comparison(msgspec.Struct, frozen=True):
    """One attribute against a value; a document without the attribute matches only `ne` and `nin`.

    value: a tuple with `in` and `nin`, else one value. Values of different kinds are never equal and have
    no order.
    """

    key: str
    operator: Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"]
    value: Attribute | tuple[Attribute, ...]


class Compound(msgspec.Struct, frozen=True):
    """All, or any, of some filters."""

    operator: Literal["and", "or"]
    filters: tuple[Filter, ...]


class OneOf(msgspec.Struct, frozen=True):
    """The documents of these ids."""

    document_ids: tuple[str, ...]


Filter = Comparison | Compound | OneOf


def matches(where: Filter, document: Document) -> bool:
    """Say whether a filter finds a document: the meaning that every store keeps to."""
    if isinstance(where, OneOf):
        return document.id in where.document_ids
    if isinstance(where, Compound):
        parts = (matches(part, document) for part in where.filters)
        return all(parts) if where.operator == "and" else any(parts)
    value = document.attributes.get(where.key)
    wanted = where.value if isinstance(where.value, tuple) else (where.value,)
    if where.operator in _ORDERS:
        return value is not None and all(_ordered(where.operator, value, bound) for bound in wanted)
    return any(_kind(value) == _kind(one) and value == one for one in wanted) is (
        where.operator in ("eq", "in")
    )


_ORDERS = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}


def _ordered(name: str, value: Attribute, bound: Attribute) -> bool:
    same = _kind(value) == _kind(bound) is not bool
    return same and bool(_ORDERS[name](value, bound))


def _kind(value: object) -> type:
    return float if type(value) is int else type(value)
