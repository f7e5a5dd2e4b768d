"""The common chain of samplers, with as few calls as can be: top-k, top-p, min-p, temperature.

Between two decodes all caches are cold, so that each call of numpy costs some ten microseconds
whatever it does. Numpy only finds the few candidates; the rest is plain arithmetic on short lists.
Chooses what `sampler.py` would choose, draw by draw.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from operator import neg

import numpy as np

from arriero.engine.candidates import LOWEST, column_peaks, reaching
from arriero.engine.penalties import Logits
from arriero.sampling import AnySampler, MinP, TopK, TopP

MOST = 256
"""A larger top-k is not usual."""

MOST_FOUND = 1024
"""If more tokens are near the best, arrays are faster than lists."""


@dataclass(frozen=True, slots=True, eq=False)
class UsualChain:
    """How to choose one token. `dice` gives numbers in [0, 1).

    top_k: how many stay, infinite where `min_p` alone decides. top_p: above 1 it is off.
    """

    top_k: float = 1
    top_p: float = math.inf
    top_p_keep: int = 1
    min_p: float = 0
    min_p_keep: int = 1
    temperature: float = 1
    dice: Callable[[], float] = float

    def choose(self, logits: Logits) -> int | None:
        """Return the next token.

        None if some logits are no finite numbers, or too many of them are near the best.
        """
        peaks = column_peaks(logits)
        best, floor = self._bounds(peaks)
        if not math.isfinite(best):
            return None
        found = reaching(logits, peaks, floor)
        if found.size > MOST_FOUND:
            return None
        values: list[float] = logits.take(found).tolist()
        order = sorted(range(len(values)), key=values.__getitem__, reverse=True)
        if self.top_k < len(order):
            del order[int(self.top_k) :]
        kept = self._num_kept([values[i] for i in order])
        heat = self.temperature
        hottest = best / heat
        weights = accumulate([math.exp(values[i] / heat - hottest) for i in order[:kept]])
        cumulative = list(weights)
        place = bisect_right(cumulative, self.dice() * cumulative[-1])
        return int(found[order[min(place, kept - 1)]])

    def _bounds(self, peaks: Logits) -> tuple[float, float]:
        """Return the best logit, and what all logits reach that may be chosen, and few others."""
        if self.top_k > peaks.size:
            best = float(np.maximum.reduce(peaks))
            floor = LOWEST if self.top_k < math.inf else best + min(math.log(self.min_p), 0.0)
            return best, floor
        # The k-th highest peak: at least k logits reach it, the best ones among them. A NaN comes last.
        place, last = peaks.size - int(self.top_k), peaks.size - 1
        parted = peaks.copy()
        parted.partition((place, last))
        return float(parted[last]), float(parted[place])

    def _num_kept(self, ranked: list[float]) -> int:
        """Return how many of the best may be chosen; `ranked` are their logits, best first."""
        kept = len(ranked)
        if self.top_p > 1 and not self.min_p:
            return kept
        best = ranked[0]
        weights = [math.exp(logit - best) for logit in ranked]
        if self.top_p <= 1:
            cumulative = list(accumulate(weights))
            count = bisect_left(cumulative, self.top_p * cumulative[-1]) + 1
            kept = min(kept, max(count, self.top_p_keep))
        if self.min_p:
            count = bisect_right(weights, -self.min_p, key=neg)
            kept = min(kept, max(count, self.min_p_keep))
        return kept


def usual_chain(
    truncations: Sequence[AnySampler], temperature: float, dice: Callable[[], float]
) -> UsualChain | None:
    """Return the chain of these truncations, in their order; None if it is not of the usual shape."""
    kinds = [type(sampler) for sampler in truncations]
    if temperature <= 0 or kinds[:1] not in ([TopK], [MinP]) or len(set(kinds)) < len(kinds):
        return None
    chain = UsualChain(top_k=math.inf, temperature=temperature, dice=dice)
    for sampler in truncations:
        match sampler:
            case TopK(k=k, min_keep=min_keep) if max(k, min_keep) <= MOST:
                chain = replace(chain, top_k=max(k, min_keep))
            case TopP(p=p, min_keep=min_keep):
                chain = replace(chain, top_p=p, top_p_keep=min_keep)
            case MinP(p=p, min_keep=min_keep) if min_keep <= 1 or chain.top_k < math.inf:
                chain = replace(chain, min_p=p, min_p_keep=max(min_keep, 1))
            case _:
                return None
    return chain
