"""The number of compute threads follows the cores that are to be had."""

from __future__ import annotations

import pytest

from arriero.engine.threads import FIRST_HOLD_S, LONGEST_HOLD_S, WINDOW_S, Threads


def spend(threads: Threads, seconds: float, cores: float) -> list[int]:
    """Decode in steps of 10 ms with at most `cores` cores to be had; return the counts on the way."""
    counts = []
    for _ in range(round(seconds / 0.01)):
        threads.note(0.01, 0.01 * min(cores, threads.count))
        counts.append(threads.count)
    return counts


def test_free_cores_keep_all_threads() -> None:
    """A step that has its cores to itself keeps its threads."""
    assert set(spend(Threads(4), 5, cores=4)) == {4}


@pytest.mark.parametrize(("most", "cores", "count"), [(2, 1.4, 1), (8, 6.1, 6), (8, 0.3, 1), (4, 3.5, 4)])
def test_a_busy_neighbour_takes_threads_away(most: int, cores: float, count: int) -> None:
    """As many threads are left as there are whole cores, at least one; a small loss is borne."""
    assert spend(Threads(most), 2 * WINDOW_S, cores)[-1] == count


def test_one_slow_step_is_borne() -> None:
    """A single hiccup in a run of good steps changes nothing."""
    threads = Threads(2)
    threads.note(0.045, 0.09)
    threads.note(0.01, 0.008)
    assert threads.count == 2


def test_all_threads_are_tried_again() -> None:
    """When the neighbour has gone, all threads are back after the hold."""
    threads = Threads(2)
    spend(threads, 2 * WINDOW_S, cores=1.2)
    assert set(spend(threads, FIRST_HOLD_S + 0.1, cores=2)[-5:]) == {2}


def test_a_neighbour_that_stays_is_tried_more_and_more_rarely() -> None:
    """The share of time with too many threads falls to almost nothing."""
    threads = Threads(2)
    counts = spend(threads, 120, cores=1.2)
    last = counts[-round(LONGEST_HOLD_S / 0.01) * 2 :]
    assert counts.count(2) / len(counts) < 0.03
    assert 0 < last.count(2) <= 3 * WINDOW_S / 0.01
