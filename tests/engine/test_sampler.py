"""The sampler against a slow, obvious reading of the definitions, token by token with equal dice."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np
import pytest

from arriero.engine.sampler import TokenSampler, logprobs
from arriero.errors import EngineError, InvalidRequest
from arriero.sampling import (
    AnySampler,
    Dry,
    FreqPresence,
    LocallyTypical,
    MinP,
    Mirostat1,
    Mirostat2,
    Repetition,
    SamplingParams,
    SeqRepetition,
    TailFree,
    Temperature,
    TopA,
    TopK,
    TopNSigma,
    TopP,
    Xtc,
)

Ranked = list[tuple[int, float]]
"""Tokens with their logits, best first."""


def zipf_logits(size: int, seed: int) -> np.ndarray:
    """Logits as steep as a language model's."""
    source = np.random.default_rng(seed)
    ranks = source.permutation(size) + 1.0
    return (12 - 1.6 * np.log(ranks) + source.standard_normal(size)).astype(np.float32)


def probabilities(ranked: Ranked) -> list[float]:
    best = max(logit for _, logit in ranked)
    weights = [math.exp(logit - best) for _, logit in ranked]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def best_count(flags: Sequence[bool], sampler: TopK | TopP | TopA | MinP | TailFree | LocallyTypical) -> int:
    """Return the number of leading true flags, `min_keep` at least."""
    leading = next((index for index, flag in enumerate(flags) if not flag), len(flags))
    return max(leading, sampler.min_keep, 1)


def cut(ranked: Ranked, sampler: AnySampler, dice: random.Random) -> Ranked:
    """Apply one truncation as its definition reads."""
    shares = probabilities(ranked)
    before = [0.0, *accumulate(shares)]
    match sampler:
        case TopK(k=k, min_keep=min_keep):
            return ranked[: max(k, min_keep)]
        case TopP(p=p):
            return ranked[: best_count([mass < p for mass in before[:-1]], sampler)]
        case MinP(p=p):
            return ranked[: best_count([share >= p * shares[0] for share in shares], sampler)]
        case TopA(a1=a1, a2=a2):
            return ranked[: best_count([share >= a1 * shares[0] ** a2 for share in shares], sampler)]
        case TailFree(z=z):
            bends = [abs(a - 2 * b + c) for a, b, c in zip(shares, shares[1:], shares[2:], strict=False)]
            summed = [mass / math.fsum(bends) for mass in accumulate(bends)]
            over = [index for index, mass in enumerate(summed) if mass > z and index >= sampler.min_keep]
            return ranked[: over[0]] if over else ranked
        case LocallyTypical(p=p):
            entropy = -math.fsum(share * math.log(share) for share in shares)
            order = sorted(range(len(shares)), key=lambda index: abs(-math.log(shares[index]) - entropy))
            mass = [0.0, *accumulate(shares[index] for index in order)]
            kept = order[: best_count([total <= p for total in mass[:-1]], sampler)]
            return [ranked[index] for index in sorted(kept)]
        case Xtc(probability=probability, threshold=threshold) if dice.random() < probability:
            likely = sum(share >= threshold for share in shares)
            return ranked[max(likely - 1, 0) :]
    return ranked


class Reference:
    """A sampler without penalties that sorts the whole vocabulary, in plain Python."""

    def __init__(self, chain: Sequence[AnySampler], seed: int) -> None:
        self.chain = chain
        self.last = chain[-1] if chain else None
        self.dice = random.Random(seed)
        self.mu = next((2 * s.tau for s in chain if isinstance(s, Mirostat1 | Mirostat2)), 0.0)

    def sample(self, logits: np.ndarray) -> int:
        ranked = sorted(enumerate(logits.tolist()), key=lambda pair: (-pair[1], pair[0]))
        for sampler in self.chain:
            ranked = cut(ranked, sampler, self.dice)
        heat = next((s.temperature for s in self.chain if isinstance(s, Temperature)), 1.0)
        ranked = [(token, logit / heat) for token, logit in ranked]
        ranked = self.mirostat_cut(ranked)
        if all(isinstance(sampler, Temperature) for sampler in self.chain):
            ranked.sort()
        shares = probabilities(ranked)
        cumulative = list(accumulate(shares))
        wanted = self.dice.random() * cumulative[-1]
        chosen = next(index for index, mass in enumerate(cumulative) if mass > wanted)
        self.adapt(-math.log2(shares[chosen] / cumulative[-1]))
        return ranked[chosen][0]

    def mirostat_cut(self, ranked: Ranked) -> Ranked:
        match self.last:
            case Mirostat2():
                surprises = [-math.log2(share) for share in probabilities(ranked)]
                return ranked[: max(sum(surprise <= self.mu for surprise in surprises), 1)]
            case Mirostat1(m=m):
                pairs = list(pairwise(ranked))[: m - 1]
                steps = [math.log((i + 2) / (i + 1)) for i in range(len(pairs))]
                falls = [above[1] - below[1] for above, below in pairs]
                s = sum(t * b for t, b in zip(steps, falls, strict=True)) / sum(t * t for t in steps)
                k = ((s - 1) * 2**self.mu / (1 - len(ranked) ** -(s - 1))) ** (1 / s)
                return ranked[: max(int(min(k, len(ranked))), 1)]
        return ranked

    def adapt(self, surprise: float) -> None:
        if isinstance(self.last, Mirostat1 | Mirostat2):
            self.mu -= self.last.eta * (surprise - self.last.tau)


