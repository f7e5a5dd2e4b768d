"""Truncation at the edges; whole chains are compared with their definitions in test_sampler.py."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from arriero.engine.candidates import Candidates
from arriero.engine.truncation import (
    exclude_top,
    keep_min_p,
    keep_tail_free,
    keep_top_a,
    keep_top_k,
    keep_top_p,
    keep_typical,
)
from arriero.sampling import LocallyTypical, MinP, TailFree, TopA, TopK, TopP, Xtc


def candidates(*probabilities: float) -> Candidates:
    logits = np.log(np.array(probabilities))
    return Candidates(np.arange(logits.size), logits, np.exp(logits - logits[0]))


CASES: list[tuple[Callable[[Candidates], Candidates], list[int]]] = [
    (lambda c: keep_top_k(c, TopK(2)), [0, 1]),
    (lambda c: keep_top_k(c, TopK(9)), [0, 1, 2, 3]),
    (lambda c: keep_top_k(c, TopK(1, min_keep=3)), [0, 1, 2]),
    (lambda c: keep_top_p(c, TopP(0.49)), [0]),
    (lambda c: keep_top_p(c, TopP(0.51)), [0, 1]),
    (lambda c: keep_top_p(c, TopP(0.0)), [0]),
    (lambda c: keep_top_p(c, TopP(0.1, min_keep=3)), [0, 1, 2]),
    (lambda c: keep_min_p(c, MinP(0.59)), [0, 1]),
    (lambda c: keep_min_p(c, MinP(0.61)), [0]),
    (lambda c: keep_min_p(c, MinP(2.0)), [0]),
    (lambda c: keep_min_p(c, MinP(1.0, min_keep=2)), [0, 1]),
    (lambda c: keep_top_a(c, TopA(0.5, 1.0)), [0, 1]),
    (lambda c: keep_top_a(c, TopA(0.5, 2.0)), [0, 1, 2]),
    (lambda c: keep_top_a(c, TopA(5.0, 1.0, min_keep=3)), [0, 1, 2]),
    (lambda c: keep_tail_free(c, TailFree(0.2)), [0]),
    (lambda c: keep_tail_free(c, TailFree(0.9999)), [0]),
    (lambda c: keep_typical(c, LocallyTypical(0.2)), [1]),
    (lambda c: keep_typical(c, LocallyTypical(0.2, min_keep=2)), [0, 1]),
    (lambda c: keep_typical(c, LocallyTypical(0.99)), [0, 1, 2, 3]),
    (lambda c: exclude_top(c, Xtc(1.0, 0.25)), [1, 2, 3]),
    (lambda c: exclude_top(c, Xtc(1.0, 0.1)), [2, 3]),
    (lambda c: exclude_top(c, Xtc(1.0, 0.4)), [0, 1, 2, 3]),
    (lambda c: exclude_top(c, Xtc(1.0, 0.1, min_keep=3)), [0, 1, 2, 3]),
]


@pytest.mark.parametrize(("keep", "kept"), CASES)
def test_of_four(keep: Callable[[Candidates], Candidates], kept: list[int]) -> None:
    """Of four candidates with probabilities .5, .3, .15 and .05 these stay, best first."""
    assert keep(candidates(0.5, 0.3, 0.15, 0.05)).ids.tolist() == kept


@pytest.mark.parametrize("keep", [keep for keep, _ in CASES])
@pytest.mark.parametrize("probabilities", [(1.0,), (0.5, 0.5), (0.25,) * 4, (1.0, 1e-200, 1e-300)])
def test_something_always_stays(
    keep: Callable[[Candidates], Candidates], probabilities: tuple[float, ...]
) -> None:
    """One candidate, equal ones and a cliff never leave nothing, and the order stays."""
    kept = keep(candidates(*probabilities)).ids.tolist()

    assert kept
    assert kept == sorted(kept)


def test_top_p_counts_what_is_not_listed() -> None:
    """The share is that of the whole vocabulary, where the candidates know its weight."""
    listed = candidates(0.5, 0.3, 0.2)
    listed.hidden = float(listed.weights.sum())

    assert keep_top_p(listed, TopP(0.3)).ids.tolist() == [0, 1]
