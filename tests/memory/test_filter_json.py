"""Filters as callers write them."""

from __future__ import annotations

from typing import Any

import pytest

from arriero.errors import InvalidRequest
from arriero.memory.filter_json import MAX_DEPTH, read_filter
from arriero.memory.filters import Comparison, Compound, Filter

EQ = {"type": "eq", "key": "k", "value": "v"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (EQ, Comparison("k", "eq", "v")),
        ({"type": "gte", "key": "k", "value": 3}, Comparison("k", "gte", 3.0)),
        ({"type": "ne", "key": "k", "value": True}, Comparison("k", "ne", True)),
        ({"type": "in", "key": "k", "value": ["a", 1]}, Comparison("k", "in", ("a", 1.0))),
        ({"type": "or", "filters": [EQ]}, Compound("or", (Comparison("k", "eq", "v"),))),
    ],
)
def test_a_filter_is_read(value: Any, expected: Filter) -> None:
    """OpenAI's form."""
    assert read_filter(value) == expected


def nested(depth: int) -> dict[str, Any]:
    """Return a filter within filters."""
    return EQ if depth == 1 else {"type": "and", "filters": [nested(depth - 1)]}


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ("x", "where"),
        ({}, "where"),
        ({"type": "like", "key": "k", "value": "v"}, "where"),
        ({"type": "eq", "value": "v"}, "where.key"),
        ({"type": "eq", "key": "k"}, "where.value"),
        ({"type": "eq", "key": "k", "value": ["v"]}, "where.value"),
        ({"type": "in", "key": "k", "value": "v"}, "where.value"),
        ({"type": "in", "key": "k", "value": []}, "where.value"),
        ({"type": "in", "key": "k", "value": ["v", None]}, "where.value[1]"),
        ({"type": "gt", "key": "k", "value": 10**400}, "where.value"),
        ({"type": "and", "filters": []}, "where.filters"),
        ({"type": "and", "filters": [EQ, 3]}, "where.filters[1]"),
        (nested(MAX_DEPTH + 1), "where" + ".filters[0]" * (MAX_DEPTH - 1) + ".filters"),
    ],
)
def test_a_wrong_filter_is_refused_by_its_place(value: Any, param: str) -> None:
    """Also one that is nested too deep."""
    with pytest.raises(InvalidRequest) as caught:
        read_filter(value)

    assert caught.value.param == param
    read_filter(nested(MAX_DEPTH))
