"""From samples to tables: medians, ratios, and the engine's overhead per step. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.figures import Figure, Measure


@dataclass(frozen=True)
class Sample:
    """One figure of one server in one round. `foreign`: share of the machine that others used meanwhile."""

    model: str
    variant: str
    round: int
    figure: Figure
    foreign: float
    disturbed: bool


@dataclass(frozen=True)
class Comparison:
    """One measure of two servers: medians, their ratio (above 1: `ours` is better), its spread by round."""

    measure: Measure
    theirs: float
    ours: float
    ratio: float
    lowest: float
    highest: float
    rounds: int
    disturbed: int


def compare(samples: Iterable[Sample], *, theirs: str, ours: str) -> list[Comparison]:
    """Compare two variants of one model over the rounds that both have, measure by measure."""
    by_measure: dict[Measure, dict[int, dict[str, Sample]]] = {}
    for sample in samples:
        if sample.variant in (theirs, ours):
            rounds = by_measure.setdefault(sample.figure.measure, {})
            rounds.setdefault(sample.round, {})[sample.variant] = sample
    paired = {
        measure: [(pair[theirs], pair[ours]) for pair in rounds.values() if len(pair) == 2]
        for measure, rounds in by_measure.items()
    }
    return [comparison(measure, pairs) for measure, pairs in paired.items() if pairs]


def comparison(measure: Measure, pairs: Sequence[tuple[Sample, Sample]]) -> Comparison:
    """Return the comparison of one measure; the ratio is that of the medians."""
    theirs = median(their.figure.value for their, _ in pairs)
    ours = median(our.figure.value for _, our in pairs)
    ratios = [ratio(measure, their.figure.value, our.figure.value) for their, our in pairs]
    return Comparison(
        measure=measure,
        theirs=theirs,
        ours=ours,
        ratio=ratio(measure, theirs, ours),
        lowest=min(ratios),
        highest=max(ratios),
        rounds=len(pairs),
        disturbed=sum(their.disturbed or our.disturbed for their, our in pairs),
    )


def ratio(measure: Measure, theirs: float, ours: float) -> float:
    """Return how many times better ours is."""
    return ours / theirs if measure.rate else theirs / ours


def comparison_table(comparisons: Sequence[Comparison], *, theirs: str, ours: str) -> str:
    """Return the Markdown table of one pair of servers."""
    rows = [
        (
            item.measure.name,
            item.measure.unit,
            number(item.theirs),
            number(item.ours),
            f"**{item.ratio:.2f}**",
            f"{item.lowest:.2f} to {item.highest:.2f}",
            f"{item.rounds - item.disturbed} of {item.rounds}",
        )
        for item in comparisons
    ]
    return table(("measure", "unit", theirs, ours, "ratio", "by round", "quiet rounds"), rows)


def overhead_table(samples: Sequence[Sample]) -> str:
    """Return the Markdown table of what a decode step costs outside llama.cpp, or '' without counters.

    The engine counts `steps`, `loop_s` (whole steps) and `decode_s` (of that inside llama.cpp).
    """
    cells: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for sample in samples:
        details = sample.figure.details
        if details.get("engine_steps") and "engine_loop_s" in details:
            cells.setdefault((sample.variant, sample.figure.measure.name), []).append(overhead(details))
    rows = [
        (variant, measure, *(number(median(column)) for column in zip(*values, strict=True)))
        for (variant, measure), values in cells.items()
    ]
    head = ("server", "cell", "µs per step outside llama.cpp", "share of the step %", "tokens per step")
    return table(head, rows) if rows else ""


def overhead(details: dict[str, float]) -> tuple[float, float, float]:
    """Return (µs per step outside llama.cpp, their percentage of the step, tokens per step)."""
    steps, loop_s = details["engine_steps"], details["engine_loop_s"]
    outside_s = loop_s - details["engine_decode_s"]
    return (
        outside_s / steps * 1e6,
        100 * outside_s / loop_s,
        details.get("engine_completion_tokens", 0.0) / steps,
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float) -> str:
    """Return a figure with about three digits."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
