"""The first cut keeps all that matters and knows what it left out."""

from __future__ import annotations

import numpy as np
import pytest

from arriero.engine.candidates import Field

SIZES = [1, 63, 64, 65, 1000, 50_257]


def random_logits(size: int, spread: float) -> np.ndarray:
    return (np.random.default_rng(size).standard_normal(size) * spread).astype(np.float32)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [1, 40, 64, 900])
def test_top(size: int, count: int) -> None:
    """The best logits come in descending order, with weights relative to the best."""
    logits = random_logits(size, 3)
    found = Field(logits.copy()).top(count)

    assert found.logits.tolist() == sorted(logits.tolist(), reverse=True)[:count]
    assert logits[found.ids].tolist() == found.logits.tolist()
    assert found.weights == pytest.approx(np.exp(found.logits - found.logits[0]))


@pytest.mark.parametrize("size", [50, 999, 1000, 3000])
def test_equal_logits_stay_in_order(size: int) -> None:
    """Few or many, negative, zero or positive: equal logits are ranked by their ids."""
    logits = (np.random.default_rng(size).integers(-3, 3, size) * -0.5).astype(np.float32)
    expected = sorted(range(size), key=lambda token: (-logits[token], token))

    assert Field(logits.copy()).top(size).ids.tolist() == expected


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("floor", [-100.0, 0.0, 8.0, 100.0])
def test_above(size: int, floor: float) -> None:
    """All logits from the floor upwards are found, and at least the number asked for."""
    logits = random_logits(size, 3)
    count = max(int((logits >= floor).sum()), min(3, size))

    assert (
        Field(logits.copy()).above(floor, 3).logits.tolist() == sorted(logits.tolist(), reverse=True)[:count]
    )


@pytest.mark.parametrize("spread", [0.01, 1.0, 4.0, 40.0])
@pytest.mark.parametrize("share", [1e-7, 0.025, 0.5])
@pytest.mark.parametrize("temperature", [0.7, 1.0, 3.0])
@pytest.mark.parametrize("size", [1, 65, 50_257])
def test_holding(spread: float, share: float, temperature: float, size: int) -> None:
    """What is left out is less than the share of the exact total, and is the worst."""
    logits = random_logits(size, spread)
    weights = np.exp((logits - logits.max()) / temperature, dtype=np.float64)
    found = Field(logits.copy()).holding(share, temperature)

    assert found.logits.tolist() == sorted(logits.tolist(), reverse=True)[: found.ids.size]
    left_out = np.delete(weights, found.ids).sum()
    assert left_out <= share * weights.sum() * 1.0001
    if temperature == 1:
        assert found.hidden == pytest.approx(left_out, rel=1e-3, abs=1e-12)
        assert found.total() == pytest.approx(weights.sum(), rel=1e-5)


@pytest.mark.parametrize("least", [0.0, 1e-4, 0.01, 2.0])
def test_likelier(least: float) -> None:
    """All tokens of that probability are found; the total stays that of the vocabulary."""
    logits = random_logits(5000, 2)
    shares = np.exp(logits.astype(np.float64))
    shares /= shares.sum()
    field = Field(logits.copy())
    found = field.likelier(least, field.total(), at_least=2)

    assert found.ids.size == max(int((shares >= least).sum()), 2)
    assert found.weights / found.total() == pytest.approx(shares[found.ids], rel=1e-4)


def test_forbidden_tokens_are_no_candidates() -> None:
    """-inf is never a candidate, even where more are asked for than there are."""
    logits = np.full(1000, -np.inf, dtype=np.float32)
    logits[[5, 700]] = 1, 2
    field = Field(logits)

    assert [
        field.top(40).ids.tolist(),
        field.above(-np.inf).ids.tolist(),
        field.holding(0.1).ids.tolist(),
    ] == [[700, 5]] * 3


def test_best_forgets_the_rest() -> None:
    """After a truncation what is not listed no longer counts, even if all that was listed stays."""
    found = Field(np.array([3, 2, -1], dtype=np.float32)).holding(0.5)

    assert (found.hidden, found.ids.size) == (0, 3)
    assert found.best(3).total() == pytest.approx(found.weights.sum())
