"""How the next token is chosen, as plain values: the samplers, their order and defaults.

`engine/sampler.py` applies them; `config/samplers.py` reads Poly's strings into them. The order of
application is the order of the classes here, whatever the order in which they were written.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Sampler(msgspec.Struct, frozen=True, tag_field="sampler", tag=str.lower):
    """Base of all samplers. `min_keep` always is the number of candidates that must survive."""


class Repetition(Sampler, frozen=True):
    """Divide positive, multiply negative logits of the last `last_n` tokens by `penalty`. Off at 1."""

    penalty: float = 1.3
    last_n: int = 64


class FreqPresence(Sampler, frozen=True):
    """Subtract count * frequency_penalty + (count > 0) * presence_penalty over the last `last_n` tokens."""

    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    last_n: int = 64


class SeqRepetition(Sampler, frozen=True):
    """Penalise tokens that would continue a sequence already seen: len * stacking + flat."""

    flat_penalty: float = 0.0
    stacking_penalty: float = 0.0
    min_length: int = 4
    tolerance: int = 0
    max_merge: int = 1
    last_n: int = 64


class Dry(Sampler, frozen=True):
    """Penalise repeated sequences by multiplier * base ** (length - allowed_length). Off at multiplier 0.

    `last_n` -1 = the whole context. A sequence does not reach across a `breakers` string.
    """

    multiplier: float = 0.0
    base: float = 1.75
    allowed_length: int = 2
    last_n: int = -1
    breakers: tuple[str, ...] = ("\n", ":", '"', "*")


class TopNSigma(Sampler, frozen=True):
    """Keep logits within `n` standard deviations of the best. Off at n <= 0."""

    n: float = 0.0


class TopK(Sampler, frozen=True):
    """Keep the max(k, min_keep) best. Off at k <= 0."""

    k: int = 40
    min_keep: int = 1


class TailFree(Sampler, frozen=True):
    """Cut the tail where the curve of sorted probabilities flattens. Off at z >= 1."""

    z: float = 1.0
    min_keep: int = 1


class LocallyTypical(Sampler, frozen=True):
    """Keep tokens whose surprise is nearest to the entropy, up to probability mass p. Off at p >= 1."""

    p: float = 1.0
    min_keep: int = 1


class TopP(Sampler, frozen=True):
    """Keep the smallest set of best tokens with probability mass >= p. Off at p >= 1."""

    p: float = 0.95
    min_keep: int = 1


class TopA(Sampler, frozen=True):
    """Drop probabilities below a1 * max ** a2. Off when either is 0."""

    a1: float = 0.0
    a2: float = 0.0
    min_keep: int = 1


class MinP(Sampler, frozen=True):
    """Drop probabilities below p * max. Off at 0."""

    p: float = 0.0
    min_keep: int = 1


class Xtc(Sampler, frozen=True):
    """With `probability`, drop all but the least likely of the tokens above `threshold`. Off at 0."""

    probability: float = 0.0
    threshold: float = 0.1
    min_keep: int = 1


class Temperature(Sampler, frozen=True):
    """Divide logits by `temperature`. 0 means greedy: the best token, always."""

    temperature: float = 0.8


class Mirostat1(Sampler, frozen=True):
    """Mirostat v1; draws the token. `n_vocab` 0 = the model's. `mu` None = 2 * tau."""

    tau: float = 5.0
    eta: float = 0.1
    mu: float | None = None
    m: int = 100
    n_vocab: int = 0


class Mirostat2(Sampler, frozen=True):
    """Mirostat v2; draws the token. `mu` None = 2 * tau."""

    tau: float = 5.0
    eta: float = 0.1
    mu: float | None = None


AnySampler = (
    Repetition
    | FreqPresence
    | SeqRepetition
    | Dry
    | TopNSigma
    | TopK
    | TailFree
    | LocallyTypical
    | TopP
    | TopA
    | MinP
    | Xtc
    | Temperature
    | Mirostat1
    | Mirostat2
)

ORDER: tuple[type[Sampler], ...] = (
    Repetition,
    FreqPresence,
    SeqRepetition,
    Dry,
    TopNSigma,
    TopK,
    TailFree,
    LocallyTypical,
    TopP,
    TopA,
    MinP,
    Xtc,
    Temperature,
    Mirostat1,
    Mirostat2,
)


class SamplingParams(msgspec.Struct, frozen=True):
    """The chain, in the order of application, and what goes with it.

    logit_bias: (token id, bias) added before everything else; -100 and below forbids a token.
    seed: None = a fresh one for each completion.
    """

    chain: tuple[AnySampler, ...] = ()
    seed: int | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()


def ordered(samplers: Sequence[AnySampler]) -> tuple[AnySampler, ...]:
    """Return the samplers in the order of application (stable among equals)."""
    return tuple(sorted(samplers, key=lambda sampler: ORDER.index(type(sampler))))


def replaced(chain: Sequence[AnySampler], *changes: AnySampler) -> tuple[AnySampler, ...]:
    """Return the chain with each change in place of the samplers of its class, or added."""
    kinds = {type(change) for change in changes}
    kept = [sampler for sampler in chain if type(sampler) not in kinds]
    return ordered([*kept, *changes])
