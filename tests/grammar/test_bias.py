"""The bias language means what its author meant."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest
from benchmarks.soundness import END, byte_table, passes

from arriero.errors import InvalidRequest
from arriero.grammar.bias import is_bias, to_json_schema
from arriero.grammar.constraint import bias
from arriero.grammar.matcher import Compiler, fill_masks

CAR = {
    "type": "object",
    "required": ["name", "doors"],
    "properties": {"doors": {"type": "number"}, "name": {"type": "string"}, "never": {"type": "null"}},
}


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    """Matchers over single bytes."""
    return Compiler(byte_table())


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "boolean"}, {"type": "boolean"}),
        ({"type": "null", "title": "a remark"}, {"type": "null"}),
        ({"type": "number"}, {"type": "integer"}),
        ({"type": "number", "min": 0, "max": 10}, {"type": "integer", "minimum": 0, "maximum": 10}),
        ({"type": "number", "min": -1.5, "max": 1.5}, {"type": "integer", "minimum": -1, "maximum": 1}),
        (
            {"type": "number", "min": -0.32, "max": 5.87, "max_decimals": 2},
            {"type": "number", "minimum": -0.32, "maximum": 5.87, "multipleOf": 0.01},
        ),
        ({"type": "string", "max_length": 3}, {"type": "string", "maxLength": 3}),
        (
            {"type": "string", "enum": ["ab", "abcd", "ab"], "max_length": 3},
            {"type": "string", "enum": ["ab"]},
        ),
        (
            {"type": "array", "items": {"type": "null"}, "min_items": 1, "max_items": 3},
            {"type": "array", "items": {"type": "null"}, "minItems": 1, "maxItems": 3},
        ),
        (
            {"type": "object"},
            {"type": "object", "properties": {}, "required": [], "additionalProperties": False},
        ),
        (
            CAR,
            {
                "type": "object",
                "properties": {"name": {"type": "string"}, "doors": {"type": "integer"}},
                "required": ["name", "doors"],
                "additionalProperties": False,
            },
        ),
    ],
)
def test_translated(schema: Any, expected: Any) -> None:
    """Each type becomes the JSON Schema of what can be generated."""
    result = to_json_schema(schema)

    assert result == expected
    assert list(result.get("properties", {})) == list(expected.get("properties", {}))


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        ({"type": "boolean"}, ["true", "false"], ["null", "True", '"true"']),
        ({"type": "number", "min": 1, "max": 10}, ["1", "9", "10"], ["0", "11", "1.0", "01", ""]),
        ({"type": "number", "min": 10, "max": 20}, ["10", "15", "20"], ["1", "21", "9"]),
        (
            {"type": "number", "min": 0, "max": 1, "max_decimals": 2},
            ["0", "0.5", "0.25", "1"],
            ["1.01", "0.125"],
        ),
        ({"type": "number", "min": 5, "max": 100}, ["5", "10", "59", "99", "100"], ["4", "101"]),
        ({"type": "number", "min": 0}, ["0", "7", "123456"], ["-1", "0.5"]),
        ({"type": "number", "min": -10, "max": -5}, ["-10", "-5", "-7"], ["-4", "-11", "5", "-"]),
        ({"type": "string", "max_length": 2}, ['""', '"ab"', '"\\n\\""', '"é😀"'], ['"abc"', "ab"]),
        (
            {"type": "string", "enum": ["The quick", "The quick brown fox"], "max_length": 20},
            ['"The quick"', '"The quick brown fox"'],
            ['"The"', '"The quick "'],
        ),
        (
            {"type": "array", "items": {"type": "boolean"}, "min_items": 2, "max_items": 3},
            ["[true,false]", "[true,false,true]"],
            ["[]", "[true]", "[true,true,true,true]", "[true, true]"],
        ),
        ({"type": "array", "items": {"type": "number"}}, ["[]", "[1]", "[1,2,3,4,5,6]"], ["[1,]", "[true]"]),
        ({"type": "object"}, ["{}"], ['{"a":1}']),
        (
            CAR,
            ['{"name":"car mccarface","doors":4}'],
            ['{"doors":4,"name":"x"}', '{"name":"x"}', '{"name":"x","doors":4,"never":null}'],
        ),
    ],
)
def test_what_can_be_generated(compiler: Compiler, schema: Any, right: list[str], wrong: list[str]) -> None:
    """Ranges include both ends, arrays may be empty, objects have their properties in order."""
    matcher = compiler.matcher(bias(schema))

    assert [text for text in right if not passes(matcher.copy(), text)] == []
    assert [text for text in wrong if passes(matcher.copy(), text)] == []


def test_every_number_of_a_range(compiler: Compiler) -> None:
    """Exactly the numbers from -0.32 to 5.87 with two decimals at most can be generated."""
    schema = {"type": "number", "min": -0.32, "max": 5.87, "max_decimals": 2}
    matcher = compiler.matcher(bias(schema))
    hundredths = range(-100, 700)

    assert [n for n in hundredths if passes(matcher.copy(), f"{n / 100:g}")] == list(range(-32, 588))
    assert not any(passes(matcher.copy(), f"{n / 1000:.3f}") for n in range(-300, 5800, 7))


def test_random_walks_conform(compiler: Compiler) -> None:
    """Whatever a model says within the masks of a nested schema can be parsed and is within its bounds."""
    number = {"type": "number", "min": -10, "max": 10, "max_decimals": 2}
    row = {"type": "array", "min_items": 2, "max_items": 4, "items": number}
    matcher = compiler.matcher(bias({"type": "array", "min_items": 1, "max_items": 3, "items": row}))
    rng = random.Random(7)
    row_of_bits = np.zeros((1, (END + 32) // 32), dtype=np.int32)
    for _ in range(20):
        walk, text = matcher.copy(), b""
        while not walk.is_complete:
            fill_masks([walk], row_of_bits)
            bits = np.unpackbits(row_of_bits.view(np.uint8), bitorder="little")[:END]
            byte = rng.choice(np.flatnonzero(bits).tolist())
            walk.accept(byte)
            text += bytes([byte])
        rows = json.loads(text)
        assert 1 <= len(rows) <= 3
        assert all(2 <= len(one) <= 4 and all(-10 <= value <= 10 for value in one) for one in rows)


@pytest.mark.parametrize(
    ("schema", "place", "message"),
    [
        ({"type": "number", "minimum": 1}, "minimum", 'did you mean "min"'),
        ({"type": "array", "items": {"type": "strng"}}, "items.type", 'did you mean "string"'),
        ({"type": "string", "max_lenght": 1}, "max_lenght", 'did you mean "max_length"'),
        ({"type": "boolean", "min": 1}, "min", "not a word for type boolean"),
        ({"type": "array"}, "", "needs items"),
        ({}, "type", "the type is missing"),
        ({"type": "object", "required": ["a"], "properties": {"b": {"type": "null"}}}, "required", "not in"),
        ({"type": "object", "properties": {"b": {"type": "x"}}}, "properties.b.type", "no type"),
        ({"type": "number", "min": 0.1, "max": 0.9}, "max", "no number"),
        ({"type": "number", "min": 3, "max": 2}, "max", "no number"),
        ({"type": "number", "max_decimals": 20}, "max_decimals", "at most 9"),
        ({"type": "number", "min": "1"}, "min", "a number"),
        ({"type": "number", "max": 1e300}, "max", "between"),
        ({"type": "array", "items": {"type": "null"}, "min_items": 3, "max_items": 2}, "max_items", "less"),
        ({"type": "string", "max_length": -1}, "max_length", "whole number"),
        ({"type": "string", "enum": ["long"], "max_length": 2}, "enum", "longer than max_length"),
        ({"type": "string", "enum": []}, "enum", "empty"),
        ({"type": "string", "enum": [1]}, "enum", "list of texts"),
    ],
)
def test_faults_are_named(schema: Any, place: str, message: str) -> None:
    """An unknown or impossible attribute is refused with its place and what was probably meant."""
    with pytest.raises(InvalidRequest) as caught:
        to_json_schema(schema, where="json_schema")

    assert caught.value.param == ".".join(filter(None, ["json_schema", place]))
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (CAR, True),
        ({"type": "number", "min": 1}, True),
        ({"type": "string", "enum": ["a"]}, True),
        ({"type": "array", "items": {"type": "null"}, "max_items": 2}, True),
        ({"type": "string", "surprise": 1}, True),
        ({"type": "integer"}, False),
        ({"type": ["string", "null"]}, False),
        ({"enum": ["a"]}, False),
        ({"type": "array", "items": {"$ref": "#"}}, False),
        ({"type": "object", "properties": {"a": {"type": "string", "minLength": 1}}}, False),
        ({**CAR, "additionalProperties": False}, False),
        ({**CAR, "$schema": "https://json-schema.org/draft/2020-12/schema"}, False),
        (True, False),
    ],
)
def test_which_language(schema: Any, expected: bool) -> None:
    """A schema is in the bias language if no word of JSON Schema alone is in it."""
    assert is_bias(schema) is expected


def test_a_mixture_is_refused() -> None:
    """Words of both languages in one schema are an error that names one of each."""
    schema = {
        "type": "object",
        "properties": {"a": {"type": "number", "min": 1}},
        "additionalProperties": False,
    }

    with pytest.raises(InvalidRequest, match=r"properties\.a\.min .*json_schema\.additionalProperties"):
        is_bias(schema, where="json_schema")
