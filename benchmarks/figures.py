"""The numbers that the parts give, and what is kept beside them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.stream import Batch


@dataclass(frozen=True)
class Measure:
    """What a number is. `rate`: more is better; else less is."""

    name: str
    unit: str
    rate: bool


@dataclass(frozen=True)
class Figure:
    """One measured number, with what else was seen."""

    measure: Measure
    value: float
    details: dict[str, float] = field(default_factory=dict)


def batch_details(batches: Sequence[Batch]) -> dict[str, float]:
    """Return what is worth keeping of batches besides the figure."""
    outcomes = [outcome for batch in batches for outcome in batch.outcomes]
    return {
        "wall_s": sum(batch.wall_s for batch in batches),
        "client_cpu_s": sum(batch.client_cpu_s for batch in batches),
        "events": sum(outcome.events for outcome in outcomes),
        "prompt_tokens": sum(outcome.prompt_tokens for outcome in outcomes),
        "cached_tokens": sum(outcome.cached_tokens for outcome in outcomes),
        "completion_tokens": sum(batch.completion_tokens for batch in batches),
        "first_max_s": max(outcome.first_s for outcome in outcomes),
        "decode_s": sum(batch.decode_s for batch in batches),
    }


def counted(before: dict[str, float] | None, after: dict[str, float] | None) -> dict[str, float]:
    """Return how far the engine's counters moved, each named `engine_<counter>`."""
    if before is None or after is None:
        return {}
    return {f"engine_{key}": value - before[key] for key, value in after.items() if key in before}
