"""What the server does while memory is short: first caches are given up, then no new work is taken on.

Answers that run go on, and so do health, metrics and the admin API. The level falls again by itself.
"""

from __future__ import annotations

import logging
from enum import IntEnum
from typing import TYPE_CHECKING

from arriero.errors import Overloaded
from arriero.server.cgroup import Usage, memory_usage

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 5


class Level(IntEnum):
    """How short memory is."""

    NORMAL = 0
    SHORT = 1
    """Engines give up the prefixes that they keep in main memory."""
    FULL = 2
    """Requests that do work are refused."""


BEGINS = {Level.FULL: 0.92, Level.SHORT: 0.85}
"""The share of memory at which each level begins, the highest first."""
SLACK = 0.05
"""A level ends so far below its beginning, so that it does not come and go."""
EFFECTS = {
    Level.NORMAL: "all is served again",
    Level.SHORT: "stored prefixes are given up",
    Level.FULL: "stored prefixes are given up, and new work is refused",
}


def next_level(level: Level, usage: Usage) -> Level:
    """Return the level that follows on a level, at this usage.

    Work is refused only near a limit of our own: on a machine that others fill it might be refused for ever.
    """
    for one, begins in BEGINS.items():
        if one is Level.FULL and usage.is_machine:
            continue
        if usage.share >= (begins - SLACK if level >= one else begins):
            return one
    return Level.NORMAL


class Pressure:
    """Owns the level. read: tells how much memory is used, None if that is not known."""

    def __init__(self, read: Callable[[], Usage | None] = memory_usage) -> None:
        self.level = Level.NORMAL
        self.usage: Usage | None = None
        self._read = read

    @property
    def is_full(self) -> bool:
        """Whether new work is refused."""
        return self.level is Level.FULL

    def look(self) -> None:
        """Take the level that follows from how things stand now."""
        self.usage = self._read()
        before = self.level
        self.level = Level.NORMAL if self.usage is None else next_level(before, self.usage)
        if self.level is not before and self.usage is not None:
            write = logger.warning if self.level > before else logger.info
            write("%d %% of the memory are used: %s", 100 * self.usage.share, EFFECTS[self.level])

    def forget(self) -> None:
        """Take on everything: nobody wants to know."""
        self.level, self.usage = Level.NORMAL, None

    def check(self) -> None:
        """Let new work in. Raises Overloaded while memory is full."""
        if self.is_full:
            raise Overloaded("memory is short; try again later", retry_after_s=RETRY_AFTER_S)