CHAINS: list[tuple[AnySampler, ...]] = [
    (),
    (Temperature(0.7),),
    (Temperature(1.8),),
    (TopK(40),),
    (TopK(1),),
    (TopK(5000),),
    (TopK(2, min_keep=7), Temperature(2.0)),
    (TopP(0.9),),
    (TopP(0.3, min_keep=5),),
    (TopP(0.999), Temperature(1.5)),
    (TopK(40), TopP(0.95), Temperature(0.8)),
    (MinP(0.05), Temperature(0.8)),
    (MinP(0.9, min_keep=4),),
    (TopA(0.2, 2.0),),
    (TopA(0.9, 0.5, min_keep=3),),
    (TailFree(0.9),),
    (TopK(30), TailFree(0.5, min_keep=4)),
    (LocallyTypical(0.8),),
    (TopK(50), LocallyTypical(0.2, min_keep=6)),
    (Xtc(0.5, 0.05),),
    (TopK(20), Xtc(1.0, 0.1), Temperature(0.9)),
    (TopK(60), TailFree(0.95), LocallyTypical(0.9), TopP(0.9), TopA(0.1, 1.5), MinP(0.04), Temperature(1.2)),
    (Mirostat1(),),
    (Mirostat1(tau=2.0, eta=0.5, m=20),),
    (Temperature(1.4), Mirostat1(tau=3.0)),
    (Mirostat2(),),
    (Mirostat2(tau=2.0, eta=0.5),),
    (Temperature(1.4), Mirostat2(tau=3.0)),
]


@pytest.mark.parametrize(
    "chain", CHAINS, ids=lambda chain: "+".join(type(s).__name__ for s in chain) or "none"
)
@pytest.mark.parametrize("size", [3, 100, 1031])
def test_every_chain_does_what_its_definition_says(chain: tuple[AnySampler, ...], size: int) -> None:
    """Token after token the choice is that of a sampler which sorts the whole vocabulary."""
    sampler = TokenSampler(SamplingParams(chain=chain, seed=5), size, [])
    reference = Reference(chain, 5)
    steps = [zipf_logits(size, seed) for seed in range(12)]

    assert [sampler.sample(step.copy()) for step in steps] == [reference.sample(step) for step in steps]


@pytest.mark.parametrize("size", [1, 2, 63, 64, 65, 1000, 4099])
@pytest.mark.parametrize("count", [1, 2, 40, 63, 64, 65, 5000])
def test_top_k_of_equal_logits(size: int, count: int) -> None:
    """Exactly k tokens stay, and of equal ones those with the lowest ids."""
    logits = np.random.default_rng(size).integers(0, 4, size).astype(np.float32)
    expected = sorted(range(size), key=lambda token: (-logits[token], token))[:count]

    assert [token for token, _ in logprobs(logits, 0, count)[1]] == expected


@pytest.mark.parametrize(
    ("chain", "tolerance"),
    [((), 0.04), ((Temperature(0.5),), 0.04), ((TopK(6), TopP(0.9)), 0.04), ((LocallyTypical(0.7),), 0.04)],
)
def test_frequencies_are_the_probabilities(chain: tuple[AnySampler, ...], tolerance: float) -> None:
    """Over many draws each token comes as often as its probability says."""
    logits = zipf_logits(40, 3) / 3
    sampler = TokenSampler(SamplingParams(chain=chain, seed=11), 40, [])
    counts = Counter(sampler.sample(logits.copy()) for _ in range(1500))

    ranked = sorted(enumerate(logits.tolist()), key=lambda pair: -pair[1])
    for step in chain:
        ranked = cut(ranked, step, random.Random(0))
    heat = next((s.temperature for s in chain if isinstance(s, Temperature)), 1.0)
    shares = probabilities([(token, logit / heat) for token, logit in ranked])
    assert set(counts) <= {token for token, _ in ranked}
    for (token, _), share in zip(ranked, shares, strict=True):
        assert counts[token] / 1500 == pytest.approx(share, abs=tolerance)


DEFAULT = (Repetition(), TopK(), TopP(), Temperature())


