"""What a schema may weigh before anything else looks at it.

One walk without recursion over a value of unknown origin: afterwards it is plain JSON of a bounded
depth and size, so that all later steps may recurse.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from arriero.grammar.refusal import Path, refusal

MAX_DEPTH = 64
MAX_NODES = 20_000
MAX_CHARACTERS = 1_000_000
MAX_MEMBERS = 10_000
"""Entries of one list or object."""

_Item = tuple[object, "_Place | None", int]


class _Place:
    """A step of a path; paths are made only when something is refused."""

    __slots__ = ("key", "parent")

    def __init__(self, key: str | int, parent: _Place | None) -> None:
        self.key = key
        self.parent = parent


def check_budget(value: object, *, where: str) -> None:
    """Raise InvalidRequest unless the value is plain JSON within the limits of this file."""
    nodes = characters = 0
    pending: list[_Item] = [(value, None, 0)]
    while pending:
        item, place, depth = pending.pop()
        nodes += 1
        if depth > MAX_DEPTH:
            raise refusal(where, _path(place), f"nested deeper than {MAX_DEPTH} levels")
        if nodes + len(pending) > MAX_NODES:
            raise refusal(where, (), f"more than {MAX_NODES} values in one schema")
        characters += _text_length(item, place, where)
        if characters > MAX_CHARACTERS:
            raise refusal(where, (), f"more than {MAX_CHARACTERS} characters of text in one schema")
        pending.extend(_members(item, place, depth + 1, where))


def _text_length(item: object, place: _Place | None, where: str) -> int:
    """Return the characters that a value adds; a key counts with its object."""
    if isinstance(item, str):
        _check_text(item, place, where)
        return len(item)
    if isinstance(item, Mapping):
        return sum(len(key) for key in item if isinstance(key, str))
    if isinstance(item, float) and not math.isfinite(item):
        raise refusal(where, _path(place), "not a finite number")
    if item is None or isinstance(item, (bool, int, float, list, tuple)):
        return 0
    raise refusal(where, _path(place), f"a {type(item).__name__} is no JSON value")


def _members(item: object, place: _Place | None, depth: int, where: str) -> list[_Item]:
    if not isinstance(item, (Mapping, list, tuple)):
        return []
    if len(item) > MAX_MEMBERS:
        raise refusal(where, _path(place), f"{len(item)} entries, at most {MAX_MEMBERS} are allowed")
    if not isinstance(item, Mapping):
        return [(member, _Place(index, place), depth) for index, member in enumerate(item)]
    for key in item:
        if not isinstance(key, str):
            raise refusal(where, _path(place), "a key that is no text")
        _check_text(key, place, where)
    return [(member, _Place(key, place), depth) for key, member in item.items()]


def _check_text(text: str, place: _Place | None, where: str) -> None:
    if "\0" in text:
        raise refusal(where, _path(place), "text with a NUL character")
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise refusal(where, _path(place), "text with an unpaired surrogate")


def _path(place: _Place | None) -> Path:
    keys: list[str | int] = []
    while place is not None:
        keys.append(place.key)
        place = place.parent
    return tuple(reversed(keys))
