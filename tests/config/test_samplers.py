"""Poly's sampler strings and the plain sampling keys become chains in a fixed order."""

from __future__ import annotations

import math

import pytest

from arriero.config.samplers import NAMES, SamplerError, SamplingKeys, parsed, sampling_chain
from arriero.sampling import (
    AnySampler,
    Dry,
    FreqPresence,
    LocallyTypical,
    MinP,
    Mirostat1,
    Mirostat2,
    Repetition,
    SeqRepetition,
    TailFree,
    Temperature,
    TopA,
    TopK,
    TopNSigma,
    TopP,
    Xtc,
)

DEFAULT = (Repetition(), TopK(), TopP(), Temperature())

GOOD: list[tuple[list[str], tuple[AnySampler, ...]]] = [
    ([], DEFAULT),
    (["", "  ", "/"], DEFAULT),
    (["topk"], DEFAULT),
    (["topk:k=1"], (Repetition(), TopK(k=1), TopP(), Temperature())),
    (["Top-K:k=1"], (Repetition(), TopK(k=1), TopP(), Temperature())),
    (["top_k:k=1"], (Repetition(), TopK(k=1), TopP(), Temperature())),
    (["top-k"], DEFAULT),
    (["TOP_P:P=0.5"], (Repetition(), TopK(), TopP(p=0.5), Temperature())),
    (["topk:min=3"], (Repetition(), TopK(min_keep=3), TopP(), Temperature())),
    (["topk:minkeep=3:k=9"], (Repetition(), TopK(k=9, min_keep=3), TopP(), Temperature())),
    (["topk:k=+7"], (Repetition(), TopK(k=7), TopP(), Temperature())),
    (["topk:k=5", "topk:min_keep=2"], (Repetition(), TopK(k=5, min_keep=2), TopP(), Temperature())),
    (["topk:k=5", "topk:k=6"], (Repetition(), TopK(k=6), TopP(), Temperature())),
    (["temperature:0.5"], (Repetition(), TopK(), TopP(), Temperature(0.5))),
    (["temperature:t=0.5"], (Repetition(), TopK(), TopP(), Temperature(0.5))),
    (["temperature:=0.5:"], (Repetition(), TopK(), TopP(), Temperature(0.5))),
    (["temperature:0"], (Repetition(), TopK(), TopP(), Temperature(0.0))),
    (["temperature:.5"], (Repetition(), TopK(), TopP(), Temperature(0.5))),
    (["temperature:5e-1"], (Repetition(), TopK(), TopP(), Temperature(0.5))),
    (["temperature:0.5 topk:k=3"], (Repetition(), TopK(k=3), TopP(), Temperature(0.5))),
    (["temperature:0.5/topk:k=3"], (Repetition(), TopK(k=3), TopP(), Temperature(0.5))),
    (["/temperature:0.5/ /topk:k=3/"], (Repetition(), TopK(k=3), TopP(), Temperature(0.5))),
    (["temperature:0.5\n\ttopk:k=3"], (Repetition(), TopK(k=3), TopP(), Temperature(0.5))),
    (["repetition:p=1.1:l=16"], (Repetition(1.1, 16), TopK(), TopP(), Temperature())),
    (["repetition:penalty=0.5"], (Repetition(1.0), TopK(), TopP(), Temperature())),
    (["repetition", "repetition:last_n=8"], (Repetition(), Repetition(last_n=8), *DEFAULT[1:])),
    (["freq_presence:freq=0.2:pres=-0.1"], (Repetition(), FreqPresence(0.2, -0.1), *DEFAULT[1:])),
    (["freqpresence", "freqpresence"], (Repetition(), FreqPresence(), FreqPresence(), *DEFAULT[1:])),
    (
        ["seqrepetition:flat=1:stack=2:min=3:tol=4:max=5:last=6"],
        (Repetition(), SeqRepetition(1.0, 2.0, 3, 4, 5, 6), *DEFAULT[1:]),
    ),
    (["tailfree:z=0.9"], (Repetition(), TopK(), TailFree(0.9), TopP(), Temperature())),
    (["locally-typical:p=0.9"], (Repetition(), TopK(), LocallyTypical(0.9), TopP(), Temperature())),
    (["topa:a1=0.1:a2=2"], (Repetition(), TopK(), TopP(), TopA(0.1, 2.0), Temperature())),
    (["min_p:p=0.05"], (Repetition(), TopK(), TopP(), MinP(0.05), Temperature())),
    (["mirostat2:tau=3"], (Repetition(), Temperature(), Mirostat2(tau=3.0))),
    (["mirostat1:n_vocab=32000"], (Repetition(), Temperature(), Mirostat1(n_vocab=32000))),
    (["mirostat1:m=50"], (Repetition(), Temperature(), Mirostat1(m=50))),
    (["mirostat1:mu=7"], (Repetition(), Temperature(), Mirostat1(mu=7.0))),
    (["mirostat2:mu=7:tau=3"], (Repetition(), Temperature(), Mirostat2(tau=3.0, mu=None))),
    (["mirostat2:tau=3:mu=7"], (Repetition(), Temperature(), Mirostat2(tau=3.0, mu=7.0))),
    (["dry:m=0.8:allowed=3"], (Repetition(), Dry(0.8, allowed_length=3), *DEFAULT[1:])),
    (["xtc:prob=0.5"], (Repetition(), TopK(), TopP(), Xtc(0.5), Temperature())),
    (["top-n-sigma:1.5"], (Repetition(), TopNSigma(1.5), *DEFAULT[1:])),
    (
        ["temperature:1", "minp:p=0.1", "topp:p=0.9", "topk:k=9", "repetition:penalty=2"],
        (Repetition(2.0), TopK(k=9), TopP(p=0.9), MinP(0.1), Temperature(1.0)),
    ),
]


