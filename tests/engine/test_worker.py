"""The loop of an engine process."""

from __future__ import annotations

import socket
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

    def rest(self) -> float | None:
        self.noted.append("rest")
        self._chores -= 1
        return 0.2 if self._chores >= 0 else None

    def step(self) -> None:
        if self._left:
            self.noted.append("step")
            self._left -= 1

    def handle(self, command: wire.Command) -> None:
        assert isinstance(command, wire.Abort)
        self._left += command.id
        self._chores = 1

    def take(self, wait_s: float | None) -> list[wire.Command]:
        self.noted += [f"wait {wait_s}"] if wait_s else []
        if wait_s is not None:
            return []
        if not self._batches:
            raise EOFError
        return [wire.Abort(self._batches.pop(0))]


def test_it_rests_before_it_waits() -> None:
    """Without work the engine waits as long as its tidying asks for, and then for ever."""
    diary = Diary(3, 1)

    with pytest.raises(EOFError):
        work(cast("Engine", diary), cast("Inbox", diary))

    assert diary.noted == [
        *("rest", "step", "step", "step"),
        *("rest", "wait 0.2", "rest", "step"),
        *("rest", "wait 0.2", "rest"),
    ]


def test_it_waits_no_longer_than_it_is_told() -> None:
    """No command within the time: none; then what has come, and EOFError when the other end is closed."""
    ours, theirs = socket.socketpair()
    with ours:
        inbox = Inbox(ours)
        assert inbox.take(0.001) == []
        with theirs:
            theirs.sendall(wire.encode(wire.Abort(7)))
            assert inbox.take(None) == [wire.Abort(7)]
        with pytest.raises(EOFError):
            inbox.take(None)
