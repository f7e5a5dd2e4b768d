"""Mirostat keeps the surprise near its target."""

from __future__ import annotations

import random

import numpy as np
import pytest

from arriero.engine.candidates import Field
from arriero.engine.mirostat import Mirostat, zipf_width
from arriero.sampling import Mirostat1, Mirostat2


def zipf_field(steepness: float, size: int = 3000) -> Field:
    return Field((-steepness * np.log(np.arange(1, size + 1))).astype(np.float32))


@pytest.mark.parametrize("sampler", [Mirostat1(tau=3.0), Mirostat2(tau=3.0), Mirostat2(tau=5.0, mu=1.0)])
@pytest.mark.parametrize("steepness", [0.9, 1.3])
def test_surprise_comes_near_tau(sampler: Mirostat1 | Mirostat2, steepness: float) -> None:
    """From any start `mu` moves until the mean surprise is tau, on flat and on steep logits."""
    mirostat, dice = Mirostat(sampler, 3000), random.Random(1)
    levels = [mirostat.mu]
    for _ in range(900):
        mirostat.choose(mirostat.first_cut(zipf_field(steepness)), dice.random())
        levels.append(mirostat.mu)

    surprises = sampler.tau - np.diff(levels) / sampler.eta
    assert levels[0] == (2 * sampler.tau if sampler.mu is None else sampler.mu)
    assert np.mean(surprises[300:]) == pytest.approx(sampler.tau, abs=0.15)


@pytest.mark.parametrize("tau", [-50.0, 0.0, 1e9, float("inf")])
@pytest.mark.parametrize("kind", [Mirostat1, Mirostat2])
@pytest.mark.parametrize("size", [1, 2, 300])
def test_extreme_targets(tau: float, kind: type[Mirostat1] | type[Mirostat2], size: int) -> None:
    """A target that cannot be reached still gives a token."""
    mirostat = Mirostat(kind(tau=tau), size)

    chosen = [mirostat.choose(mirostat.first_cut(zipf_field(1.0, size)), 0.5) for _ in range(3)]
    assert all(0 <= token < size for token in chosen)


@pytest.mark.parametrize(("fall", "width"), [([], 1), ([0.0] * 50, 1), ([1e9] * 50, 1)])
def test_width_at_the_edges(fall: list[float], width: int) -> None:
    """One candidate, equal logits and a cliff give the width 1 at a low surprise."""
    assert zipf_width(np.array(fall), 1.0, 1000) == width


def test_width_grows_with_the_surprise() -> None:
    """A higher surprise draws from more tokens, at most from the vocabulary; steepness 1 is no exception."""
    fall = np.diff(np.log(np.arange(1, 100)))

    widths = [zipf_width(fall, mu, 1000) for mu in (1.0, 4.0, 6.0, 40.0)]
    assert widths == sorted(set(widths))
    assert widths[-1] in (999, 1000)
