"""The number of compute threads follows the cores that others leave."""

from __future__ import annotations

import os
import time

import pytest

from arriero.engine.threads import FIRST_INTERVAL_S, INTERVAL_S, Threads, busy_s, look, usable_cpus


def watched(threads: Threads, *others: float, own: float | None = None) -> list[int]:
    """Note one interval after the other with so many cores taken by others; return the counts."""
    counts = []
    now = busy = mine = 0.0
    threads.note(now, busy, mine)
    for cores in others:
        now += INTERVAL_S
        used = float(threads.count) if own is None else own
        mine += used * INTERVAL_S
        busy += (used + cores) * INTERVAL_S
        threads.note(now, busy, mine)
        counts.append(threads.count)
    return counts


@pytest.mark.parametrize(
    ("most", "cores", "others", "count"),
    [
        pytest.param(2, 2, 0.0, 2, id="alone"),
        pytest.param(2, 2, 0.3, 2, id="a server and its clients are borne"),
        pytest.param(2, 2, 0.7, 1, id="a busy process"),
        pytest.param(2, 2, 5.0, 1, id="never fewer than one"),
        pytest.param(4, 8, 3.0, 4, id="others on the spare cores"),
        pytest.param(8, 8, 2.9, 5, id="as many as are left"),
    ],
)
def test_count(most: int, cores: int, others: float, count: int) -> None:
    """As many threads as there are cores to be had."""
    assert watched(Threads(most, cores), others) == [count]


def test_threads_come_back() -> None:
    """When the others have gone, all threads are back at the next look."""
    assert watched(Threads(2, 2), 1.0, 1.0, 0.0, 0.1) == [1, 1, 2, 2]


def test_a_pause_says_nothing() -> None:
    """After a pause all threads are back, and the first look comes soon, however long the steps are."""
    threads = Threads(2, 2)
    watched(threads, 1.0)
    threads.pause()
    assert threads.count == 2
    threads.note(100.0, 200.0, 0.0)
    assert threads.count == 2
    assert not threads.is_due(100.0 + FIRST_INTERVAL_S / 2)
    assert threads.is_due(100.0 + 1.5 * FIRST_INTERVAL_S)
    threads.note(110.0, 219.0, 9.0)
    assert threads.count == 1
    assert not threads.is_due(110.0 + 1.5 * FIRST_INTERVAL_S)


@pytest.mark.skipif(not os.path.exists("/proc/stat"), reason="this system does not count like Linux")
def test_a_look_is_noted() -> None:
    """A look at the cores counts as one, so that the next is not due at once."""
    threads = Threads(2, 2)
    look(threads, usable_cpus())

    assert not threads.is_due(time.perf_counter())


@pytest.mark.skipif(not os.path.exists("/proc/stat"), reason="this system does not count like Linux")
def test_busy_time_counts_our_own_work() -> None:
    """A core that works for a while was busy for about that long."""
    cpus = frozenset(os.sched_getaffinity(0))
    before = busy_s(cpus)
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    after = busy_s(cpus)
    assert before is not None
    assert after is not None
    assert after - before >= 0.25
