"""How many compute threads a decode gets, by how many cores others leave.

The threads of a decode wait for each other some hundred times, and spin while they wait: on free cores
nothing is faster. Beside another busy process it is a disaster, as each waits for one that does not run.
So the engine looks, several times a second, how busy the cores are with other work, and uses only as many
threads as there are cores to be had.

Pure but for `busy_s`, which reads what the system has counted, and `look`, which takes the times.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

INTERVAL_S = 0.5
"""Time between two looks; the system counts in hundredths of a second."""

FIRST_INTERVAL_S = 0.06
"""Time to the first look after a pause: most pieces of work are short."""

BORNE = 0.6
"""Cores that others may take before a thread is taken away: a server and its clients need some."""


class Threads:
    """Chooses `count`, from 1 to `most`, on `cores` cores. Call `look` before each decode."""

    def __init__(self, most: int, cores: int) -> None:
        self.count = self.most = most
        self._cores = cores
        self._last: tuple[float, float, float] | None = None
        self._interval_s = FIRST_INTERVAL_S

    def is_due(self, now_s: float) -> bool:
        """Tell whether it is time for `note`."""
        return self._last is None or now_s - self._last[0] >= self._interval_s

    def note(self, now_s: float, busy_s: float, own_s: float) -> None:
        """Take note of the time, of how long all cores together were busy, and how long with our own work."""
        last, self._last = self._last, (now_s, busy_s, own_s)
        if last is None:
            return
        self._interval_s = INTERVAL_S
        wall_s = now_s - last[0]
        others = max(0.0, (busy_s - last[1]) - (own_s - last[2])) / wall_s
        free = self._cores - others
        self.count = max(1, min(self.most, int(free + BORNE)))

    def pause(self) -> None:
        """Begin anew with all threads: a time without work says nothing about the cores."""
        self._last = None
        self._interval_s = FIRST_INTERVAL_S
        self.count = self.most


def look(threads: Threads, cpus: frozenset[int]) -> None:
    """Let `threads` note how busy these cores are by now, if it is time for that. Call before each decode."""
    now_s = time.perf_counter()
    if threads.is_due(now_s) and (busy := busy_s(cpus)) is not None:
        threads.note(now_s, busy, time.process_time())


def usable_cpus() -> frozenset[int]:
    """Return the cores that this process may use; none where the system does not tell."""
    return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()


def busy_s(cpus: frozenset[int]) -> float | None:
    """Return how long these cores together were busy since the start of the system; None where unknown."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return None
    ticks = 0
    for line in lines:
        name, *numbers = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cpus:
            user, nice, system, _idle, _iowait, irq, softirq = map(int, numbers[:7])
            ticks += user + nice + system + irq + softirq
    return ticks / os.sysconf("SC_CLK_TCK")
