"""What a task has done so far, in the wire form of `/v1/stats`. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from arriero.core import Delta

NANOS = 1_000_000_000


class Duration(msgspec.Struct, frozen=True):
    """A time span in whole seconds and the nanoseconds beyond them."""

    secs: int = 0
    nanos: int = 0

    @classmethod
    def of_nanos(cls, nanos: int) -> Duration:
        return cls(*divmod(nanos, NANOS))

    def plus(self, seconds: float, *, times: int = 1) -> Duration:
        """Return this and `times` times the seconds (none if negative)."""
        added = max(0, round(seconds * NANOS)) * times
        return Duration.of_nanos(self.secs * NANOS + self.nanos + added)


class TaskStats(msgspec.Struct, frozen=True):
    """Completed completions (cycles), their tokens and times; `*_threads` = time x threads of the model."""

    cycles: int = 0
    predict_duration: Duration = Duration()
    predict_duration_threads: Duration = Duration()
    predict_tokens: int = 0
    prompt_duration: Duration = Duration()
    prompt_duration_threads: Duration = Duration()
    prompt_tokens: int = 0

    def counting(self, last: Delta, *, held_tokens: int, threads: int) -> TaskStats:
        """Return the stats with one more completion, known by its last delta.

        held_tokens: tokens of the prompt that are not counted, because they were there before the
            turn: the prelude and earlier turns.
        """
        prompt_tokens = last.usage.prompt_tokens if last.usage else 0
        predict_tokens = last.usage.completion_tokens if last.usage else 0
        return TaskStats(
            cycles=self.cycles + 1,
            predict_duration=self.predict_duration.plus(last.predict_s),
            predict_duration_threads=self.predict_duration_threads.plus(last.predict_s, times=threads),
            predict_tokens=self.predict_tokens + predict_tokens,
            prompt_duration=self.prompt_duration.plus(last.prompt_s),
            prompt_duration_threads=self.prompt_duration_threads.plus(last.prompt_s, times=threads),
            prompt_tokens=self.prompt_tokens + max(0, prompt_tokens - held_tokens),
        )
