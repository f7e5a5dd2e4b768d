"""What an engine has done since its start, and when it is due to tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arriero.engine.wire import EngineStats

if TYPE_CHECKING:
    from arriero.engine.scheduler import Scheduler
    from arriero.engine.sequence import Sequence

STATS_S = 0.1
"""How old the counters may be that the server shows while answers run."""


class Tally:
    """The counters of one engine; its loop adds to them. Times in seconds, sizes in tokens."""

    __slots__ = ("_due", "cached_tokens", "completion_tokens", "decode_s", "loop_s", "prompt_tokens", "steps")

    def __init__(self) -> None:
        self.steps = 0
        self.decode_s = self.loop_s = 0.0
        self.prompt_tokens = self.cached_tokens = self.completion_tokens = 0
        self._due = 0.0

    def count_prompt(self, sequence: Sequence) -> None:
        """Count the prompt of a sequence that is done."""
        self.prompt_tokens += sequence.prompt_size
        self.cached_tokens += sequence.cached

    def is_due(self, now: float) -> bool:
        """Whether it is time to tell again; asking counts as telling."""
        if now < self._due:
            return False
        self._due = now + STATS_S
        return True

    def stats(self, scheduler: Scheduler) -> EngineStats:
        """Return the counters, and how things stand at this moment."""
        return EngineStats(
            steps=self.steps,
            decode_s=self.decode_s,
            loop_s=self.loop_s,
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached_tokens,
            completion_tokens=self.completion_tokens,
            running=len(scheduler.running),
            waiting=len(scheduler.waiting),
            used_cells=scheduler.cells.used,
            cells=scheduler.limits.cells,
            idle_prefixes=len(scheduler.idle),
            stored_prefixes=len(scheduler.store),
            stored_bytes=scheduler.store.num_bytes,
        )
