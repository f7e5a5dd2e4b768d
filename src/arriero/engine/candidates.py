"""From a vocabulary of up to 262,144 logits to the few tokens that may be chosen, best first.

Never sorts the vocabulary. It is looked at as `ROWS` rows; one pass finds the best logit of each
column (its peak), and only columns whose peak is high enough are looked at again. `truncation.py`
goes on with the result, on small arrays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arriero.engine.penalties import Logits, Tokens
from arriero.errors import EngineError

ROWS = 64

LOWEST = float(np.finfo(np.float32).min)
"""Every logit below it is -inf: a forbidden token."""

SMALL_VOCABULARY = 100_000
"""Below, comparing all logits is cheaper than finding out which to compare."""

MANY = 1000

NEGLIGIBLE = 1e-7
"""Share of the probability that may be left out where a sampler would look at every token."""


@dataclass(slots=True)
class Candidates:
    """Tokens in descending order of `logits`. `weights` are the probabilities before normalisation.

    hidden: weight of the rest of the vocabulary, which is not listed but still counts in the total.
    """

    ids: Tokens
    logits: NDArray[np.float64]
    weights: NDArray[np.float64]
    hidden: float = 0.0

    def total(self) -> float:
        return float(self.weights.sum()) + self.hidden

    def best(self, count: int) -> Candidates:
        """Return the `count` best; the rest of the vocabulary no longer counts."""
        if count >= self.ids.size and not self.hidden:
            return self
        return Candidates(self.ids[:count], self.logits[:count], self.weights[:count])


class Field:
    """The logits of one step with their peaks. Repairs the logits in place: NaN counts as -inf."""

    def __init__(self, logits: Logits) -> None:
        self.logits = logits
        self.peaks = column_peaks(logits)
        self.best = float(np.maximum.reduce(self.peaks))
        if not math.isfinite(self.best):
            self._repair()

    def _repair(self) -> None:
        np.nan_to_num(self.logits, copy=False, nan=-np.inf, posinf=-LOWEST, neginf=-np.inf)
        self.peaks = column_peaks(self.logits)
        self.best = float(np.maximum.reduce(self.peaks))
        if self.best == -math.inf:
            raise EngineError("no token can be chosen: every logit is -inf or not a number")

    def top(self, count: int) -> Candidates:
        """Return the `count` best (of equal ones those with the lowest ids); fewer if more are forbidden."""
        if count >= self.logits.size:
            return self._ranked(self._reaching(LOWEST))
        among = self.peaks if count <= self.peaks.size else self.logits
        # The count-th highest peak: at least `count` logits reach it, the best ones among them.
        cut = among.size - count
        floor = np.partition(among, cut)[cut]
        return self._ranked(self._reaching(float(floor)), count)

    def above(self, floor: float, at_least: int = 1) -> Candidates:
        """Return all tokens with a logit of `floor` or more, but not fewer than `at_least`."""
        found = self._ranked(self._reaching(min(floor, self.best)))
        return found if found.ids.size >= at_least else self.top(at_least)

    def likelier(self, least: float, total: float, at_least: int = 1) -> Candidates:
        """Return all tokens with a probability of `least` or more; `total` is the field's total weight."""
        found = self.above(self.best + math.log(max(least * total, 1e-300)), at_least)
        found.hidden = max(total - found.total(), 0.0)
        return found

    def holding(self, hidden_share: float, temperature: float = 1.0) -> Candidates:
        """Return best tokens that hold all but `hidden_share` of the probability at `temperature`.

        The share is that of the exact total. It is smaller still at any lower temperature.
        """
        rest = self.weights(temperature)
        listed, depth = 0.0, 4.0
        while True:
            ids = self._reaching(self.best - depth * temperature)
            listed += float(rest.take(ids).sum(dtype=np.float64))
            rest[ids] = 0
            hidden = float(rest.sum())
            if hidden <= hidden_share * (listed + hidden):
                found = self._ranked(ids)
                found.hidden = hidden if temperature == 1 else 0.0
                return found
            depth *= 2

    def total(self) -> float:
        return float(self.weights().sum(dtype=np.float64))

    def heat(self, temperature: float) -> None:
        """Divide all logits by the temperature."""
        if temperature != 1:
            factor = np.float32(1 / temperature)
            self.logits *= factor
            self.peaks *= factor
            self.best = float(np.maximum.reduce(self.peaks))

    def weights(self, temperature: float = 1.0) -> NDArray[np.float32]:
        """Return the probabilities of the whole vocabulary before normalisation."""
        weights = self.logits - np.float32(self.best)
        if temperature != 1:
            with np.errstate(over="ignore"):
                weights *= np.float32(1 / temperature)
        np.exp(weights, out=weights)
        return weights

    def _reaching(self, floor: float) -> Tokens:
        return reaching(self.logits, self.peaks, floor)

    def _ranked(self, ids: Tokens, count: int | None = None) -> Candidates:
        found = self.logits.take(ids)
        order = _descending(found)[:count]
        logits = found.take(order).astype(np.float64)
        return Candidates(ids.take(order), logits, np.exp(logits - logits[0]))


def reaching(logits: Logits, peaks: Logits, floor: float) -> Tokens:
    """Return the ids of all logits that are at least `floor` and not -inf, ascending."""
    floor = max(floor, LOWEST)
    if logits.size <= SMALL_VOCABULARY:
        return (logits >= floor).nonzero()[0]
    columns = (peaks >= floor).nonzero()[0]
    if columns.size > peaks.size // 4:
        return (logits >= floor).nonzero()[0]
    ids = (np.arange(0, logits.size, peaks.size)[:, None] + columns).ravel()
    if logits.size % peaks.size:
        ids = ids[ids < logits.size]
    return ids.compress(logits.take(ids) >= floor)


def column_peaks(logits: Logits) -> Logits:
    """Return the best logit of each column."""
    width = max(logits.size // ROWS, 1)
    rest = logits.size % width
    whole = logits[: logits.size - rest] if rest else logits
    peaks: Logits = np.maximum.reduce(whole.reshape(-1, width))
    if rest:
        np.maximum(peaks[:rest], logits[-rest:], out=peaks[:rest])
    return peaks


def _descending(logits: Logits) -> Tokens:
    """Return the positions of the logits, best first; equal ones stay in order."""
    if logits.size < MANY:
        return (-logits).argsort(kind="stable")
    # numpy sorts integers many times faster than it argsorts: the order of a float's bits, its
    # position below it. Negative floats have their bits the other way round.
    bits = (0 - logits).view(np.int32)
    bits ^= (bits >> 31) & 0x7FFFFFFF
    keys = (bits.astype(np.int64) << 32) | np.arange(logits.size)
    keys.sort()
    return keys & 0xFFFFFFFF
