"""Mirostat: choose tokens so that their surprise, in bits, stays near `tau`.

`mu`, the surprise that is still allowed, adapts with every token and lives as long as the generation.
"""

from __future__ import annotations

import math

import numpy as np

from arriero.engine.candidates import Candidates, Field
from arriero.sampling import Mirostat1, Mirostat2

STEEPNESS_FLOOR = 1e-6
"""Keeps the width finite where the probabilities do not fall at all."""


class Mirostat:
    """One generation's Mirostat. Owns `mu`."""

    def __init__(self, sampler: Mirostat1 | Mirostat2, vocab_size: int) -> None:
        self._sampler = sampler
        self._vocab_size = vocab_size
        self.mu = 2 * sampler.tau if sampler.mu is None else sampler.mu

    def first_cut(self, field: Field) -> Candidates:
        """Return at least the tokens that will be drawn from."""
        match self._sampler:
            case Mirostat1(m=m) as sampler:
                best = field.top(max(m, 2))
                return field.top(max(best.ids.size, self._width(best, sampler)))
            case Mirostat2():
                return field.likelier(self._least(), field.total())

    def choose(self, candidates: Candidates, uniform: float) -> int:
        """Draw a token with a number in [0, 1) and adapt `mu` to its surprise."""
        match self._sampler:
            case Mirostat1() as sampler:
                candidates = candidates.best(self._width(candidates, sampler))
            case Mirostat2():
                enough = candidates.weights >= self._least() * candidates.total()
                candidates = candidates.best(max(int(enough.sum()), 1))
        chosen = drawn(candidates, uniform)
        probability = float(candidates.weights[chosen]) / candidates.total()
        self.mu -= self._sampler.eta * (-math.log2(probability) - self._sampler.tau)
        return int(candidates.ids[chosen])

    def _width(self, candidates: Candidates, sampler: Mirostat1) -> int:
        fall = -np.diff(candidates.logits[: max(sampler.m, 2)])
        return zipf_width(fall, self.mu, sampler.n_vocab or self._vocab_size)

    def _least(self) -> float:
        """The probability of a token whose surprise is `mu`."""
        return math.pow(2, -min(max(self.mu, 0), 1000))


def drawn(candidates: Candidates, uniform: float) -> int:
    """Return the position of the candidate at which the cumulative weight passes `uniform` of the total."""
    cumulative = candidates.weights.cumsum()
    chosen = int(cumulative.searchsorted(uniform * cumulative[-1], side="right"))
    return min(chosen, candidates.ids.size - 1)


def zipf_width(fall: np.ndarray[tuple[int], np.dtype[np.float64]], mu: float, vocab_size: int) -> int:
    """Return how many of the best tokens v1 draws from.

    fall: by how much each of the best logits is above the next. If the probabilities follow Zipf's
    law with the steepness estimated from it, a draw from that many tokens has the surprise `mu`.
    """
    if not fall.size:
        return 1
    ranks = np.arange(1, fall.size + 1)
    steps = np.log((ranks + 1) / ranks)
    steepness = max(float((steps * fall).sum() / (steps * steps).sum()), STEEPNESS_FLOOR)
    epsilon = steepness - 1
    log_size = math.log(max(vocab_size, 2))
    # epsilon / (1 - size ** -epsilon) has a limit at 0.
    scale = 1 / log_size if abs(epsilon) < 1e-9 else epsilon / -math.expm1(-epsilon * log_size)
    log_width = (math.log(scale) + mu * math.log(2)) / steepness
    return max(int(math.exp(min(log_width, log_size))), 1)
