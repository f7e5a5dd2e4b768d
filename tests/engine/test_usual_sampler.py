"""The short way of the common chain chooses what the general way chooses, with equal dice."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest

from arriero.engine.sampler import TokenSampler, sample_rows
from arriero.engine.usual_sampler import MOST, usual_chain
from arriero.errors import EngineError
from arriero.sampling import (
    AnySampler,
    FreqPresence,
    MinP,
    Mirostat2,
    Repetition,
    SamplingParams,
    Temperature,
    TopK,
    TopNSigma,
    TopP,
    Xtc,
)

SPOILS = [None, np.nan, np.inf, -np.inf]


def random_params(dice: random.Random) -> SamplingParams:
    """A chain with any of the usual samplers, and now and then another one."""
    keep = dice.choice([1, 1, 5])
    chances: list[tuple[float, AnySampler]] = [
        (0.4, Repetition(1 + dice.random(), dice.choice([1, 64]))),
        (0.3, FreqPresence(dice.random(), dice.random())),
        (0.1, TopNSigma(2.0)),
        (0.8, TopK(dice.choice([1, 2, 40, 64, 200, MOST + 1]), keep)),
        (0.5, TopP(dice.choice([0.0, 0.3, 0.9, 0.999]), keep)),
        (0.5, MinP(dice.choice([1e-6, 0.05, 0.5, 2.0]), keep)),
        (0.1, Xtc(0.5, 0.1)),
        (0.7, Temperature(dice.choice([0.0, 0.2, 1.0, 3.0]))),
        (0.05, Mirostat2()),
    ]
    chain = tuple(sampler for chance, sampler in chances if dice.random() < chance)
    bias = ((0, -100.0), (1, 2.0)) if dice.random() < 0.2 else ()
    return SamplingParams(chain=chain, seed=dice.randrange(1000), logit_bias=bias)


def random_logits(dice: random.Random, count: int, size: int) -> np.ndarray:
    """Logits that are flat or steep, sometimes with many equal ones."""
    source = np.random.default_rng(dice.randrange(1 << 30))
    logits = source.standard_normal((count, size)) * dice.choice([0.01, 1, 4])
    return np.round(logits, dice.choice([0, 9])).astype(np.float32)


def general(params: SamplingParams) -> SamplingParams:
    """The same chain with a sampler that cuts nothing off, but keeps it from being usual."""
    return msgspec.structs.replace(params, chain=(*params.chain, TopNSigma(1e6)))


def alone(sampler: TokenSampler, logits: np.ndarray) -> int | None:
    try:
        return sampler.sample(logits)
    except EngineError:
        return None


@pytest.mark.parametrize("size", [2, 3, 63, 64, 65, 127, 1031, 50_257])
@pytest.mark.parametrize("count", [1, 2, 5, 16])
@pytest.mark.parametrize("spoil", SPOILS)
def test_short_and_general_way_agree(size: int, count: int, spoil: float | None) -> None:
    """Whatever the mixture of chains, each sequence gets the tokens of the general way."""
    dice = random.Random(f"{size} {count} {spoil}")
    for _ in range(4):
        params = [random_params(dice) for _ in range(count)]
        prompts = [[dice.randrange(size) for _ in range(20)] for _ in range(count)]
        together = [TokenSampler(p, size, h) for p, h in zip(params, prompts, strict=True)]
        apart = [TokenSampler(general(p), size, h) for p, h in zip(params, prompts, strict=True)]
        for _ in range(3):
            logits = random_logits(dice, count, size)
            if spoil is not None:
                logits[dice.randrange(count), dice.randrange(size)] = spoil
            expected = [alone(sampler, row) for sampler, row in zip(apart, logits.copy(), strict=True)]
            found = [None if isinstance(t, EngineError) else t for t in sample_rows(together, logits)]

            assert found == expected
            for sampler, token in zip(together + apart, expected * 2, strict=True):
                if token is not None:
                    sampler.accept(token)


USUAL = (TopK(40), TopP(0.95), MinP(0.05), Temperature(0.8))


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_row_without_any_choice_fails_alone(value: float) -> None:
    """A row of NaN or -inf is an error for its own sequence only."""
    samplers = [TokenSampler(SamplingParams(chain=USUAL, seed=1), 500, []) for _ in range(3)]
    logits = np.zeros((3, 500), dtype=np.float32)
    logits[:, 7] = 90
    logits[1] = value

    first, spoilt, last = sample_rows(samplers, logits)
    assert (first, last) == (7, 7)
    assert isinstance(spoilt, EngineError)


def test_flat_logits_are_left_to_the_general_way() -> None:
    """Where every token is a candidate the choice is that of the general way."""
    params = SamplingParams(chain=(MinP(1e-6),), seed=3)
    logits = np.zeros(9000, dtype=np.float32)
    expected = TokenSampler(general(params), 9000, []).sample(logits.copy())

    assert TokenSampler(params, 9000, []).sample(logits) == expected


def test_no_rows() -> None:
    """A step in which nobody wants a token gives none."""
    assert sample_rows([], np.zeros((0, 9), dtype=np.float32)) == []


@pytest.mark.parametrize(
    ("truncations", "temperature", "is_usual"),
    [
        ((TopK(40), TopP(0.9), MinP(0.1)), 0.8, True),
        ((TopK(MOST),), 1.0, True),
        ((TopK(MOST + 1),), 1.0, False),
        ((TopK(1, min_keep=MOST + 1),), 1.0, False),
        ((MinP(0.1),), 1.0, True),
        ((MinP(0.1, min_keep=2),), 1.0, False),
        ((TopP(0.9), MinP(0.1)), 1.0, False),
        ((), 1.0, False),
        ((TopK(4), TopK(3)), 1.0, False),
        ((TopK(4), Xtc(0.5)), 1.0, False),
        ((TopK(4),), 0.0, False),
    ],
)
def test_usual_shape(truncations: tuple[AnySampler, ...], temperature: float, is_usual: bool) -> None:
    """Usual are chains that begin with a small top-k or with min-p alone, and are not greedy."""
    assert (usual_chain(truncations, temperature, random.random) is not None) == is_usual
