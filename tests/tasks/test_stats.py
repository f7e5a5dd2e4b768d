"""What a task has done, in the wire form of /v1/stats."""

from __future__ import annotations

import msgspec
import pytest

from arriero.core import Delta, FinishReason, Usage
from arriero.tasks.stats import Duration, TaskStats


def last(prompt: int, completion: int, prompt_s: float, predict_s: float) -> Delta:
    usage = Usage(prompt_tokens=prompt, completion_tokens=completion)
    return Delta(finish_reason=FinishReason.STOP, usage=usage, prompt_s=prompt_s, predict_s=predict_s)


def test_completions_add_up() -> None:
    """Cycles, tokens and times are sums; thread times are multiplied; held tokens are not counted."""
    stats = TaskStats().counting(last(30, 5, 0.25, 1.5), held_tokens=20, threads=4)
    stats = stats.counting(last(7, 1, 0.75, 0.5), held_tokens=0, threads=4)

    assert msgspec.to_builtins(stats) == {
        "cycles": 2,
        "predict_duration": {"secs": 2, "nanos": 0},
        "predict_duration_threads": {"secs": 8, "nanos": 0},
        "predict_tokens": 6,
        "prompt_duration": {"secs": 1, "nanos": 0},
        "prompt_duration_threads": {"secs": 4, "nanos": 0},
        "prompt_tokens": 17,
    }


@pytest.mark.parametrize(
    ("seconds", "times", "expected"),
    [
        (0.0, 1, Duration(1, 999_999_999)),
        (1e-9, 1, Duration(2, 0)),
        (2.5, 2, Duration(6, 999_999_999)),
        (-1.0, 1, Duration(1, 999_999_999)),
    ],
)
def test_durations_carry_nanoseconds(seconds: float, times: int, expected: Duration) -> None:
    """Nanoseconds stay below a second, and a negative time adds nothing."""
    assert Duration(1, 999_999_999).plus(seconds, times=times) == expected


def test_a_delta_without_usage_counts_as_a_cycle() -> None:
    """A model that reports no usage is counted by its completions and times."""
    stats = TaskStats().counting(Delta(finish_reason=FinishReason.STOP), held_tokens=9, threads=1)

    assert stats == TaskStats(cycles=1)
