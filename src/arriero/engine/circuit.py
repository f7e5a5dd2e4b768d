"""When an engine process that ends again and again is left to rest, and which request ended it. Pure.

1. CLOSED: the process is started again after a short pause, which doubles with each start that fails.
2. OPEN, after `most_crashes` ends within that time: it rests, and is started once to see how it does; each
   end then doubles the rest. A request that is answered in full closes the circuit.
A start that fails is an end too. The caller has the clock.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass

import msgspec

from arriero.engine import wire

MOST_CRASHES = 5


@dataclass(frozen=True, slots=True)
class Pauses:
    """How long an engine process stays ended, in seconds; each pair doubles from the first to the last."""

    first_s: float = 0.25
    longest_s: float = 30.0
    first_rest_s: float = 10.0
    longest_rest_s: float = 120.0


class Circuit:
    """Owns the times at which the engine process of one model has ended."""

    def __init__(
        self, most_crashes: int = MOST_CRASHES, *, within_s: float = 60.0, pauses: Pauses | None = None
    ) -> None:
        self.most_crashes = most_crashes
        self.within_s = within_s
        self.is_open = False
        self._pauses = pauses or Pauses()
        self._ends: deque[float] = deque()
        self._num_pauses = self._num_rests = 0

    def crashed(self, now: float) -> float:
        """Take the news of an end; return how long to wait before the next start."""
        while self._ends and self._ends[0] < now - self.within_s:
            self._ends.popleft()
        if not self._ends and not self.is_open:
            self._num_rests = 0
        self._ends.append(now)
        self.is_open = self.is_open or len(self._ends) >= self.most_crashes
        pauses = self._pauses
        if not self.is_open:
            self._num_pauses += 1
            return _doubled(pauses.first_s, self._num_pauses - 1, pauses.longest_s)
        self._num_rests += 1
        return _doubled(pauses.first_rest_s, self._num_rests - 1, pauses.longest_rest_s)

    def started(self) -> None:
        """Take the news of a start that has succeeded."""
        self._num_pauses = 0

    def served(self) -> None:
        """Take the news of a request that was answered in full."""
        self.is_open = False


def _doubled(first: float, times: int, longest: float) -> float:
    return min(first * 2.0 ** min(times, 32), longest)


class Suspects:
    """Which requests have ended the engine before. Owns their digests; their texts are not kept.

    A request is one when it was the only one under way at several ends in a row; it is refused for a while.
    """

    MOST_ENDS = 3
    REFUSED_S = 600.0

    def __init__(self) -> None:
        self._last = b""
        self._num_ends = 0
        self._refused_until: dict[bytes, float] = {}

    def crashed(self, under_way: list[wire.Command], now: float) -> None:
        """Take the news of an end, and what the engine was asked just then."""
        digest = digest_of(under_way[0]) if len(under_way) == 1 else b""
        self._num_ends = self._num_ends + 1 if digest == self._last else 1
        self._last = digest
        if digest and self._num_ends >= self.MOST_ENDS:
            self._refused_until[digest] = now + self.REFUSED_S

    def is_refused(self, command: wire.Command, now: float) -> bool:
        """Say whether a request has ended the engine too often."""
        if not self._refused_until:  # as nearly always
            return False
        self._refused_until = {one: until for one, until in self._refused_until.items() if until > now}
        return digest_of(command) in self._refused_until


def digest_of(command: wire.Command) -> bytes:
    """Return what is the same for the same request of the same tenant."""
    return hashlib.sha256(wire.encode(msgspec.structs.replace(command, id=0))).digest()
