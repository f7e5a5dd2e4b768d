"""Truncation: which of the candidates may be chosen. One small function for each sampler.

Each takes candidates, best first, and returns those that stay, best first, never none. `min_keep`
of them stay in any case. Definitions as in Poly's samplers and, for min-p, typical and XTC, llama.cpp.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from arriero.engine.candidates import Candidates
from arriero.sampling import LocallyTypical, MinP, TailFree, TopA, TopK, TopP, Xtc

Weights = NDArray[np.float64]


def num_holding(weights: Weights, share: float, hidden: float) -> int:
    """Return how many of the best hold `share` of the weight."""
    cumulative = weights.cumsum()
    return int((cumulative < share * (cumulative[-1] + hidden)).sum()) + 1


def num_reaching(weights: Weights, share: float) -> int:
    """Return how many weigh at least `share` of the best."""
    return int((weights >= share * weights[0]).sum())


def keep_top_k(candidates: Candidates, sampler: TopK) -> Candidates:
    return candidates.best(max(sampler.k, sampler.min_keep))


def keep_top_p(candidates: Candidates, sampler: TopP) -> Candidates:
    count = num_holding(candidates.weights, sampler.p, candidates.hidden)
    return candidates.best(max(count, sampler.min_keep))


def keep_min_p(candidates: Candidates, sampler: MinP) -> Candidates:
    count = num_reaching(candidates.weights, sampler.p)
    return candidates.best(max(count, sampler.min_keep, 1))


def keep_top_a(candidates: Candidates, sampler: TopA) -> Candidates:
    highest = float(candidates.weights[0]) / candidates.total()
    # a1 * highest ** a2 of the total, as a share of the best.
    count = num_reaching(candidates.weights, sampler.a1 * highest ** (sampler.a2 - 1))
    return candidates.best(max(count, sampler.min_keep, 1))


def keep_tail_free(candidates: Candidates, sampler: TailFree) -> Candidates:
    """Cut where the normalised curvature (absolute second difference) of the probabilities adds up to z."""
    curvature = np.abs(np.diff(candidates.weights, n=2))
    total = curvature.sum()
    if not total > 0:
        return candidates
    beyond = (curvature.cumsum() / total > sampler.z).nonzero()[0]
    if not beyond.size:
        return candidates
    count = max(int(beyond[0]), sampler.min_keep, 1)
    # The last two candidates have no curvature of their own: they go only if the cut lies before them.
    return candidates.best(count) if count < curvature.size else candidates


def keep_typical(candidates: Candidates, sampler: LocallyTypical) -> Candidates:
    """Keep those whose surprise is nearest to the entropy, until their probability exceeds p."""
    total = candidates.total()
    probabilities = candidates.weights / total
    surprise = np.log(total) - (candidates.logits - candidates.logits[0]) - np.log(candidates.weights[0])
    entropy = float((probabilities * surprise).sum())
    order = np.abs(surprise - entropy).argsort(kind="stable")
    count = int(probabilities[order].cumsum().searchsorted(sampler.p, side="right")) + 1
    kept = np.sort(order[: max(count, sampler.min_keep)])
    return Candidates(candidates.ids[kept], candidates.logits[kept], candidates.weights[kept])


def exclude_top(candidates: Candidates, sampler: Xtc) -> Candidates:
    """XTC, once its dice have decided: of the tokens above the threshold keep the least likely one."""
    enough = sampler.threshold * candidates.total()
    first = int((candidates.weights >= enough).sum()) - 1
    if first < 1 or candidates.ids.size - first < sampler.min_keep:
        return candidates
    return Candidates(candidates.ids[first:], candidates.logits[first:], candidates.weights[first:])
