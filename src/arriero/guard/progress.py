"""Whether a stream has told its whole answer, by the upstream's own words."""

from __future__ import annotations

import msgspec

from arriero.guard.routes import Route

_LAST_EVENTS = frozenset({"response.completed", "response.incomplete", "response.failed"})
_GIVEN_UP = frozenset({"abort", "error"})
"""What some upstreams call the end of an answer that they could not finish."""


class _Choice(msgspec.Struct):
    index: int = 0
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice]


class _Event(msgspec.Struct):
    type: str


_CHUNK = msgspec.json.Decoder(_Chunk)
_EVENT = msgspec.json.Decoder(_Event)


class CompletionProgress:
    """Completions of which each must be finished by name."""

    __slots__ = ("_choices", "_finished")

    def __init__(self, choices: int) -> None:
        self._choices = choices
        self._finished: set[int] = set()

    def note(self, event: bytes) -> bool:
        """Take note of an event; return whether another of its kind would change nothing here.

        Raises msgspec.DecodeError for what is no event of completions, ValueError for one too many.
        """
        choices = _CHUNK.decode(event).choices
        for choice in choices:
            if not 0 <= choice.index < self._choices:
                raise ValueError("the upstream sent more completions than were asked for")
            if choice.finish_reason in _GIVEN_UP:
                raise ValueError("the upstream gave the answer up")
            if choice.finish_reason is not None:
                self._finished.add(choice.index)
        return len(choices) == 1 and choices[0].finish_reason is None

    @property
    def is_complete(self) -> bool:
        """Whether every completion has finished."""
        return len(self._finished) == self._choices


class ResponseProgress:
    """A response, which ends with an event that says how."""

    def __init__(self) -> None:
        self.is_complete = False

    def note(self, event: bytes) -> bool:
        """Take note of an event. Raises msgspec.DecodeError for what is none."""
        if _EVENT.decode(event).type in _LAST_EVENTS:
            self.is_complete = True
        return False


def progress_of(route: Route, choices: int) -> CompletionProgress | ResponseProgress:
    """Return the progress that a route's streams make."""
    return ResponseProgress() if route is Route.RESPONSES else CompletionProgress(choices)
