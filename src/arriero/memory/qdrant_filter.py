"""Filters of documents as conditions of Qdrant, where it has such conditions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qdrant_client import models

from arriero.memory.filters import Comparison, Compound, OneOf
from arriero.memory.qdrant_payload import ATTRIBUTES, DOCUMENT_ID

if TYPE_CHECKING:
    from arriero.memory.filters import Filter
    from arriero.memory.records import Attribute

_RANGES = ("gt", "gte", "lt", "lte")


class NoCondition(Exception):
    """Qdrant has no condition for this filter: it orders no strings and quotes no quotation marks."""


def condition(where: Filter) -> models.Filter:
    """Return a filter of Qdrant. Raises NoCondition."""
    if isinstance(where, OneOf):
        return models.Filter(must=[_field(DOCUMENT_ID, models.MatchAny(any=list(where.document_ids)))])
    if isinstance(where, Compound):
        parts: list[models.Condition] = [condition(part) for part in where.filters]
        return models.Filter(must=parts) if where.operator == "and" else _any(parts)
    return _comparison(where)


def equals(key: str, value: str) -> models.FieldCondition:
    """Return the condition that a member of the payload is a text."""
    return _field(key, models.MatchValue(value=value))


def _comparison(where: Comparison) -> models.Filter:
    key, operator, value = f"{ATTRIBUTES}.{_quoted(where.key)}", where.operator, where.value
    values = value if isinstance(value, tuple) else (value,)
    if operator in _RANGES:
        if isinstance(value, (str, bool, tuple)):
            raise NoCondition
        return models.Filter(must=[_range(key, models.Range(**{operator: value}))])
    equal = _any([_equal(key, one) for one in values])
    return equal if operator in ("eq", "in") else models.Filter(must_not=[equal])


def _any(parts: Sequence[models.Condition]) -> models.Filter:
    # Of no conditions none holds; Qdrant takes an empty list for no filter at all.
    return models.Filter(should=list(parts) or [models.HasIdCondition(has_id=[])])


def _equal(key: str, value: Attribute) -> models.FieldCondition:
    if isinstance(value, (str, bool)):
        return _field(key, models.MatchValue(value=value))
    return _range(key, models.Range(gte=value, lte=value))


def _field(key: str, match: models.Match) -> models.FieldCondition:
    return models.FieldCondition(key=key, match=match)


def _range(key: str, bounds: models.Range) -> models.FieldCondition:
    return models.FieldCondition(key=key, range=bounds)


def _quoted(key: str) -> str:
    if '"' in key:
        raise NoCondition
    return f'"{key}"'
