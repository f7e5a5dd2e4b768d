"""Takes the tool calls out of the text of an answer while it is being written. Pure.

The text must match a constraint of `tools.py`, perhaps cut off at the end: nothing is checked again.
Every cut of the text into pieces gives the same content, names and arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec

from arriero.grammar.call_format import HEAD, CallFormat


class Content(msgspec.Struct, frozen=True):
    """Text that belongs to no call."""

    text: str


class CallBegin(msgspec.Struct, frozen=True):
    """The next call has begun."""

    name: str


class Arguments(msgspec.Struct, frozen=True):
    """The next piece of the arguments, JSON as the model wrote it, of the call that began last."""

    text: str


Event = Content | CallBegin | Arguments


class CallParser:
    """Feed it each piece of the text, then finish. Owns what cannot be told apart yet."""

    def __init__(self, form: CallFormat, special: Collection[str] = ()) -> None:
        """special: marks of the form that are special tokens, and so are not in the text."""
        self._opening = form.opening(special)
        self._middle = len(form.middle)
        self._held = ""
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._step: Callable[[list[Event]], bool] = self._after_text if form.mark else self._at_start

    @property
    def has_calls(self) -> bool:
        """Whether there were calls, the last of them whole."""
        return self._step == self._after_call

    def feed(self, text: str) -> list[Event]:
        """Return what the next piece of the text makes certain."""
        self._held += text
        events: list[Event] = []
        while self._step(events):
            pass
        return events

    def finish(self) -> list[Event]:
        """Return what was held back; the beginning of a call that never came is content."""
        is_text = self._step in (self._at_start, self._after_text)
        held, self._held = self._held, ""
        return [Content(held)] if held and is_text else []

    # Each step takes what it can from the held text and answers whether the next one has work.

    def _at_start(self, events: list[Event]) -> bool:
        if self._held.startswith(self._opening):
            self._take(len(self._opening))
            self._step = self._in_name
        elif self._opening.startswith(self._held):
            return False
        else:
            self._step = self._in_text
        return True

    def _in_text(self, events: list[Event]) -> bool:
        if self._held:
            events.append(Content(self._take(len(self._held))))
        return False

    def _after_text(self, events: list[Event]) -> bool:
        place = self._held.find(self._opening)
        is_found = place >= 0
        text = self._take(place if is_found else len(self._held) - _overlap(self._held, self._opening))
        if text:
            events.append(Content(text))
        if is_found:
            self._take(len(self._opening))
            self._step = self._in_name
        return is_found

    def _in_name(self, events: list[Event]) -> bool:
        size = self._held.find('"')
        if size < 0 or len(self._held) < size + self._middle:
            return False
        events.append(CallBegin(self._take(size)))
        self._take(self._middle)
        self._step = self._in_arguments
        return True

    def _in_arguments(self, events: list[Event]) -> bool:
        size, is_whole = self._value_size()
        if size:
            events.append(Arguments(self._take(size)))
        if is_whole:
            self._step = self._after_call
        return is_whole

    def _after_call(self, events: list[Event]) -> bool:
        """Look for the next call: here only marks can stand before it."""
        place = self._held.find(HEAD)
        is_found = place >= 0
        self._take(place + len(HEAD) if is_found else len(self._held) - _overlap(self._held, HEAD))
        if is_found:
            self._step = self._in_name
        return is_found

    def _value_size(self) -> tuple[int, bool]:
        """Return how much of the held text belongs to the JSON object, and whether it ends there."""
        for index, character in enumerate(self._held):
            if self._in_string:
                ends = character == '"' and not self._escaped
                self._escaped = character == "\\" and not self._escaped
                self._in_string = not ends
            elif character == '"':
                self._in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth == 0:
                    return index + 1, True
        return len(self._held), False

    def _take(self, size: int) -> str:
        taken, self._held = self._held[:size], self._held[size:]
        return taken


def _overlap(text: str, opening: str) -> int:
    """Return the length of the longest end of the text that begins the opening."""
    sizes = range(min(len(text), len(opening) - 1), 0, -1)
    return next((size for size in sizes if text.endswith(opening[:size])), 0)
