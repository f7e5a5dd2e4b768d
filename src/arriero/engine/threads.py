"""How many compute threads a decode gets, by how much of the cores it really gets.

The threads of a decode wait for each other some hundred times, and spin while they wait: on free cores
nothing is faster. Beside another busy process it is a disaster, as each waits for one that does not run.
While they spin, the CPU time of a step shows what share of its cores it had. If it had too little, the
next steps use only as many threads as there are cores to be had; from time to time all are tried again.

Pure: no clock of its own.
"""

from __future__ import annotations

WINDOW_S = 0.1
"""Time over which the share is taken: one hiccup does not count."""

ENOUGH = 0.8
"""Share of the cores below which threads are taken away."""

FIRST_HOLD_S = 1.0
LONGEST_HOLD_S = 16.0


class Threads:
    """Chooses `count`, at most `most`. Call `note` after each decode."""

    def __init__(self, most: int) -> None:
        self.count = self.most = most
        self._wall_s = self._cpu_s = 0.0
        self._hold_s = FIRST_HOLD_S
        self._held_s = 0.0

    def note(self, wall_s: float, cpu_s: float) -> None:
        """Take note of a decode: its duration, and the CPU time of all threads in it."""
        if self.count < self.most:
            self._hold(wall_s)
            return
        self._wall_s += wall_s
        self._cpu_s += cpu_s
        if self._wall_s < WINDOW_S:
            return
        cores = self._cpu_s / self._wall_s
        self._wall_s = self._cpu_s = 0.0
        if cores >= ENOUGH * self.count:
            self._hold_s = max(FIRST_HOLD_S, self._hold_s / 2)
        else:
            self.count = max(1, int(cores))

    def _hold(self, wall_s: float) -> None:
        self._held_s += wall_s
        if self._held_s >= self._hold_s:
            self._held_s = 0.0
            self._hold_s = min(2 * self._hold_s, LONGEST_HOLD_S)
            self.count = self.most