@pytest.mark.parametrize(("entries", "chain"), GOOD)
def test_strings_become_the_chain_that_they_describe(
    entries: list[str], chain: tuple[AnySampler, ...]
) -> None:
    """A list of sampler strings gives its samplers and the missing defaults, in the order of application."""
    assert parsed(entries) == chain


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("top", 'unknown sampler "top"'),
        ("topkk:k=1", 'unknown sampler "topkk"; did you mean "topk"?'),
        ("greedy", 'unknown sampler "greedy"; samplers are repetition, freqpresence'),
        ("k=1", 'unknown sampler "k=1"'),
        (":k=1", 'unknown sampler ""'),
        ("topk:40", 'topk: say which option, for example "topk:k=..."'),
        ("TOPK:1 ", "topk: say which option"),
        ("topa:a=1", 'topa: "a" could be a1 or a2'),
        ("repetition:penality=1", 'repetition: unknown option "penality"; did you mean "penalty"?'),
        ("topk:q=1", 'topk: unknown option "q"; options are k, min_keep'),
        ("dry:breakers=x", 'dry: unknown option "breakers"'),
        ("topk:k=-1", 'topk:k: expected a whole number from 0, got "-1"'),
        ("topk:k=1.5", 'topk:k: expected a whole number from 0, got "1.5"'),
        ("topk:k=1_0", "topk:k: expected a whole number"),
        ("topk:k=٣", "topk:k: expected a whole number"),
        ("topk:k=99999999999", "topk:k: expected a whole number"),
        ("topk:k=", 'topk:k: expected a whole number from 0, got ""'),
        ("topk:k=1=2", 'topk:k: expected a whole number from 0, got "1=2"'),
        ("temperature:hot", 'temperature:temperature: expected a number, got "hot"'),
        ("temperature:nan", "temperature:temperature: expected a number"),
        ("temperature:0x1", "temperature:temperature: expected a number"),
        ("temperature:-0.1", "temperature:temperature: expected 0 or more"),
        ("topp:p=-inf", "topp:p: expected 0 or more"),
        ("mirostat1:t=-1", "mirostat1:tau: expected 0 or more"),
    ],
)
def test_bad_strings_are_refused_with_their_entry(entry: str, message: str) -> None:
    """A sampler string that cannot be used is refused, and the entry and what would be right are named."""
    with pytest.raises(SamplerError) as caught:
        parsed(["temperature:1", entry])

    assert message in str(caught.value)
    assert caught.value.entry == 1


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (["mirostat1", "mirostat2"], "mirostat1 and mirostat2 exclude each other; keep one"),
        (["mirostat2", "topk:k=3"], "mirostat2 selects tokens by itself; take out topk"),
        (["minp mirostat1 tailfree"], "mirostat1 selects tokens by itself; take out minp, tailfree"),
        *[([name, "mirostat2"], f"take out {name}") for name in ("topp", "topa", "locallytypical", "xtc")],
    ],
)
def test_mirostat_excludes_what_selects(entries: list[str], message: str) -> None:
    """Two mirostats, or one beside a sampler that selects candidates, are refused."""
    with pytest.raises(SamplerError, match=message) as caught:
        parsed(entries)

    assert caught.value.entry is None


def test_infinity_becomes_the_largest_float32() -> None:
    """`inf` is accepted, as in Poly, and read as a number that later arithmetic survives."""
    chain = parsed(["temperature:inf freqpresence:freq=-inf"])

    temperature = next(sampler for sampler in chain if isinstance(sampler, Temperature))
    penalty = next(sampler for sampler in chain if isinstance(sampler, FreqPresence))
    assert 3.4e38 < temperature.temperature < math.inf
    assert -math.inf < penalty.frequency_penalty < -3.4e38


def test_every_sampler_has_a_name() -> None:
    """Poly's names and ours are all there, and each alone is a valid list."""
    poly = {"repetition", "freqpresence", "seqrepetition", "topk", "tailfree", "locallytypical", "topp"}
    poly |= {"topa", "minp", "temperature", "mirostat1", "mirostat2"}

    assert set(NAMES) == poly | {"dry", "xtc", "topnsigma"}
    for name, kind in NAMES.items():
        assert any(type(sampler) is kind for sampler in parsed([name]))


def test_plain_keys_give_the_documented_chain() -> None:
    """Without a list the chain is repetition, top-k, top-p, temperature, with Poly's defaults."""
    assert sampling_chain(SamplingKeys()) == (Repetition(1.3, 64), TopK(40), TopP(0.95), Temperature(0.8))


def test_plain_keys_reach_their_samplers() -> None:
    """Each plain key sets the option that it is named after; penalties look at the same tokens."""
    keys = SamplingKeys(
        top_k=1,
        top_p=0.5,
        repeat_penalty=0.0,
        temperature=0.0,
        repetition_penalty_last_n=9,
        min_p=0.1,
        frequency_penalty=0.2,
        presence_penalty=0.3,
    )

    assert sampling_chain(keys) == (
        Repetition(1.0, 9),
        FreqPresence(0.2, 0.3, 9),
        TopK(1),
        TopP(0.5),
        MinP(0.1),
        Temperature(0.0),
    )


def test_a_list_wins_over_plain_keys() -> None:
    """With `samplers`, even an empty list, the plain keys have no effect."""
    assert sampling_chain(SamplingKeys(top_k=1, temperature=0.0, samplers=())) == DEFAULT
