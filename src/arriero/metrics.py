"""Counters and histograms, and their text for Prometheus; the file that touches `prometheus_client`.

Counting is adding to a dict: one event loop owns what counts, so nothing is locked. What others know already
is read when somebody looks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

PREFIX = "arriero_"
MAX_SERIES = 2000
"""Label sets of one counter; what comes later is counted under `other`."""
OTHER = "other"

LATENCY_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0)
TOKEN_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5)

Labels = tuple[str, ...]


class Family(NamedTuple):
    """One name with its samples, as they are at this moment. `name` goes without prefix and `_total`."""

    kind: str
    name: str
    meaning: str
    labels: Labels
    samples: Iterable[tuple[Labels, float]]


def gauge(name: str, meaning: str, labels: Labels, samples: Iterable[tuple[Labels, float]]) -> Family:
    """Return what goes up and down."""
    return Family("gauge", name, meaning, labels, samples)


def total(name: str, meaning: str, labels: Labels, samples: Iterable[tuple[Labels, float]]) -> Family:
    """Return what only grows."""
    return Family("counter", name, meaning, labels, samples)


class Count:
    """What one label set has come to."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0


class Counter:
    """What only grows, by its labels."""

    __slots__ = ("_counts", "_labels", "_meaning", "_name")

    def __init__(self, name: str, meaning: str, labels: Labels = ()) -> None:
        self._name = name
        self._meaning = meaning
        self._labels = labels
        self._counts: dict[Labels, Count] = {}

    @property
    def values(self) -> dict[Labels, float]:
        """The counts as they are."""
        return {labels: count.value for labels, count in self._counts.items()}

    def of(self, labels: Labels) -> Count:
        """Return the count of these labels, to be kept by who adds to it often."""
        count = self._counts.get(labels)
        if count is None:
            if len(self._counts) >= MAX_SERIES:
                labels = (OTHER,) * len(self._labels)
            count = self._counts.setdefault(labels, Count())
        return count

    def add(self, labels: Labels = (), amount: float = 1) -> None:
        """Add to the count of these labels."""
        (self._counts.get(labels) or self.of(labels)).value += amount

    def metric(self) -> Metric:
        """Return the count as it is."""
        return _metric(total(self._name, self._meaning, self._labels, list(self.values.items())))


class Series:
    """How often values of one label set fell under each bound, and their sum."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, or one that came several times."""
        self.counts[bisect_left(self._bounds, value)] += times
        self.sum += value * times


class Histogram:
    """How often values fell under each bound, by labels."""

    __slots__ = ("_bounds", "_labels", "_meaning", "_name", "_series")

    def __init__(
        self, name: str, meaning: str, labels: Labels, bounds: tuple[float, ...] = LATENCY_S
    ) -> None:
        self._name = name
        self._meaning = meaning
        self._labels = labels
        self._bounds = bounds
        self._series: dict[Labels, Series] = {}

    def of(self, labels: Labels) -> Series:
        """Return the series of these labels, to be kept by who observes often."""
        series = self._series.get(labels)
        if series is None:
            if len(self._series) >= MAX_SERIES:
                labels = (OTHER,) * len(self._labels)
            series = self._series.setdefault(labels, Series(self._bounds))
        return series

    def observe(self, labels: Labels, value: float, times: int = 1) -> None:
        """Count a value, or one that came several times."""
        self.of(labels).observe(value, times)

    def metric(self) -> Metric:
        """Return the histogram as it is."""
        family = HistogramMetricFamily(PREFIX + self._name, self._meaning, labels=self._labels)
        names = [f"{bound:g}" for bound in self._bounds] + ["+Inf"]
        for labels, series in self._series.items():
            buckets = list(zip(names, accumulate(series.counts), strict=True))
            family.add_metric(labels, buckets, sum_value=series.sum)
        return family


def _metric(family: Family) -> Metric:
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = kind(PREFIX + family.name, family.meaning, labels=family.labels)
    for labels, value in family.samples:
        metric.add_metric(labels, value)
    return metric


class Exposition:
    """The metrics of one server as text.

    counted: what counts by itself. looked_at: tells what is known elsewhere, each time that somebody looks.
    """

    def __init__(
        self, counted: Iterable[Counter | Histogram], looked_at: Callable[[], Iterable[Family]]
    ) -> None:
        self._counted = tuple(counted)
        self._looked_at = looked_at
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics; the registry calls this."""
        for one in self._counted:
            yield one.metric()
        for family in self._looked_at():
            yield _metric(family)

    def text(self, accept: str) -> tuple[bytes, str]:
        """Return the text and its content type, in the form that a scraper accepts."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type
