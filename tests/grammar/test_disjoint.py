"""Proofs that two schemas have no value in common."""

from __future__ import annotations

from typing import Any

import pytest

from arriero.grammar.disjoint import Disjointness
from arriero.grammar.references import Document

DEFS = {"cat": {"properties": {"kind": {"const": "cat"}}, "required": ["kind"], "type": "object"}}
CAT = {"$ref": "#/$defs/cat"}
DOG = {"properties": {"kind": {"enum": ["dog", "wolf"]}}, "type": "object"}
OBJECT = {"type": "object"}


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ({"type": "string"}, {"type": "null"}, True),
        ({"type": "string"}, {"type": ["string", "null"]}, False),
        ({"type": "integer"}, {"type": "number"}, False),
        ({"const": 1}, {"const": 1.0}, False),
        ({"const": 1}, {"const": True}, True),
        ({"enum": ["a", "b"]}, {"enum": ["c"]}, True),
        ({"enum": ["a", "b"]}, {"enum": ["b"]}, False),
        ({"type": "number", "maximum": 1}, {"type": "number", "exclusiveMinimum": 1}, True),
        ({"type": "number", "maximum": 1}, {"type": "number", "minimum": 1}, False),
        ({"maximum": 1}, {"minimum": 2}, False),
        (CAT, DOG, True),
        (CAT, {"properties": {"kind": {"const": "dog"}}}, True),
        ({"required": ["a"], **OBJECT}, {"additionalProperties": False, **OBJECT}, True),
        ({"required": ["a"], **OBJECT}, {"required": ["b"], **OBJECT}, False),
        ({"anyOf": [{"type": "null"}, CAT]}, {"type": "string"}, True),
        ({"anyOf": [{"type": "null"}, CAT]}, DOG, True),
        ({"allOf": [{"type": "string"}]}, {"allOf": [{"type": "null"}]}, True),
        (False, True, True),
        ({}, {}, False),
        ({"$ref": "#/nowhere"}, {"type": "null"}, False),
    ],
)
def test_proved(left: Any, right: Any, expected: bool) -> None:
    """A proof is found where types, listed values, ranges or properties exclude each other."""
    proofs = Disjointness(Document({"$defs": DEFS}, where="schema"))

    assert proofs.proved(left, right) is expected
    assert proofs.proved(right, left) is expected
