"""Bounds of numbers in the form in which llguidance enforces them exactly.

llguidance reads numbers as 64-bit floats; of a bound such as 5.87 it forgets the shorter decimals on the
way (5.8); multiples of 0.25 it wants written with two decimals (0.50). So numbers that a float cannot
hold are refused here, and the forgotten ones are added.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal, localcontext

MAX_MAGNITUDE = 2**63
MAX_STEP_COEFFICIENT = 2**32 - 1
MAX_REMAINDERS = 20_000
"""States of the automaton of a step: 100,000 take llguidance a second, a million thirteen."""
MAX_DECIMALS = 22
MAX_DIGITS = 15
"""Digits of the number that is next to an excluded whole one."""
SMALLEST_DIGITS = 20
"""Decimals of the smallest number that is written where zero is excluded."""
MAX_VALUES = 64
"""With at most so many multiples between the bounds they are listed one by one."""

Bounds = Mapping[str, int | float]
LOWER = ("minimum", "exclusiveMinimum")
UPPER = ("maximum", "exclusiveMaximum")
BOUNDS = (*LOWER, *UPPER)


def exact(number: int | float) -> int | float:
    """Return the number, as an int when it is whole. Raises ValueError if a float does not hold it."""
    if isinstance(number, int):
        if number == MAX_MAGNITUDE - 1:
            return number
        if abs(number) >= MAX_MAGNITUDE or int(float(number)) != number:
            raise ValueError(f"{_short(number)} is too large to be enforced exactly")
        return number
    if abs(number) >= MAX_MAGNITUDE:
        raise ValueError(f"{number} is too large to be enforced exactly")
    _, digits, exponent = _decimal(number).as_tuple()
    coefficient = int("".join(map(str, digits)))
    # llguidance divides the one by a power of ten: both must be floats for the result to be exact.
    if int(float(coefficient)) != coefficient or int(exponent) < -MAX_DECIMALS:
        raise ValueError(f"{number} has too many digits to be enforced exactly")
    return int(number) if number.is_integer() else number


def step(number: int | float) -> int | float:
    """Return a `multipleOf` that llguidance reads as it is written. Raises ValueError."""
    if number <= 0:
        raise ValueError("it must be greater than 0")
    coefficient, digits = _as_read(float(number))
    largest = coefficient if coefficient == 1 else coefficient * 10**digits
    if largest > MAX_STEP_COEFFICIENT or Decimal(coefficient).scaleb(-digits) != _decimal(number):
        raise ValueError(f"{_short(number)} has too many digits to be enforced exactly")
    return exact(number)


def common_step_fits(steps: Iterable[int | float]) -> bool:
    """Return whether all steps of a schema may meet in one number, within 32 bits and MAX_REMAINDERS."""
    common, digits = 1, 0
    for coefficient, own_digits in {_as_read(float(one)) for one in steps}:
        scale = max(digits, own_digits)
        left, right = common * 10 ** (scale - digits), coefficient * 10 ** (scale - own_digits)
        if left * right > MAX_STEP_COEFFICIENT:
            return False
        common, digits = left * right // math.gcd(left, right), scale
    return _remainders(common) <= MAX_REMAINDERS


def _remainders(step: int) -> int:
    """Return how many remainders its automaton tells apart: the last digits settle factors of 2 and 5."""
    for factor in (2, 5):
        while step % factor == 0:
            step //= factor
    return step


def alternatives(bounds: Bounds) -> list[dict[str, object]]:
    """Return schemas that together allow the fractional numbers within the bounds, and no others."""
    bounds = _apart_from_ends(bounds)
    if (values := _listed(bounds)) is not None:
        return [{"enum": values}] if values else []
    shorter = _shorter_steps(bounds["multipleOf"]) if "multipleOf" in bounds else []
    options: list[dict[str, object]] = [dict(bounds)]
    options += [{**bounds, "multipleOf": size} for size in shorter]
    options += [{"const": _plain(value)} for value in _forgotten(bounds)]
    return options


def _apart_from_ends(bounds: Bounds) -> dict[str, int | float]:
    """Return the bounds with a whole exclusive one, on the side of zero, as the next number.

    llguidance includes it when the other bound has the same whole part: for (2, 2.5] it would allow 2.
    """
    found = dict(bounds)
    for sign, inclusive, exclusive in ((1, *LOWER), (-1, *UPPER)):
        end = found.get(exclusive, 0.5)
        decimals = SMALLEST_DIGITS if end == 0 else MAX_DIGITS - len(str(abs(end)))
        if isinstance(end, int) and sign * end >= 0 and decimals > 0:
            del found[exclusive]
            following = float(end + sign * Decimal(1).scaleb(-decimals))
            stricter = max if sign > 0 else min
            found[inclusive] = stricter(following, found.get(inclusive, following))
    return found


def within(value: Decimal, bounds: Bounds) -> bool:
    """Return whether a value keeps all the bounds."""
    limits = {key: _decimal(bound) for key, bound in bounds.items()}
    with localcontext() as context:
        context.prec = 400
        return (
            ("minimum" not in limits or value >= limits["minimum"])
            and ("exclusiveMinimum" not in limits or value > limits["exclusiveMinimum"])
            and ("maximum" not in limits or value <= limits["maximum"])
            and ("exclusiveMaximum" not in limits or value < limits["exclusiveMaximum"])
            and ("multipleOf" not in limits or value % limits["multipleOf"] == 0)
        )


def _listed(bounds: Bounds) -> list[int | float] | None:
    """Return every value, if they are few: llguidance misjudges a narrow range of multiples."""
    lower = [_decimal(bounds[key]) for key in LOWER if key in bounds]
    upper = [_decimal(bounds[key]) for key in UPPER if key in bounds]
    if "multipleOf" not in bounds or not lower or not upper:
        return None
    size = _decimal(bounds["multipleOf"])
    first = (max(lower) / size).to_integral_value() - 1
    last = (min(upper) / size).to_integral_value() + 1
    if last - first > MAX_VALUES:
        return None
    values = ((first + index) * size for index in range(int(last - first) + 1))
    return [_plain(value) for value in values if within(value, bounds)]


def _shorter_steps(size: int | float) -> list[int | float]:
    """Return the steps of those multiples that need fewer decimals than the step itself."""
    coefficient, digits = _as_read(float(size))
    if coefficient == 1:
        return []
    shorter = (
        Decimal(coefficient * 10**cut // math.gcd(coefficient, 10**cut)) for cut in range(1, digits + 1)
    )
    return [_plain(common.scaleb(-digits)) for common in shorter]


def _forgotten(bounds: Bounds) -> list[Decimal]:
    """Return the bounds away from zero, cut after each of their decimals, where that is allowed."""
    away = [_decimal(bounds[key]) for key in UPPER if bounds.get(key, 0) > 0]
    away += [_decimal(bounds[key]) for key in LOWER if bounds.get(key, 0) < 0]
    cut = {Decimal(text) for bound in away for text in _cuts(format(bound, "f"))}
    return sorted(value for value in cut if within(value, bounds))


def _cuts(text: str) -> Iterator[str]:
    point = text.find(".")
    return (text[:end] for end in range(point, len(text)) if point >= 0 and end != point + 1)


def _as_read(number: float) -> tuple[int, int]:
    """Return coefficient and decimals as llguidance finds them, rounding errors included."""
    digits = 0
    while not number.is_integer():
        number, digits = number * 10, digits + 1
    return int(number), digits


def _decimal(number: int | float) -> Decimal:
    return Decimal(number) if isinstance(number, int) else Decimal(repr(number))


def _plain(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


def _short(number: int | float) -> str:
    return str(number) if abs(number) < 10**40 else f"a number of {int(number).bit_length()} bits"
