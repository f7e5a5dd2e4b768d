"""Bounds of numbers are enforced exactly."""

from __future__ import annotations

import random
from collections.abc import Iterator
from decimal import Decimal

import pytest
from benchmarks.soundness import byte_table, passes

from arriero.errors import InvalidRequest
from arriero.grammar import numbers
from arriero.grammar.constraint import json_schema
from arriero.grammar.matcher import Compiler

STEPS = [0.01, 0.1, 3, 0.5, 0.25, 10, 1.5, 0.001, 0.03, 0.15, 2.2, 0.125]


def plain(value: Decimal) -> int | float:
    """Return a number as JSON has it."""
    return int(value) if value == value.to_integral_value() else float(value)


def random_bounds(rng: random.Random) -> dict[str, int | float]:
    """Return bounds that are often close to each other or whole."""
    low = Decimal(rng.choice([rng.randint(-3, 3), rng.randint(-99_999, 99_999)])).scaleb(
        -rng.choice([0, 0, 1, 3])
    )
    high = low + Decimal(rng.choice(["0.5", "0.25", "1", "1.5", "0.001", "17", "1000.1"]))
    found = {}
    if rng.random() < 0.75:
        found[rng.choice(numbers.LOWER)] = plain(low)
    if rng.random() < 0.75:
        found[rng.choice(numbers.UPPER)] = plain(high)
    if rng.random() < 0.4:
        found["multipleOf"] = rng.choice(STEPS)
    return found


def near(bounds: dict[str, int | float]) -> Iterator[Decimal]:
    """Yield numbers at and around the bounds, and the bounds cut short."""
    for bound in [0, *bounds.values()]:
        text = format(Decimal(repr(bound)), "f")
        for decimals in range(4):
            for steps in (-3, -1, 0, 1, 2):
                yield Decimal(text) + Decimal(steps).scaleb(-decimals)
        yield from (Decimal(text[:end]) for end in range(1, len(text)) if text[:end] != "-")


@pytest.mark.parametrize("kind", ["number", "integer"])
def test_random_bounds(kind: str) -> None:
    """A number passes if and only if it keeps the bounds, for any bounds."""
    compiler = Compiler(byte_table())
    rng = random.Random(3)
    tried = 0
    for _ in range(80):
        bounds = random_bounds(rng)
        try:
            matcher = compiler.matcher(json_schema({"type": kind, **bounds}))
        except InvalidRequest:
            continue
        for value in set(near(bounds)):
            whole = value == value.to_integral_value()
            text = str(int(value)) if whole else format(value.normalize(), "f")
            right = numbers.within(value, bounds) and (whole or kind == "number")
            assert passes(matcher.copy(), text) == right, (bounds, text)
            tried += 1
    assert tried > 1500


@pytest.mark.parametrize("number", [2**53 + 1, 2**64, 1e30, 1e-25, -(10**400)])
def test_numbers_that_a_float_cannot_hold(number: int | float) -> None:
    """A bound that would be rounded is refused."""
    with pytest.raises(ValueError, match="enforced exactly"):
        numbers.exact(number)


@pytest.mark.parametrize(
    ("number", "expected"), [(3.0, 3), (-0.0, 0), (2**63 - 1, 2**63 - 1), (0.1, 0.1), (99.98, 99.98)]
)
def test_numbers_that_are_kept(number: int | float, expected: int | float) -> None:
    """Whole floats become integers; the rest stays."""
    assert repr(numbers.exact(number)) == repr(expected)
