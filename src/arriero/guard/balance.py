"""Which of several upstreams serves a request. Pure: the clock is passed in, and nothing is sent from here.

1. Upstreams whose circuit is open, and those that have been tried for this request, are left out.
2. Prompts that begin alike go to the same one (rendezvous hashing: only the prompts of an upstream that
   goes or comes change theirs), unless it has far more to do than the others.
3. Otherwise the one with the least to do is taken, in turn where several have as little.

A circuit opens after some failures in a row. When its pause is over one request is let through, and one more
after each further pause; a success, or a good health check, closes it, a failure doubles the pause.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    Clock = Callable[[], float]

FAILURES = 3
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
LOAD_FACTOR = 1.25
"""How much more than its share an upstream may have to do for the sake of affinity."""
SLACK = 4
"""Requests that any upstream may have for it."""


class Circuit:
    """Whether one upstream may be asked."""

    __slots__ = ("_clock", "_failures", "_is_trying", "_pause_s", "_pauses_until", "num_failures")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.num_failures = 0
        """Of all time."""
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S
        self._pauses_until: float | None = None
        self._is_trying = False

    @property
    def is_closed(self) -> bool:
        """Whether the upstream is taken to be well."""
        return self._pauses_until is None

    @property
    def is_passable(self) -> bool:
        """Whether a request may go through now."""
        if self._pauses_until is None:
            return True
        return self._clock() >= self._pauses_until

    def begin(self) -> None:
        """A request goes through. Its answer may be long in coming, so the next has not to wait for it."""
        if self._pauses_until is not None:
            self._pauses_until = self._clock() + self._pause_s
            self._is_trying = True

    def succeed(self) -> None:
        """The upstream has answered, a request or a health check."""
        self._failures, self._pause_s = 0, FIRST_PAUSE_S
        self._pauses_until, self._is_trying = None, False

    def fail(self) -> None:
        """The upstream has not answered, or could not."""
        self.num_failures += 1
        self._failures += 1
        if self._pauses_until is None and self._failures < FAILURES:
            return
        if self._is_trying:
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        self._pauses_until = self._clock() + self._pause_s
        self._is_trying = False


class Balancer:
    """Chooses among upstreams by their index. Owns their circuits and the counts of their requests."""

    def __init__(self, names: Collection[str], clock: Clock) -> None:
        self.circuits = [Circuit(clock) for _ in names]
        self.loads = [0] * len(names)
        self._names = [name.encode() for name in names]
        self._turn = 0

    def choose(self, affinity: bytes | None, tried: Collection[int] = ()) -> int | None:
        """Return an upstream, None if there is none to be asked. Changes nothing."""
        if len(self.circuits) == 1:
            return 0 if 0 not in tried and self.circuits[0].is_passable else None
        candidates = [
            index for index, circuit in enumerate(self.circuits) if index not in tried and circuit.is_passable
        ]
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        if affinity is not None:
            bound = max(SLACK, math.ceil(LOAD_FACTOR * (sum(self.loads) + 1) / len(candidates)))
            ranked = sorted(candidates, key=lambda index: self._rank(affinity, index), reverse=True)
            for index in ranked:
                if self.loads[index] < bound:
                    return index
        count = len(self.loads)
        return min(candidates, key=lambda index: (self.loads[index], (index - self._turn) % count))

    def begin(self, index: int) -> None:
        """Note that a request goes to an upstream; `end` must follow."""
        self.loads[index] += 1
        self._turn = (index + 1) % len(self.loads)
        self.circuits[index].begin()

    def end(self, index: int) -> None:
        """Note that a request has left its upstream, however it ended."""
        self.loads[index] -= 1

    def _rank(self, affinity: bytes, index: int) -> bytes:
        return hashlib.blake2b(affinity + self._names[index], digest_size=8).digest()
