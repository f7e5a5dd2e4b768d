"""Penalties against loops that read like their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from arriero.engine.penalties import (
    History,
    fuzzy_match_lengths,
    match_lengths,
    penalise_frequency,
    penalise_repetition,
    penalise_sequences,
)
from arriero.sampling import FreqPresence, Repetition, SeqRepetition


def random_history(size: int, kinds: int = 6) -> list[int]:
    return np.random.default_rng(size).integers(0, kinds, size).tolist()


def random_logits() -> np.ndarray:
    return (np.random.default_rng(4).standard_normal(20) * 5).astype(np.float32)


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 700])
def test_history_grows(length: int) -> None:
    """The newest tokens are there, however they came in and however far one looks back."""
    prompt, sampled = random_history(length), list(range(600))
    history = History(prompt)
    for token in sampled:
        history.append(token)

    assert history.last(-1).tolist() == prompt + sampled
    assert history.last(64).tolist() == (prompt + sampled)[-64:]
    assert history.last(0).tolist() == []


@pytest.mark.parametrize("last_n", [1, 3, 64])
def test_repetition(last_n: int) -> None:
    """Each token in the window is penalised once: positive logits divided, others multiplied."""
    history, logits = random_history(70), random_logits()
    expected = [
        (logit / 1.3 if logit > 0 else logit * 1.3) if token in history[-last_n:] else logit
        for token, logit in enumerate(logits.tolist())
    ]

    penalise_repetition(logits, History(history), Repetition(1.3, last_n))

    assert logits.tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("last_n", [1, 3, 64])
def test_frequency_and_presence(last_n: int) -> None:
    """Each occurrence costs the frequency penalty, the first one the presence penalty too."""
    history, logits = random_history(70), random_logits()
    counts = [history[-last_n:].count(token) for token in range(20)]
    expected = [
        logit - count * 0.4 - (count > 0) * 1.5 for count, logit in zip(counts, logits.tolist(), strict=True)
    ]

    penalise_frequency(logits, History(history), FreqPresence(0.4, 1.5, last_n))

    assert logits.tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("size", [0, 1, 2, 10, 200])
@pytest.mark.parametrize("limit", [1, 3, 500])
@pytest.mark.parametrize("kinds", [1, 2, 6])
def test_match_lengths(size: int, limit: int, kinds: int) -> None:
    """The length is that of the longest common end with the newest tokens."""
    tokens = random_history(size, kinds)
    expected = []
    for end in range(1, size):
        length = 0
        while length < min(end, limit) and tokens[end - 1 - length] == tokens[-1 - length]:
            length += 1
        expected.append(length)

    assert match_lengths(np.array(tokens, dtype=np.intp), limit).tolist() == expected


@pytest.mark.parametrize(
    ("tokens", "tolerance", "max_merge", "length"),
    [
        ([1, 2, 3, 4, 1, 2, 3], 0, 1, 3),
        ([1, 8, 3, 4, 1, 2, 3], 0, 1, 1),
        ([1, 8, 3, 4, 1, 2, 3], 1, 1, 3),
        ([1, 7, 8, 3, 4, 1, 2, 3], 1, 1, 1),
        ([1, 7, 8, 3, 4, 1, 2, 3], 1, 2, 3),
        ([1, 7, 7, 3, 4, 1, 2, 5, 3], 1, 1, 1),
        ([1, 7, 7, 3, 4, 1, 2, 5, 3], 2, 1, 4),
        ([9, 1, 8, 4, 1, 2, 3], 1, 1, 0),
    ],
)
def test_fuzzy_match(tokens: list[int], tolerance: int, max_merge: int, length: int) -> None:
    """A mismatch passes while the tolerance lasts and spans at most `max_merge` tokens."""
    before_the_4 = tokens.index(4) - 1

    assert fuzzy_match_lengths(tokens, tolerance, max_merge)[before_the_4] == length


@pytest.mark.parametrize("kinds", [1, 2, 6])
def test_fuzzy_match_without_tolerance_is_exact(kinds: int) -> None:
    """Without tolerance the fuzzy lengths are the exact ones."""
    tokens = random_history(80, kinds)

    assert fuzzy_match_lengths(tokens, 0, 1).tolist() == match_lengths(np.array(tokens), 128).tolist()


@pytest.mark.parametrize(
    ("min_length", "tolerance", "expected"),
    [
        (3, 0, {4: 0.5 * 4 + 1}),
        (2, 0, {4: 0.5 * 4 + 1, 5: 0.5 * 3 + 1}),
        (4, 0, {}),
        (3, 1, {4: 0.5 * 6 + 1, 5: 0.5 * 4 + 1}),
    ],
)
def test_sequence_repetition(min_length: int, tolerance: int, expected: dict[int, float]) -> None:
    """The token that would continue a sequence pays for its length and once more."""
    history = [9, 2, 3, 5, 1, 2, 3, 4, 1, 2, 3] if tolerance == 0 else [1, 8, 3, 5, 1, 2, 3, 4, 1, 2, 3]
    logits = np.zeros(10, dtype=np.float32)

    sampler = SeqRepetition(
        flat_penalty=1.0, stacking_penalty=0.5, min_length=min_length, tolerance=tolerance
    )
    penalise_sequences(logits, History(history), sampler)

    assert {token: -logit for token, logit in enumerate(logits.tolist()) if logit} == expected
