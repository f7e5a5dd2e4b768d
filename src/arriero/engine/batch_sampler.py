"""Chooses the next tokens of many generations at once, where their samplers have the usual shape.

Usual: greedy, or truncation by top-k, top-p and min-p, in this order, with top-k or min-p at its head.
`sampler.py` decides what is usual and chooses for all others, by the same rules. Right after a decode
all of Python is cold in the caches, so that the number of calls is what counts, not the arithmetic.

1. peaks: the best logits of columns of the vocabulary (candidates.py); from these a floor for each row
2. the logits that reach their row's floor, as a matrix of rows, best first
3. how many of each row's best stay, temperature, the draw

Pure numpy.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from arriero.engine.candidates import LOWEST, column_peaks, column_width
from arriero.engine.penalties import Logits, Tokens
from arriero.engine.truncation import num_holding, num_reaching
from arriero.sampling import AnySampler, MinP, TopK, TopP

MOST = 256
"""A larger top-k is not usual."""

WIDEST = 1024
"""If a row has more candidates, each row is left to its own sampler: it would widen all rows."""

_OFF = 2.0
"""A top-p that nothing reaches."""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """How to choose from one row of logits. `dice` gives numbers in [0, 1).

    top_k: how many stay, infinite where `min_p` alone decides.
    """

    top_k: float = 1
    top_p: float = _OFF
    top_p_keep: int = 1
    min_p: float = 0
    min_p_keep: int = 1
    temperature: float = 1
    dice: Callable[[], float] = float


GREEDY = Row()


def row_of(truncations: Sequence[AnySampler], temperature: float, dice: Callable[[], float]) -> Row | None:
    """Return the row for these truncations, in their order; None if they are not of the usual shape."""
    if temperature <= 0:
        return GREEDY
    kinds = [type(sampler) for sampler in truncations]
    if kinds[:1] not in ([TopK], [MinP]) or len(set(kinds)) < len(kinds):
        return None
    row = Row(top_k=math.inf, temperature=temperature, dice=dice)
    for sampler in truncations:
        match sampler:
            case TopK(k=k, min_keep=min_keep) if max(k, min_keep) <= MOST:
                row = replace(row, top_k=max(k, min_keep))
            case TopP(p=p, min_keep=min_keep):
                row = replace(row, top_p=p, top_p_keep=min_keep)
            case MinP(p=p, min_keep=min_keep) if min_keep <= 1 or row.top_k < math.inf:
                row = replace(row, min_p=p, min_p_keep=max(min_keep, 1))
            case _:
                return None
    return row


def choose_rows(rows: tuple[Row | None, ...], logits: Logits) -> list[int | None]:
    """Return the token of each row of logits, None where there is no `Row`.

    All are None if some logits are no finite numbers, or too many of them are near the best.
    """
    nothing: list[int | None] = [None] * len(rows)
    if not any(rows):
        return nothing
    batch = _batch(rows, logits.shape[1])
    peaks = column_peaks(logits)
    best = np.maximum.reduce(peaks, axis=1)
    if not math.isfinite(sum(best.tolist())):
        return nothing
    ranked = batch.ranked(logits, peaks, batch.floors(peaks, best))
    if ranked is None:
        return nothing
    uniforms = [row.dice() if row else 0.0 for row in rows]
    tokens = batch.drawn(*ranked, np.array(uniforms)[:, None])
    return [token if row else None for token, row in zip(tokens, rows, strict=True)]


class _Batch:
    """The settings of some rows as columns, with all that can be known before the logits are."""

    def __init__(self, rows: Sequence[Row | None], size: int) -> None:
        settings = [row or GREEDY for row in rows]
        self._size = size
        self._width = width = column_width(size)
        self._index = np.arange(len(rows))
        self._edges = np.arange(len(rows) + 1) * size
        self._starts = self._edges[:-1, None]
        self._lines = np.arange(0, size, width)
        top_k = np.array([row.top_k for row in settings])
        min_p = np.array([row.min_p for row in settings])
        # The k-th highest peak: at least k logits reach it, the best ones among them.
        self._places = np.maximum(width - top_k, 0).astype(np.intp)
        self._distinct_places = sorted(set(self._places.tolist()))
        self._has_no_place = (top_k > width) if (top_k > width).any() else None
        self._by_min_p = top_k == math.inf
        self._depths = np.minimum(np.log(min_p[self._by_min_p]), 0)
        self._top_k = np.minimum(top_k, size).astype(np.intp)[:, None]
        self._top_p = _column([row.top_p for row in settings], off=_OFF)
        self._top_p_keep = np.array([row.top_p_keep for row in settings])[:, None]
        self._min_p = _column(min_p.tolist(), off=0.0)
        self._min_p_keep = np.array([row.min_p_keep for row in settings])[:, None]
        self._temperature = np.array([row.temperature for row in settings])[:, None]

    def floors(self, peaks: Logits, best: Logits) -> Logits:
        """Return for each row a floor that all logits which may be chosen reach, and few others."""
        among = peaks.copy()
        among.partition(self._distinct_places, axis=1)
        floors: Logits = among[self._index, self._places]
        if self._has_no_place is not None:
            floors[self._has_no_place] = LOWEST
            floors[self._by_min_p] = best[self._by_min_p] + self._depths
        return np.maximum(floors, np.float32(LOWEST))

    def ranked(
        self, logits: Logits, peaks: Logits, floors: Logits
    ) -> tuple[Tokens, NDArray[np.float64], Tokens] | None:
        """Return ids and logits of what reaches its row's floor, best first, and how many these are.

        Equal ones stay in order; behind a row's last one follows -inf. None if there are too many.
        """
        flat = logits.reshape(-1)
        rows, columns = (peaks >= floors[:, None]).nonzero()
        found = (rows * self._size + columns)[:, None] + self._lines
        hits = flat.take(found, mode="clip") >= floors[rows, None]
        if self._size % self._width:
            hits[:, -1] &= columns < self._size % self._width
        found = found[hits]
        found.sort()
        edges = found.searchsorted(self._edges)
        firsts = edges[:-1, None]
        sizes = edges[1:, None] - firsts
        most = max(sizes.ravel().tolist())
        if most > WIDEST:
            return None
        across = np.arange(most)
        ids = found.take(firsts + across, mode="clip")
        unsorted = flat.take(ids).astype(np.float64)
        unsorted[across >= sizes] = -np.inf
        order = (-unsorted).argsort(axis=1, kind="stable")
        order += self._index[:, None] * most
        return ids.take(order), unsorted.take(order), sizes

    def drawn(
        self, ids: Tokens, logits: NDArray[np.float64], sizes: Tokens, uniforms: NDArray[np.float64]
    ) -> list[int]:
        """Return for each row the token at which the cumulative weight passes its share of the total."""
        across = np.arange(logits.shape[1])
        kept = self._kept(logits, sizes, across)
        heated = logits / self._temperature
        weights = np.exp(heated - heated[:, :1])
        weights[across >= kept] = 0
        cumulative = weights.cumsum(axis=1)
        passed = (cumulative <= uniforms * cumulative[:, -1:]).sum(axis=1, keepdims=True)
        chosen = np.minimum(passed, kept - 1)
        tokens: list[int] = (ids[self._index[:, None], chosen] - self._starts).ravel().tolist()
        return tokens

    def _kept(self, logits: NDArray[np.float64], sizes: Tokens, across: Tokens) -> Tokens:
        """Return how many of each row's best may be chosen."""
        kept: Tokens = np.minimum(sizes, self._top_k)
        if self._top_p is None and self._min_p is None:
            return kept
        weights = np.exp(logits - logits[:, :1])
        if self._top_p is not None:
            weights[across >= kept] = 0
            count = num_holding(weights, self._top_p)[:, None]
            kept = np.minimum(kept, np.maximum(count, self._top_p_keep))
        if self._min_p is not None:
            count = num_reaching(weights, self._min_p)[:, None]
            kept = np.minimum(kept, np.maximum(count, self._min_p_keep))
        return kept


_batch = functools.lru_cache(maxsize=4)(_Batch)
"""The rows stay the same for many steps."""


def _column(values: list[float], off: float) -> NDArray[np.float64] | None:
    return None if all(value == off for value in values) else np.array(values)[:, None]