def generate(params: SamplingParams, prompt: list[int], length: int = 30) -> list[int]:
    sampler = TokenSampler(params, 500, prompt)
    tokens: list[int] = []
    for step in range(length):
        tokens.append(sampler.sample(zipf_logits(500, step % 3)))
        sampler.accept(tokens[-1])
    return tokens


def test_equal_seeds_give_equal_tokens() -> None:
    """The same seed, prompt and logits give the same tokens; another seed gives others."""
    params = SamplingParams(chain=(*DEFAULT[:3], Xtc(0.5), Temperature(1.5)), seed=42)

    assert generate(params, [1, 2]) == generate(params, [1, 2])
    assert generate(params, [1, 2]) != generate(SamplingParams(chain=params.chain, seed=43), [1, 2])


def test_without_a_seed_generations_differ() -> None:
    """Each generation without a seed has dice of its own."""
    params = SamplingParams(chain=(Temperature(3.0),))

    assert generate(params, []) != generate(params, [])


@pytest.mark.parametrize("others", [(), (TopK(),), (Xtc(1.0),), (Mirostat2(),), (TopNSigma(1.0),)])
def test_temperature_zero_is_greedy(others: tuple[AnySampler, ...]) -> None:
    """At temperature 0 the best token is chosen, whatever else is on."""
    logits = zipf_logits(300, 1)
    sampler = TokenSampler(SamplingParams(chain=(*others, Temperature(0.0))), 300, [])

    assert [sampler.sample(logits.copy()) for _ in range(5)] == [int(logits.argmax())] * 5


def test_greedy_is_after_the_penalties() -> None:
    """A penalised best token loses against the second best one."""
    sampler = TokenSampler(SamplingParams(chain=(Repetition(2.0), Temperature(0.0))), 3, [1])

    assert sampler.sample(np.array([4.0, 5.0, 1.0], dtype=np.float32)) == 0


def test_accepted_tokens_are_penalised() -> None:
    """Tokens of the prompt, sampled ones and forced ones count, as far back as the window reaches."""
    sampler = TokenSampler(SamplingParams(chain=(Repetition(100.0, last_n=2), Temperature(0.0))), 3, [2])
    chosen = []
    for _ in range(5):
        chosen.append(sampler.sample(np.array([1.0, 2.0, 3.0], dtype=np.float32)))
        sampler.accept(chosen[-1])

    assert chosen == [1, 0, 2, 1, 0]


def test_top_n_sigma_ignores_forbidden_tokens() -> None:
    """Only logits that are not -inf count for the deviation; what is too far below the best is out."""
    logits = np.array([10.0, 9.0, 0.0, 0.0, 1.0, -np.inf], dtype=np.float32)
    sampler = TokenSampler(SamplingParams(chain=(TopNSigma(0.5), Temperature(50.0)), seed=1), 6, [])

    assert {sampler.sample(logits.copy()) for _ in range(100)} == {0, 1}


class TestBias:
    def test_added_before_everything(self) -> None:
        """The bias decides a greedy choice; repeated entries add up."""
        params = SamplingParams(chain=(Temperature(0.0),), logit_bias=((2, 3.0), (2, 3.0), (0, 1.0)))

        assert TokenSampler(params, 3, []).sample(np.array([1, 2, 0], dtype=np.float32)) == 2

    def test_minus_100_forbids(self) -> None:
        """A token with a bias of -100 is not chosen, however likely it is."""
        params = SamplingParams(chain=(Temperature(2.0),), logit_bias=((0, -100.0),), seed=1)
        sampler = TokenSampler(params, 3, [])

        chosen = {sampler.sample(np.array([900.0, 2.0, 1.0], dtype=np.float32)) for _ in range(60)}
        assert chosen == {1, 2}

    @pytest.mark.parametrize("token", [-1, 3])
    def test_unknown_token(self, token: int) -> None:
        """A bias for a token that the model does not have is refused."""
        with pytest.raises(InvalidRequest, match=rf"token {token}; .* 0 to 2"):
            TokenSampler(SamplingParams(logit_bias=((token, 1.0),)), 3, [])


STRONG = (
    Repetition(math.inf),
    FreqPresence(math.inf, math.inf),
    SeqRepetition(math.inf, math.inf, min_length=2),
    Dry(multiplier=math.inf, base=1e9),
)


