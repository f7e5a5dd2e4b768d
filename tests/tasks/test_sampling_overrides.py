"""How the sampling values of a request change a chain."""

from __future__ import annotations

import math
from typing import Any

import pytest

from arriero.errors import InvalidRequest
from arriero.sampling import (
    FreqPresence,
    MinP,
    Mirostat2,
    Repetition,
    SamplingParams,
    Temperature,
    TopK,
    TopP,
)
from arriero.tasks.sampling_overrides import DEFAULT_SAMPLING, with_overrides

CHAIN = (Repetition(1.2, last_n=32), TopK(10, min_keep=3), TopP(0.5, min_keep=2), Temperature(0.7))
PARAMS = SamplingParams(chain=CHAIN, seed=3)


def test_the_default_chain_is_the_common_one_of_local_servers() -> None:
    """Without a task: top-k 40, top-p 0.95, min-p 0.05, temperature 0.8, nothing else."""
    assert SamplingParams(chain=(TopK(40), TopP(0.95), MinP(0.05), Temperature(0.8))) == DEFAULT_SAMPLING


def test_nothing_given_changes_nothing() -> None:
    """All values may be left out."""
    assert with_overrides(PARAMS) == PARAMS


@pytest.mark.parametrize(
    ("given", "chain"),
    [
        ({"temperature": 0}, (*CHAIN[:3], Temperature(0))),
        ({"top_k": 5}, (CHAIN[0], TopK(5, min_keep=3), *CHAIN[2:])),
        ({"top_k": -1}, (CHAIN[0], TopK(0, min_keep=3), *CHAIN[2:])),
        ({"top_p": 1}, (*CHAIN[:2], TopP(1, min_keep=2), CHAIN[3])),
        ({"min_p": 0.1}, (*CHAIN[:3], MinP(0.1), CHAIN[3])),
        ({"repeat_penalty": 1.5}, (Repetition(1.5, last_n=32), *CHAIN[1:])),
        ({"repeat_penalty": 0.5}, (Repetition(1.0, last_n=32), *CHAIN[1:])),
        ({"frequency_penalty": 1}, (CHAIN[0], FreqPresence(1, 0), *CHAIN[1:])),
        ({"presence_penalty": -1, "frequency_penalty": 2}, (CHAIN[0], FreqPresence(2, -1), *CHAIN[1:])),
    ],
)
def test_a_value_takes_its_place_in_the_chain(given: dict[str, Any], chain: tuple[Any, ...]) -> None:
    """The value is replaced or added in order; windows and min_keep of the chain stay."""
    assert with_overrides(PARAMS, **given) == SamplingParams(chain=chain, seed=3)


def test_one_penalty_leaves_the_other() -> None:
    """Frequency and presence share a sampler but are given separately."""
    params = SamplingParams(chain=(FreqPresence(0.5, 0.25, last_n=8),))

    changed = with_overrides(params, presence_penalty=1)

    assert changed.chain == (FreqPresence(0.5, 1, last_n=8),)


@pytest.mark.parametrize(
    ("given", "seed", "biases"),
    [
        ({"seed": 9}, 9, ()),
        ({"seed": -1}, 2**63 - 1, ()),
        ({"logit_bias": {"7": -100, "0": 1.5}}, 3, ((7, -100), (0, 1.5))),
        ({"logit_bias": {}}, 3, ()),
    ],
)
def test_seed_and_biases_are_taken_over(given: dict[str, Any], seed: int, biases: tuple[Any, ...]) -> None:
    """Any integer is a seed; biases are keyed by token ids in strings."""
    assert with_overrides(PARAMS, **given) == SamplingParams(chain=CHAIN, seed=seed, logit_bias=biases)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_k", -2),
        ("top_k", 10**400),
        ("top_k", 2**31),
        ("top_p", 1.1),
        ("min_p", -0.1),
        ("frequency_penalty", 2.1),
        ("presence_penalty", -2.1),
        ("repeat_penalty", -1),
        ("logit_bias", {"7": 100.5}),
        ("logit_bias", {"7": math.nan}),
        ("logit_bias", {"-7": 1}),
        ("logit_bias", {"x": 1}),
        ("logit_bias", {"9999999999": 1}),
        ("logit_bias", {str(token): 1 for token in range(1025)}),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name: str, value: Any) -> None:
    """Each value has a range, and not-a-number is in none."""
    given: dict[str, Any] = {name: value}

    with pytest.raises(InvalidRequest, match=name) as caught:
        with_overrides(PARAMS, **given)

    assert caught.value.param == name


MIROSTAT = SamplingParams(chain=(Temperature(0.7), Mirostat2()))


@pytest.mark.parametrize(("name", "value"), [("top_k", 5), ("top_p", 0.9), ("min_p", 0.1)])
def test_mirostat_suffers_no_other_selection(name: str, value: Any) -> None:
    """What selects candidates is refused beside mirostat."""
    given: dict[str, Any] = {name: value}

    with pytest.raises(InvalidRequest, match=f"{name}.*mirostat"):
        with_overrides(MIROSTAT, **given)


def test_mirostat_ignores_what_is_switched_off() -> None:
    """Clients that send neutral values by habit are served."""
    assert with_overrides(MIROSTAT, top_k=0, top_p=1, min_p=0, temperature=0.7) == MIROSTAT
