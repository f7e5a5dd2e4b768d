"""How large a text or list a call in a template would make, before it is carried out. Pure.

A template can ask a method or filter for a text of any length: a width, an indent, a format, a replacement.
What is told here is a bound from above; calls that cannot grow count for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

WIDTHS = frozenset(
    {"ljust", "rjust", "center", "zfill", "expandtabs", "to_bytes", "batch", "slice", "indent"}
)
WIDTHS |= frozenset({"tojson", "lipsum", "generate_lorem_ipsum", "wordwrap"})
"""Methods and filters whose numbers say how much they make."""
FORMATS = frozenset({"format", "format_map"})
GROWING = WIDTHS | FORMATS | frozenset({"replace", "join"})
MOST_DIGITS = 18
_NUMBER = re.compile(r"\d+")
_PLACE = re.compile(r"%(?:\([^)]*\))?[-+ #\d.*]*|\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}")
"""Where a format puts a value: `%-10d`, `{:>10}`. Numbers in the text around it say nothing."""


def size_of(name: str, value: object, arguments: Sequence[object]) -> int:
    """Return how much a call makes of a value. The name is that of a method, a filter, or `%`."""
    match name, value, arguments:
        case ("replace", str(), [str(old), str(new), *_]):
            return len(value) + value.count(old) * len(new)
        case ("join", _, [str(between), *_]):
            return joined_size(between, value)
        case ("%" | "format" | "format_map", str(), _):
            return formatted_size(value, arguments)
        case _ if name in WIDTHS:
            return _length(value) * max(map(_amount, arguments), default=0)
    return 0


def joined_size(between: str, pieces: Any) -> int:
    """Return the length of texts with another between them."""
    if not isinstance(pieces, str | list | tuple | dict):
        return 0
    size = len(pieces) if isinstance(pieces, str) else sum(map(_length, pieces))
    return size + len(between) * len(pieces)


def formatted_size(form: str, arguments: Sequence[object]) -> int:
    """Return how long a format makes its values: the widths in it, and those that are handed in."""
    items = [item for one in arguments for item in _items(one)]
    places: list[str] = _PLACE.findall(form)
    widths = sum(int(number[:MOST_DIGITS]) for place in places for number in _NUMBER.findall(place))
    # A width may itself be a value: `%*d`, `{:>{}}`.
    handed_in = sum(place.count("*") if place[0] == "%" else place.count("{") - 1 for place in places)
    return widths + sum(map(_length, items)) + handed_in * max(map(_amount, items), default=0)


def _items(value: object) -> Sequence[object]:
    match value:
        case tuple() | list():
            return value
        case dict():
            return list(value.values())
    return (value,)


def _amount(value: object) -> int:
    """Return the number or the length that a value stands for as a width."""
    return abs(value) if isinstance(value, int) else len(value) if isinstance(value, str) else 0


def _length(value: object) -> int:
    return len(value) if isinstance(value, str | list | tuple | dict) else 1