class TestMask:
    @pytest.mark.parametrize(
        "chain", [DEFAULT, (), (Temperature(0.0),), (Mirostat1(),), (TopNSigma(0.1),), STRONG]
    )
    @pytest.mark.parametrize("allowed", [[7], [7, 300], list(range(0, 500, 2))])
    def test_only_allowed_tokens(self, chain: tuple[AnySampler, ...], allowed: list[int]) -> None:
        """Whatever the chain and however many tokens are allowed, an allowed one is chosen."""
        mask = np.zeros(500, dtype=np.bool_)
        mask[allowed] = True
        sampler = TokenSampler(SamplingParams(chain=chain, seed=2), 500, [1, 2, 3, 7, 1, 2, 3])

        chosen = {sampler.sample(zipf_logits(500, seed), mask) for seed in range(10)}
        assert chosen <= set(allowed)

    @pytest.mark.parametrize("sampler", STRONG)
    def test_no_penalty_forbids(self, sampler: AnySampler) -> None:
        """The only allowed token is chosen, however hard it is penalised."""
        mask = np.array([False, False, False, True])
        history = [1, 2, 3, 1, 2, 3, 1, 2]
        chooser = TokenSampler(SamplingParams(chain=(sampler, TopK(), TopP(), Temperature())), 4, history)

        assert chooser.sample(np.array([5, 5, 5, -5], dtype=np.float32), mask) == 3

    @pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint32])
    @pytest.mark.parametrize("density", [0.01, 0.9])
    def test_packed_bits(self, dtype: type[np.integer], density: float) -> None:
        """Packed masks, lowest bit first, allow the same tokens as boolean ones."""
        allowed = np.random.default_rng(1).random(512) < density
        packed = np.packbits(allowed, bitorder="little").view(dtype)
        params = SamplingParams(chain=DEFAULT, seed=9)
        one, other = TokenSampler(params, 500, []), TokenSampler(params, 500, [])

        for seed in range(10):
            logits = zipf_logits(500, seed)
            assert one.sample(logits.copy(), packed) == other.sample(logits.copy(), allowed[:500])

    def test_nothing_allowed(self) -> None:
        """A mask without any token is an error that says so."""
        with pytest.raises(EngineError, match="constraint allows none"):
            TokenSampler(SamplingParams(), 8, []).sample(zipf_logits(8, 0), np.zeros(8, dtype=np.bool_))

    def test_everything_allowed_is_forbidden(self) -> None:
        """A bias that forbids all that the constraint allows is an error, not a free choice."""
        sampler = TokenSampler(SamplingParams(logit_bias=((3, -100.0),)), 8, [])

        with pytest.raises(EngineError, match="no token can be chosen"):
            sampler.sample(zipf_logits(8, 0), np.arange(8) == 3)


class TestBrokenLogits:
    @pytest.mark.parametrize(
        "chain", [(), DEFAULT, (TopP(0.9),), (MinP(0.1),), (Temperature(0.0),), (Mirostat2(),)]
    )
    def test_nan_is_never_chosen(self, chain: tuple[AnySampler, ...]) -> None:
        """NaN counts as -inf."""
        sampler = TokenSampler(SamplingParams(chain=chain, seed=1), 300, [])
        logits = zipf_logits(300, 1)
        logits[::2] = np.nan

        assert all(sampler.sample(logits.copy()) % 2 for _ in range(30))

    @pytest.mark.parametrize("chain", [(), DEFAULT, (Temperature(0.0),), (TopNSigma(1.0),)])
    @pytest.mark.parametrize("value", [np.nan, -np.inf])
    def test_nothing_to_choose(self, chain: tuple[AnySampler, ...], value: float) -> None:
        """Logits that are all NaN or -inf are an error that says so."""
        with pytest.raises(EngineError, match="no token can be chosen"):
            TokenSampler(SamplingParams(chain=chain), 300, []).sample(np.full(300, value, dtype=np.float32))

    def test_infinity_is_the_best(self) -> None:
        """+inf counts as the largest number."""
        logits = np.array([1, np.inf, 2], dtype=np.float32)

        assert TokenSampler(SamplingParams(chain=DEFAULT), 3, []).sample(logits) == 1


class TestLogprobs:
    @pytest.mark.parametrize("size", [1, 5, 100, 5003])
    def test_log_softmax(self, size: int) -> None:
        """The values are those of the log-softmax in double precision, best first."""
        logits = zipf_logits(size, 2)
        exact = logits.astype(np.float64) - math.log(math.fsum(np.exp(logits.astype(np.float64))))
        best = sorted(range(size), key=lambda token: -logits[token])[:4]

        value, top = logprobs(logits, size // 2, 4)
        assert value == pytest.approx(exact[size // 2], abs=1e-5)
        assert [token for token, _ in top] == best
        assert [logprob for _, logprob in top] == pytest.approx([exact[token] for token in best], abs=1e-5)

    def test_leaves_the_logits_alone(self) -> None:
        """The logits stay as they are, also where they have to be repaired."""
        logits = np.array([1, np.nan, 2], dtype=np.float32)

        value, top = logprobs(logits, 1, 0)
        assert (value, top) == (-math.inf, [])
        assert np.isnan(logits[1])
