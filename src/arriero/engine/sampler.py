"""Chooses the next token of one generation from its logits, after a chain of samplers.

1. bias and penalties on the few tokens they name   (penalties.py, dry.py)
2. the constraint's mask, top-n-sigma
3. from the vocabulary to candidates                (candidates.py)
4. truncation of the candidates                     (truncation.py)
5. temperature and the draw                         (mirostat.py where it is on)

Pure numpy; knows nothing of llama.cpp. What adapts from token to token lives in `TokenSampler`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from arriero.engine.candidates import NEGLIGIBLE, Candidates, Field
from arriero.engine.dry import Breakers, is_on, penalise_dry
from arriero.engine.mirostat import Mirostat, drawn
from arriero.engine.penalties import (
    History,
    Logits,
    Tokens,
    penalise_frequency,
    penalise_repetition,
    penalise_sequences,
)
from arriero.engine.truncation import (
    exclude_top,
    keep_min_p,
    keep_tail_free,
    keep_top_a,
    keep_top_k,
    keep_top_p,
    keep_typical,
)
from arriero.engine.usual_sampler import UsualChain, usual_chain
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
    ordered,
)

Mask = NDArray[np.bool_] | NDArray[np.integer]
"""Allowed tokens: booleans, or integers that hold a bit for each token, lowest bit first."""

FORBIDDING_BIAS = -100.0

HOTTEST = 1e6
"""Higher temperatures, `inf` included, act as this one."""

SPARSE = 8
"""A mask that allows fewer than one token in so many is applied by taking the allowed ones out."""

DRAW_BLOCK = 512

_Penalty = Repetition | FreqPresence | SeqRepetition | Dry
_Truncation = TopK | TailFree | LocallyTypical | TopP | TopA | MinP | Xtc


def no_breakers(_: tuple[str, ...]) -> Breakers:
    return {}


class TokenSampler:
    """One generation's sampler. Owns its random numbers, its token history and Mirostat's `mu`.

    history: the prompt. breakers: finds the token sequences of DRY's breakers (`dry.breaker_sequences`).
    """

    def __init__(
        self,
        params: SamplingParams,
        vocab_size: int,
        history: Sequence[int],
        breakers: Callable[[tuple[str, ...]], Breakers] = no_breakers,
    ) -> None:
        chain = [sampler for sampler in ordered(params.chain) if _acts(sampler)]
        self._random = random.Random(params.seed)
        self._history = History(history)
        self._biased, self._forbidden = _split_bias(params.logit_bias, vocab_size)
        self._penalties = [_penalty(sampler, breakers) for sampler in chain if isinstance(sampler, _Penalty)]
        self._sigmas = [sampler.n for sampler in chain if isinstance(sampler, TopNSigma)]
        self._truncations = [sampler for sampler in chain if isinstance(sampler, _Truncation)]
        heat = math.prod(s.temperature for s in chain if isinstance(s, Temperature))
        self._temperature = min(heat, HOTTEST)
        mirostats = [Mirostat(s, vocab_size) for s in chain if isinstance(s, Mirostat1 | Mirostat2)]
        self._mirostat = mirostats[0] if mirostats else None
        self._usual = self._usual_chain()

    def _usual_chain(self) -> UsualChain | None:
        if self._sigmas or self._mirostat:
            return None
        return usual_chain(self._truncations, self._temperature, self._random.random)

    def accept(self, token: int) -> None:
        """Add a token to the history: a sampled one, a forced one or one of the prompt."""
        self._history.append(token)

    def sample(self, logits: Logits, mask: Mask | None = None) -> int:
        """Return the next token. Works in place: the logits are spoilt afterwards.

        Raises EngineError when no token can be chosen.
        """
        self._penalise(logits)
        return self._chosen(logits) if mask is None else self._chosen_of_allowed(logits, mask)

    def _penalise(self, logits: Logits) -> None:
        if self._biased is not None:
            tokens, offsets = self._biased
            logits[tokens] += offsets
        for penalise in self._penalties:
            penalise(logits, self._history)
        if self._forbidden is not None:
            logits[self._forbidden] = -np.inf

    def _chosen_of_allowed(self, logits: Logits, mask: Mask) -> int:
        allowed = _as_booleans(mask)[: logits.size]
        count = np.count_nonzero(allowed)
        if not count:
            raise EngineError("no token can be chosen: the constraint allows none")
        if count * SPARSE < logits.size:
            ids = allowed.nonzero()[0]
            return int(ids[self._chosen(logits.take(ids))])
        logits = logits[: allowed.size]
        # +inf where allowed, -inf elsewhere.
        ceiling = (allowed - np.float32(0.5)) * np.float32(np.inf)
        return self._chosen(np.minimum(logits, ceiling, out=logits))

    def _chosen(self, logits: Logits) -> int:
        if self._temperature <= 0:
            return _likeliest(logits)
        if self._usual is not None:
            token = self._usual.choose(logits)
            if token is not None:
                return token
        for sigmas in self._sigmas:
            _cut_at_sigmas(logits, sigmas)
        field = Field(logits)
        if self._truncations:
            candidates = self._first_cut(field, self._truncations[0])
            for sampler in self._truncations:
                candidates = self._truncated(candidates, sampler)
            return self._drawn(_at_temperature(candidates, self._temperature))
        if self._mirostat is not None:
            field.heat(self._temperature)
            return self._drawn(self._mirostat.first_cut(field))
        return _drawn_from_all(field.weights(self._temperature), self._random.random())

    def _first_cut(self, field: Field, sampler: _Truncation) -> Candidates:
        """Return at least the tokens that the first truncation will keep."""
        match sampler:
            case TopK(k=k, min_keep=min_keep):
                return field.top(max(k, min_keep))
            case MinP(p=p, min_keep=min_keep):
                return field.above(field.best + math.log(p), min_keep)
            case TopA(a1=a1, a2=a2, min_keep=min_keep):
                total = field.total()
                return field.likelier(a1 * total**-a2, total, min_keep)
            case TopP(p=p, min_keep=min_keep):
                # Half of what may be left out: rounding must not cost a token.
                found = field.holding(max(1 - p, NEGLIGIBLE) / 2)
                return found if found.ids.size >= min_keep else field.top(min_keep)
            case TailFree() | LocallyTypical() | Xtc():
                return field.holding(NEGLIGIBLE, max(self._temperature, 1.0))
        assert_never(sampler)

    def _truncated(self, candidates: Candidates, sampler: _Truncation) -> Candidates:
        match sampler:
            case TopK():
                return keep_top_k(candidates, sampler)
            case TailFree():
                return keep_tail_free(candidates, sampler)
            case LocallyTypical():
                return keep_typical(candidates, sampler)
            case TopP():
                return keep_top_p(candidates, sampler)
            case TopA():
                return keep_top_a(candidates, sampler)
            case MinP():
                return keep_min_p(candidates, sampler)
            case Xtc() if self._random.random() < sampler.probability:
                return exclude_top(candidates, sampler)
        return candidates

    def _drawn(self, candidates: Candidates) -> int:
        uniform = self._random.random()
        if self._mirostat is not None:
            return self._mirostat.choose(candidates, uniform)
        return int(candidates.ids[drawn(candidates, uniform)])


def sample_rows(
    samplers: Sequence[TokenSampler], logits: Logits, masks: Sequence[Mask | EngineError | None] | None = None
) -> list[int | EngineError]:
    """Return the next token of each sampler from its row of logits, or why there is none.

    An error in place of a mask is its own answer.
    """
    rows = zip(samplers, logits, masks or [None] * len(samplers), strict=True)
    return [_token_or_error(sampler, row, mask) for sampler, row, mask in rows]


def _token_or_error(
    sampler: TokenSampler, logits: Logits, mask: Mask | EngineError | None
) -> int | EngineError:
    if isinstance(mask, EngineError):
        return mask
    try:
        return sampler.sample(logits, mask)
    except EngineError as exc:
        return exc


def logprobs(logits: Logits, token: int, top: int) -> tuple[float, list[tuple[int, float]]]:
    """Return the natural-log probability of a token and the `top` likeliest ones, best first.

    Of the raw logits, so call it before `sample`. Leaves them as they are.
    """
    field = Field(logits if np.isfinite(logits).all() else logits.copy())
    log_total = field.best + math.log(float(field.weights(1.0).sum(dtype=np.float64)))
    best = field.top(top) if top > 0 else None
    ranked = (
        [] if best is None else list(zip(best.ids.tolist(), (best.logits - log_total).tolist(), strict=True))
    )
    return float(field.logits[token]) - log_total, ranked


def _acts(sampler: AnySampler) -> bool:
    """Whether the sampler does anything with its settings."""
    match sampler:
        case Repetition(penalty=penalty, last_n=last_n):
            return penalty > 1 and last_n > 0
        case FreqPresence(frequency_penalty=frequency, presence_penalty=presence, last_n=last_n):
            return (frequency != 0 or presence != 0) and last_n > 0
        case SeqRepetition(flat_penalty=flat, stacking_penalty=stacking):
            return (flat != 0 or stacking != 0) and 2 <= sampler.min_length <= sampler.last_n
        case Dry():
            return is_on(sampler)
        case TopNSigma(n=n):
            return n > 0
        case TopK(k=k):
            return k > 0
        case TailFree(z=z):
            return z < 1
        case LocallyTypical(p=p) | TopP(p=p):
            return p < 1
        case TopA(a1=a1, a2=a2):
            return a1 != 0 and a2 != 0
        case MinP(p=p):
            return p > 0
        case Xtc(probability=probability, threshold=threshold):
            # Of tokens above one half there is never a second one.
            return probability > 0 and threshold <= 0.5
        case Temperature() | Mirostat1() | Mirostat2():
            return True
    assert_never(sampler)


def _penalty(
    sampler: _Penalty, breakers: Callable[[tuple[str, ...]], Breakers]
) -> Callable[[Logits, History], None]:
    match sampler:
        case Repetition():
            return partial(penalise_repetition, sampler=sampler)
        case FreqPresence():
            return partial(penalise_frequency, sampler=sampler)
        case SeqRepetition():
            return partial(penalise_sequences, sampler=sampler)
        case Dry():
            return partial(penalise_dry, sampler=sampler, breakers=breakers(sampler.breakers))
    assert_never(sampler)


def _split_bias(
    logit_bias: Sequence[tuple[int, float]], vocab_size: int
) -> tuple[tuple[Tokens, Logits] | None, Tokens | None]:
    """Return (tokens, offsets) to add, and the tokens that are forbidden."""
    unknown = [token for token, _ in logit_bias if not 0 <= token < vocab_size]
    if unknown:
        known = f"the model's tokens are 0 to {vocab_size - 1}"
        raise InvalidRequest(f"logit_bias names token {unknown[0]}; {known}", param="logit_bias")
    forbidden = sorted({token for token, bias in logit_bias if bias <= FORBIDDING_BIAS})
    offsets: dict[int, float] = {}
    for token, bias in logit_bias:
        offsets[token] = offsets.get(token, 0.0) + bias
    for token in forbidden:
        del offsets[token]
    biased = np.array(list(offsets), dtype=np.intp), np.array(list(offsets.values()), dtype=np.float32)
    return biased if offsets else None, np.array(forbidden, dtype=np.intp) if forbidden else None


def _as_booleans(mask: Mask) -> NDArray[np.bool_]:
    if mask.dtype == np.bool_:
        return mask.astype(np.bool_, copy=False)
    return np.unpackbits(mask.view(np.uint8), bitorder="little").view(np.bool_)


def _likeliest(logits: Logits) -> int:
    best = int(logits.argmax())
    if math.isfinite(logits[best]):
        return best
    return int(Field(logits).logits.argmax())


def _cut_at_sigmas(logits: Logits, sigmas: float) -> None:
    """Forbid logits more than `sigmas` standard deviations below the best; -inf does not count."""
    counted = logits[np.isfinite(logits)]
    if counted.size:
        mean = counted.mean(dtype=np.float64)
        deviations = counted - np.float32(mean)
        sigma = math.sqrt(float(np.dot(deviations, deviations)) / counted.size)
        np.putmask(logits, logits < float(counted.max()) - sigmas * sigma, -np.inf)


def _at_temperature(candidates: Candidates, temperature: float) -> Candidates:
    if temperature == 1:
        return candidates
    logits = candidates.logits / temperature
    return Candidates(candidates.ids, logits, np.exp(logits - logits[0]))


def _drawn_from_all(weights: NDArray[np.float32], uniform: float) -> int:
    """Draw from the whole vocabulary: first a block by its sum, then a token in it."""
    starts = np.arange(0, weights.size, DRAW_BLOCK)
    ends = np.add.reduceat(weights, starts).cumsum(dtype=np.float64)
    wanted = uniform * ends[-1]
    block = min(int(ends.searchsorted(wanted, side="right")), starts.size - 1)
    inside = weights[starts[block] : starts[block] + DRAW_BLOCK].cumsum(dtype=np.float64)
    before = ends[block - 1] if block else 0.0
    # Rounding of the block's sum must not lead past its last possible token.
    wanted = min(wanted - before, np.nextafter(inside[-1], 0))
    return int(starts[block]) + int(inside.searchsorted(wanted, side="right"))
