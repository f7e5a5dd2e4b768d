"""DRY: the longer the repetition that a token would continue, the (exponentially) lower its logit.

Same definition as llama.cpp's sampler. A breaker is a text that a repetition does not reach across;
`breaker_sequences` turns the texts into token sequences once per vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from arriero.engine.penalties import (
    STRONGEST_OFFSET,
    History,
    Logits,
    longest_by_next_token,
    match_lengths,
    subtract,
)
from arriero.sampling import Dry

Breakers = Mapping[int, tuple[tuple[int, ...], ...]]
"""First token of a breaker -> the tokens that may follow it to complete the breaker (perhaps none)."""

LONGEST_BREAKER = 40
"""Characters of a breaker that count, as in llama.cpp."""

LONGEST_BREAKER_TAIL = 20
"""Tokens of a breaker after its first that count, as in llama.cpp."""


def breaker_sequences(
    breakers: Iterable[str], pieces: Sequence[str], tokenize: Callable[[str], Sequence[int]]
) -> Breakers:
    """Find every token sequence that may hold a breaker; `pieces[token]` is the token's text.

    1. A token whose text contains the breaker is one by itself.
    2. A token whose text ends in the beginning of the breaker is one together with the tokens of the rest.
    Walks the whole vocabulary: keep the result.
    """
    found: dict[int, dict[tuple[int, ...], None]] = {}
    for breaker in breakers:
        text = breaker[:LONGEST_BREAKER]
        heads = {
            text[:size]: tuple(tokenize(text[size:])[:LONGEST_BREAKER_TAIL]) for size in range(1, len(text))
        }
        for token, piece in enumerate(pieces):
            if text and text in piece:
                found.setdefault(token, {})[()] = None
                continue
            for head, tail in heads.items():
                if piece.endswith(head):
                    found.setdefault(token, {})[tail] = None
    return {token: tuple(tails) for token, tails in found.items()}


def is_on(sampler: Dry) -> bool:
    return sampler.multiplier != 0 and sampler.base >= 1 and sampler.last_n != 0


def penalise_dry(logits: Logits, history: History, sampler: Dry, breakers: Breakers) -> None:
    """Apply the penalty. 1. Find how far back a repetition may reach. 2. Measure the repetitions
    that end before each token of the window. 3. Penalise those tokens."""
    window = history.last(sampler.last_n)
    if window.size <= sampler.allowed_length:
        return
    # 1. Longer repetitions than `longest` are penalised no more, so nothing looks further back.
    longest = sampler.allowed_length + _max_exponent(sampler.base)
    reach = distance_to_breaker(window[-longest - LONGEST_BREAKER_TAIL :].tolist(), breakers)
    if reach < sampler.allowed_length:
        return
    # 2.
    lengths = match_lengths(window, limit=min(reach, longest))
    # 3. A breaker token itself is never penalised.
    for token, length in longest_by_next_token(window, lengths, sampler.allowed_length).items():
        if () not in breakers.get(token, ()):
            subtract(logits, token, sampler.multiplier * sampler.base ** (length - sampler.allowed_length))


def distance_to_breaker(tokens: list[int], breakers: Breakers) -> int:
    """Return how many of the newest tokens follow the newest breaker (all, if there is none)."""
    for start in range(len(tokens) - 1, -1, -1):
        after = tokens[start + 1 :] if tokens[start] in breakers else []
        tails = [tail for tail in breakers.get(tokens[start], ()) if after[: len(tail)] == list(tail)]
        if tails:
            return len(after) - max(map(len, tails))
    return len(tokens)


def _max_exponent(base: float) -> int:
    """The exponent at which the penalty has grown to the strongest one there is."""
    return int(math.log(STRONGEST_OFFSET) / math.log(base)) if base > 1.000001 else 0
