"""Medians, ratios and tables."""

from __future__ import annotations

import pytest
from benchmarks.figures import Figure, Measure
from benchmarks.report import Sample

from benchmarks import report

RATE = Measure("decode", "tokens/s", rate=True)
TIME = Measure("first token", "ms", rate=False)


def sample(variant: str, number: int, value: float, *, disturbed: bool = False) -> Sample:
    return Sample("m", variant, number, Figure(RATE, value), 0.0, disturbed)


@pytest.mark.parametrize(("measure", "ratio"), [(RATE, 0.5), (TIME, 2.0)])
def test_ratio_above_one_is_better(measure: Measure, ratio: float) -> None:
    """More of a rate is better, less of a time is better."""
    assert report.ratio(measure, 100.0, 50.0) == ratio


def test_compare_takes_medians_over_common_rounds() -> None:
    """A round that one server lacks does not count; the spread is that of the rounds."""
    samples = [
        *(sample("peer", number, value) for number, value in enumerate([10.0, 20.0, 40.0, 1000.0])),
        *(sample("ours", number, value) for number, value in enumerate([20.0, 30.0, 20.0])),
        sample("other", 3, 5.0),
    ]

    [found] = report.compare(samples, theirs="peer", ours="ours")

    assert (found.theirs, found.ours, found.ratio) == (20.0, 20.0, 1.0)
    assert (found.lowest, found.highest, found.rounds) == (0.5, 2.0, 3)


def test_disturbed_rounds_are_told() -> None:
    """A round is quiet only if both servers' cells were."""
    samples = [
        sample("peer", 0, 1.0, disturbed=True),
        sample("ours", 0, 1.0),
        sample("peer", 1, 1.0),
        sample("ours", 1, 2.0),
    ]

    [found] = report.compare(samples, theirs="peer", ours="ours")

    assert report.comparison_table([found], theirs="peer", ours="ours").splitlines()[2] == (
        "| decode | tokens/s | 1.00 | 1.50 | **1.50** | 1.00 to 2.00 | 1 of 2 |"
    )


def test_compare_without_the_other_is_empty() -> None:
    """Nothing is said of a server that did not run."""
    assert report.compare([sample("peer", 0, 1.0)], theirs="peer", ours="ours") == []


def test_overhead_per_step() -> None:
    """The time of the steps outside llama.cpp, per step and as a share, comes from the counters."""
    details = {
        "engine_steps": 100.0,
        "engine_loop_s": 2.0,
        "engine_decode_s": 1.9,
        "engine_completion_tokens": 800.0,
    }
    cell = Sample("m", "ours", 0, Figure(RATE, 1.0, details), 0.0, disturbed=False)

    assert report.overhead(details) == pytest.approx((1000.0, 5.0, 8.0))
    assert report.overhead_table([cell]).splitlines()[2] == "| ours | decode | 1000 | 5.00 | 8.00 |"
    assert report.overhead_table([sample("peer", 0, 1.0)]) == ""
