"""DRY as llama.cpp defines it."""

from __future__ import annotations

import numpy as np
import pytest

from arriero.engine.dry import breaker_sequences, distance_to_breaker, penalise_dry
from arriero.engine.penalties import History
from arriero.sampling import Dry


def penalties(
    history: list[int], sampler: Dry, breakers: dict[int, tuple[tuple[int, ...], ...]]
) -> dict[int, float]:
    logits = np.zeros(20, dtype=np.float32)
    penalise_dry(logits, History(history), sampler, breakers)
    return {token: -logit for token, logit in enumerate(logits.tolist()) if logit}


A, B, C, X, Y = range(1, 6)


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([], {}),
        ([A, B], {}),
        ([A, B, C, X, A, B], {C: 1.0}),
        ([X, A, B, C, Y, X, A, B], {C: 2.0}),
        ([A, B, C, C, B, C, Y, A, B, C], {C: 2.0, Y: 1.0}),
        ([A, B, X, A, B, Y, A, B], {X: 1.0, Y: 1.0}),
        ([A, A, A, A], {A: 2.0}),
    ],
)
def test_penalty_grows_with_the_repetition(history: list[int], expected: dict[int, float]) -> None:
    """A token that would continue a repetition of n tokens pays multiplier * base ** (n - allowed_length)."""
    assert penalties(history, Dry(multiplier=1.0, base=2.0), {}) == expected


def test_the_window_ends_repetitions() -> None:
    """Tokens before the last `last_n` do not count."""
    history = [A, B, C, X, A, B]

    assert penalties(history, Dry(multiplier=1.0, last_n=5), {}) == {}
    assert penalties(history, Dry(multiplier=1.0, last_n=6), {}) == {C: 1.0}


def test_the_longest_penalty_is_finite() -> None:
    """A very long repetition costs no more than a float can hold."""
    cost = penalties([A] * 5000, Dry(multiplier=1.0, base=4.0), {})[A]

    assert 1e29 < cost < 1e31


@pytest.mark.parametrize(
    ("breakers", "expected"),
    [
        ({}, {Y: 2.0}),
        ({A: ((),)}, {Y: 1.0}),
        ({B: ((),)}, {}),
        ({A: ((B,),)}, {}),
        ({A: ((X,),)}, {Y: 2.0}),
        ({Y: ((),)}, {}),
    ],
)
def test_repetitions_end_at_breakers(
    breakers: dict[int, tuple[tuple[int, ...], ...]], expected: dict[int, float]
) -> None:
    """A repetition does not reach across a breaker, and a breaker itself is not penalised."""
    history = [A, B, C, Y, A, B, C] if Y not in breakers else [A, B, C, Y, X, A, B, C]

    assert penalties(history, Dry(multiplier=1.0, base=2.0), breakers) == expected


@pytest.mark.parametrize(
    ("tokens", "distance"),
    [([], 0), ([1, 2], 2), ([7, 1, 2], 2), ([7], 0), ([8, 9, 9, 1], 1), ([8, 9, 1], 1), ([8, 1], 2)],
)
def test_distance_to_breaker(tokens: list[int], distance: int) -> None:
    """The tokens after the newest breaker are counted; of those that begin together the longest counts."""
    assert distance_to_breaker(tokens, {7: ((),), 8: ((9,), (9, 9))}) == distance


def test_breaker_sequences() -> None:
    """A breaker is found within a token, and spread over a token's end and the next ones."""
    pieces = ["x", "a\n", "say St", "op", "Stop!", "S", "t"]
    ids = {"top": (6, 3), "op": (3,), "p": (9,)}

    assert breaker_sequences(["\n", "Stop"], pieces, ids.__getitem__) == {
        1: ((),),
        2: ((3,),),
        4: ((),),
        5: ((6, 3),),
    }
