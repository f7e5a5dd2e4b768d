"""What one rendering of a chat template may take: steps, characters, processor time, and the size of a value.

A template comes out of a model file. Whatever it does is counted here before or just after it is done, so
that it ends soon and in bounded memory. Lists inside of lists count as often as they would be written out:
twenty doublings of one make a text of a million.
"""

from __future__ import annotations

import time
from collections.abc import Collection, ItemsView, KeysView, ValuesView

from jinja2.exceptions import SecurityError

MAX_STEPS = 50_000
"""Turns of loops and calls of macros."""
MAX_CHARS = 16 * 1024 * 1024
"""Length of the rendered text and of any one value, written out."""
MAX_MADE = 16 * MAX_CHARS
"""Characters of all texts and lists together that are made on the way."""
MAX_ITEMS = 256 * 1024
"""Of one list or mapping."""
MAX_CPU_S = 2.0
_TICKS = 16
"""The clock is looked at once in so many operations."""
_MANY = 1000
"""And before the items of a longer list are looked at."""
_SCALAR = 32
"""Taken for the length of numbers and of whatever else is shorter than its name."""


class Budget:
    """What is left to one rendering. Raises SecurityError when something is used up."""

    def __init__(self) -> None:
        self._steps_left = MAX_STEPS
        self._chars_left = MAX_MADE
        self._ticks = 0
        self._end_s = time.thread_time() + MAX_CPU_S
        # By id, with the value, so that no other one gets its id. None of them is ever changed.
        self._sizes: dict[int, tuple[object, int]] = {}

    def step(self, chars: int) -> None:
        """Count one turn of a loop or one call of a macro, and the template's own text in it."""
        self._steps_left -= 1
        if self._steps_left < 0:
            raise SecurityError(f"the template takes more than {MAX_STEPS} steps")
        self._spend(chars)
        self.tick()

    def tick(self) -> None:
        """Count one operation that may take long."""
        self._ticks += 1
        if self._ticks % _TICKS == 0:
            self._look()

    def bound(self, size: int, limit: int = MAX_CHARS) -> None:
        """Refuse to make a value of this size."""
        if size > limit:
            raise SecurityError(f"the template makes a value of size {size}, more than {limit}")

    def made(self, value: object) -> None:
        """Count a value that has been made."""
        if isinstance(value, str):
            self.bound(len(value))
            self._spend(len(value))
        elif isinstance(value, list | tuple | dict):
            self.bound(len(value), MAX_ITEMS)
            self.bound(self.size(value))
            self._spend(len(value))

    def told(self, value: object) -> None:
        """Count a value before it is written out."""
        size = self.size(value)
        self.bound(size)
        self._spend(size)

    def forget(self) -> None:
        """Let go of the values that were seen."""
        self._sizes.clear()

    def size(self, value: object) -> int:
        """Return how long a value is about, written out."""
        match value:
            case str():
                return len(value)
            case dict():
                return self._known(value, (*value, *value.values()))
            case list() | tuple() | KeysView() | ValuesView() | ItemsView():
                return self._known(value, value)
            case int():
                return max(_SCALAR, value.bit_length())
        return _SCALAR

    def _look(self) -> None:
        if time.thread_time() > self._end_s:
            raise SecurityError(f"the template takes more than {MAX_CPU_S:g} s")

    def _known(self, value: object, items: Collection[object]) -> int:
        known = self._sizes.get(id(value))
        if known is None:
            if len(items) > _MANY:
                self._look()
            known = self._sizes[id(value)] = (value, 2 + sum(2 + self.size(item) for item in items))
        return known[1]

    def _spend(self, size: int) -> None:
        self._chars_left -= size
        if self._chars_left < 0:
            raise SecurityError(f"the template makes more than {MAX_MADE} characters in all")
