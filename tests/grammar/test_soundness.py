"""A constraint allows exactly the values that conform to its schema: measured on public test data."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from itertools import permutations
from typing import Any

import jsonschema
import pytest
from benchmarks.soundness import (
    MASKBENCH,
    SUITE,
    Order,
    byte_table,
    judged,
    maskbench,
    passes,
    suite,
    written,
)

from arriero.errors import InvalidRequest
from arriero.grammar.constraint import json_schema
from arriero.grammar.matcher import Compiler

EVERY = 4
"""One MaskBench schema of so many is tried."""


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    """Matchers over single bytes."""
    return Compiler(byte_table())


def test_the_test_suite_finds_nothing_unsound(compiler: Compiler) -> None:
    """Of every schema that is accepted, valid instances pass and invalid ones do not."""
    if not SUITE.is_dir():
        pytest.skip(f"no JSON-Schema-Test-Suite at {SUITE}")
    tallies = judged(compiler, suite(SUITE))

    assert [one for tally in tallies.values() for one in tally.invalid_accepted] == []
    assert [one for tally in tallies.values() for one in tally.valid_refused] == []
    assert sum(tally.accepted for tally in tallies.values()) >= 300


def test_schemas_from_the_field_are_compiled(compiler: Compiler) -> None:
    """At least 19 of 20 MaskBench schemas are accepted, and none allows what it should not."""
    if not MASKBENCH.is_dir():
        pytest.skip(f"no MaskBench sample at {MASKBENCH}")
    tally = judged(compiler, maskbench(MASKBENCH, EVERY))["MaskBench"]

    assert tally.invalid_accepted == []
    assert tally.accepted / (tally.accepted + tally.refused) >= 0.95


NAMES = ["a", "b", "c"]
VALUES: list[Any] = [
    *(None, True, False, 0, 1, 2, 3.5, -1, "", "x", "xy", "foo", [], [1], ["x", 2], [1, 2, 3], {}, {"a": 1}),
    *({"a": "x", "b": 2}, {"b": None}, {"a": 1, "b": 2, "c": 3}, {"c": [1]}, {"a": {"a": 1}}, {"a": 2.5}),
    *({"d": 1}, {"a": 1, "d": "x"}),
]
TYPE_NAMES = ["string", "number", "integer", "boolean", "null", "object", "array"]


@pytest.mark.parametrize("seed", range(4))
def test_random_schemas_agree_with_a_validator(compiler: Compiler, seed: int) -> None:
    """What a reference validator says of values, the matcher says too, for any mixture of keywords."""
    rng = random.Random(seed)
    accepted = 0
    for _ in range(120):
        schema = {**random_schema(rng, rng.randint(1, 2)), "$defs": {"leaf": random_leaf(rng)}}
        try:
            constraint = json_schema(schema)
            pristine = compiler.matcher(constraint)
        except InvalidRequest:
            continue
        accepted += 1
        order = Order(json.loads(constraint.source))
        validator = jsonschema.Draft202012Validator(schema)
        for value in VALUES:
            texts = {written(order.of(value, [order.root])), *orders(value)}
            passed = any(passes(pristine.copy(), text) for text in texts)
            assert passed == validator.is_valid(value), (schema, value)
    assert accepted > 60


def orders(value: Any) -> Iterator[str]:
    """Yield a value with its keys in every order."""
    if not isinstance(value, dict):
        yield written(value)
        return
    for items in permutations(value.items()):
        yield written(dict(items))


def random_leaf(rng: random.Random) -> dict[str, Any]:
    """Return a schema of one keyword."""
    plain = [value for value in VALUES if not isinstance(value, list | dict)]
    bound = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]
    return rng.choice(
        [
            {"type": rng.choice(TYPE_NAMES)},
            {"type": rng.sample(TYPE_NAMES, 2)},
            {"enum": rng.sample(plain, 3)},
            {"const": rng.choice(VALUES)},
            {rng.choice(bound): rng.choice([0, 1, 2, 2.5]), rng.choice(bound): rng.choice([0, 1, 2, 2.5])},
            {rng.choice(["minLength", "maxLength", "minItems", "maxItems"]): rng.randint(0, 2)},
            {rng.choice(["minProperties", "maxProperties"]): rng.randint(0, 2)},
            {"required": rng.sample(NAMES, 2)},
            {"pattern": rng.choice(["^x", "y$", "^foo$", "o"])},
            {"multipleOf": rng.choice([2, 0.5])},
        ]
    )


def random_schema(rng: random.Random, depth: int) -> dict[str, Any]:
    """Return a schema of some keywords."""
    if depth == 0:
        return random_leaf(rng)

    def inner() -> dict[str, Any] | bool:
        return rng.random() < 0.5 if rng.random() < 0.1 else random_schema(rng, depth - 1)

    makers = [
        lambda: random_leaf(rng),
        lambda: random_leaf(rng),
        lambda: {"properties": {name: inner() for name in rng.sample(NAMES, 2)}},
        lambda: {"additionalProperties": inner()},
        lambda: {"patternProperties": {rng.choice(["^a", "d"]): inner()}},
        lambda: {"propertyNames": rng.choice([{"enum": ["a", "d"]}, {"pattern": "^[ab]"}, {"maxLength": 1}])},
        lambda: {"dependentRequired": {rng.choice(NAMES): rng.sample(NAMES, 1)}},
        lambda: {"dependentSchemas": {rng.choice(NAMES): inner()}},
        lambda: {"items": inner()},
        lambda: {"prefixItems": [inner()]},
        lambda: {"anyOf": [inner(), inner()]},
        lambda: {"oneOf": [inner(), inner()]},
        lambda: {"allOf": [inner(), inner()]},
        lambda: {"not": inner()},
        lambda: {"if": inner(), "then": inner()},
        lambda: {"if": inner(), "else": inner()},
        lambda: {"$ref": "#/$defs/leaf"},
    ]
    schema: dict[str, Any] = {}
    for maker in rng.sample(makers, rng.randint(1, 3)):
        schema |= maker()
    return schema


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        ({"type": "number", "maximum": 5.87}, ["5.87", "5.8", "5", "-3"], ["5.88", "5.9"]),
        ({"type": "number", "exclusiveMinimum": 2, "maximum": 2.5}, ["2.1", "2.5"], ["2", "2.51"]),
        ({"type": "number", "exclusiveMaximum": 0, "minimum": -0.5}, ["-0.5", "-0.1"], ["0", "-0", "-0.6"]),
        ({"type": "number", "multipleOf": 0.25}, ["0.5", "2.5", "0.25", "1", "-1.75"], ["0.3"]),
        ({"type": "number", "multipleOf": 0.1, "minimum": 0.3, "maximum": 0.3}, ["0.3"], ["0.2", "0.4"]),
        ({"type": "integer", "minimum": -3, "maximum": 12}, ["-3", "0", "12"], ["-4", "13", "1.5"]),
        ({"type": "string", "pattern": "a.c"}, ['"abc"', '"xa-cx"'], ['"a\\rc"', '"ac"']),
        ({"type": "string", "pattern": "^\\S$"}, ['"x"'], ['"\\ufeff"', '"\ufeff"', '" "']),
        ({"type": "string", "format": "date"}, ['"2024-02-29"'], ['"2023-02-29"', '"2100-02-29"']),
        (
            {"properties": {"a": {"type": "integer"}}, "required": ["a"], "type": "object"},
            ['{"a":1,"b":"x"}'],
            ['{"a":1,"\\u0061":"x"}', '{"a":1,"a":2}', '{"a": 1}'],
        ),
    ],
)
def test_known_traps(compiler: Compiler, schema: Any, right: list[str], wrong: list[str]) -> None:
    """What llguidance alone gets wrong is right here."""
    matcher = compiler.matcher(json_schema(schema))

    assert [text for text in right if not passes(matcher.copy(), text)] == []
    assert [text for text in wrong if passes(matcher.copy(), text)] == []
