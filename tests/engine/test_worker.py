"""The loop of an engine process."""

from __future__ import annotations

from typing import cast

import pytest

from arriero.engine import wire
from arriero.engine.engine import Engine
from arriero.engine.worker import Inbox, work


class Diary:
    """An engine and its commands in one: has work while `left` is above 0, and notes what is asked of it."""

    def __init__(self, *batches: int) -> None:
        self.noted: list[str] = []
        self._batches = list(batches)
        self._left = self._chores = 0

    @property
    def is_idle(self) -> bool:
        return self._left == 0

    def rest(self) -> bool:
        self.noted.append("rest")
        self._chores -= 1
        return self._chores >= 0

    def step(self) -> None:
        if self._left:
            self.noted.append("step")
            self._left -= 1

    def handle(self, command: wire.Command) -> None:
        assert isinstance(command, wire.Abort)
        self._left += command.id
        self._chores = 1

    def take(self, *, wait: bool) -> list[wire.Command]:
        if not wait:
            return []
        if not self._batches:
            raise EOFError
        return [wire.Abort(self._batches.pop(0))]


def test_it_rests_before_it_waits() -> None:
    """Without work the engine tidies until nothing is left of that, and then waits."""
    diary = Diary(3, 1)

    with pytest.raises(EOFError):
        work(cast("Engine", diary), cast("Inbox", diary))

    assert diary.noted == [
        *("rest", "step", "step", "step"),
        *("rest", "rest", "step"),
        *("rest", "rest"),
    ]
