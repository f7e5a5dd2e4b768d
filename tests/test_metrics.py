"""Counters, histograms and their text."""

from __future__ import annotations

from arriero.metrics import MAX_SERIES, OTHER, Counter, Exposition, Histogram, gauge, total


def text(*counted: Counter | Histogram, looked_at: object = ()) -> list[str]:
    said, _ = Exposition(counted, lambda: looked_at).text("")  # type: ignore[arg-type,return-value]
    return [line for line in said.decode().splitlines() if line.startswith("arriero_")]


def test_a_counter_adds_up_by_its_labels() -> None:
    """Each label set has its own sum; the name ends in `_total`."""
    counter = Counter("things", "Things.", ("kind",))
    counter.add(("a",))
    counter.add(("a",), 2)
    counter.add(("b",))

    assert text(counter) == ['arriero_things_total{kind="a"} 3.0', 'arriero_things_total{kind="b"} 1.0']


def test_what_is_kept_counts_on() -> None:
    """A count and a series that were asked for once are those that everybody sees."""
    counter, histogram = Counter("things", "Things.", ("kind",)), Histogram("s", "S.", ("kind",), (1.0,))
    count, series = counter.of(("a",)), histogram.of(("a",))
    count.value += 2
    counter.add(("a",))
    series.observe(0.5)
    histogram.observe(("a",), 2.0)

    assert counter.values == {("a",): 3}
    assert series.counts == [1, 1]


def test_label_sets_are_bounded() -> None:
    """Whatever comes after the bound is counted together, so that nobody can fill the memory."""
    counter = Counter("things", "Things.", ("kind",))
    for number in range(MAX_SERIES + 50):
        counter.add((str(number),))

    assert len(counter.values) == MAX_SERIES + 1
    assert counter.values[(OTHER,)] == 50


def test_a_histogram_counts_what_is_at_most_a_bound() -> None:
    """A value on a bound is under it; the counts add up, and so do the values."""
    histogram = Histogram("wait_seconds", "Waits.", ("model",), (0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 7.0):
        histogram.observe(("m",), value)
    histogram.observe(("m",), 0.5, times=3)

    assert text(histogram) == [
        'arriero_wait_seconds_bucket{le="0.1",model="m"} 2.0',
        'arriero_wait_seconds_bucket{le="1",model="m"} 6.0',
        'arriero_wait_seconds_bucket{le="+Inf",model="m"} 7.0',
        'arriero_wait_seconds_count{model="m"} 7.0',
        'arriero_wait_seconds_sum{model="m"} 9.15',
    ]


def test_what_others_know_is_read_when_somebody_looks() -> None:
    """A gauge goes under its name, a total gets its ending."""
    families = [gauge("held", "Held.", (), [((), 2.0)]), total("done", "Done.", ("x",), [(("y",), 3.0)])]

    assert text(looked_at=families) == ["arriero_held 2.0", 'arriero_done_total{x="y"} 3.0']
