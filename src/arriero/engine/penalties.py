"""Penalties: lower the logits of tokens that would repeat what was said, in place.

Touches only the tokens of the window, never the whole vocabulary. A penalty never forbids: it leaves
a finite logit finite, so that a constraint's only allowed token can still be chosen. `dry.py` holds
the DRY penalty; truncation and the choice of the token are not here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from arriero.sampling import FreqPresence, Repetition, SeqRepetition

Logits = NDArray[np.float32]
Tokens = NDArray[np.intp]

STRONGEST_FACTOR = 1e6
"""Larger factors, `inf` included, act as this one: no logit overflows to -inf."""

STRONGEST_OFFSET = 1e30
"""The most that one penalty subtracts, for the same reason."""

LONGEST_FUZZY_MATCH = 128
"""A fuzzy match is not followed further back; keeps the cost of a token bounded."""


class History:
    """The tokens of one generation, prompt included, newest last."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._length = len(tokens)
        self._tokens: Tokens = np.empty(self._length + 256, dtype=np.intp)
        self._tokens[: self._length] = tokens

    def append(self, token: int) -> None:
        if self._length == self._tokens.size:
            self._tokens = np.concatenate([self._tokens, np.empty_like(self._tokens)])
        self._tokens[self._length] = token
        self._length += 1

    def last(self, count: int) -> Tokens:
        """Return a view of the newest `count` tokens (all of them when negative)."""
        first = 0 if count < 0 else max(self._length - count, 0)
        return self._tokens[first : self._length]


def penalise_repetition(logits: Logits, history: History, sampler: Repetition) -> None:
    window = history.last(max(sampler.last_n, 0))
    factor = min(sampler.penalty, STRONGEST_FACTOR)
    seen = logits.take(window)
    # Of v / factor and v * factor the lower one is the penalised value, whatever the sign of v.
    # A token that occurs twice is written twice with the same value.
    logits[window] = np.minimum(seen / factor, seen * factor)


def penalise_frequency(logits: Logits, history: History, sampler: FreqPresence) -> None:
    tokens, counts = np.unique(history.last(max(sampler.last_n, 0)), return_counts=True)
    offsets = counts * sampler.frequency_penalty + sampler.presence_penalty
    logits[tokens] -= np.clip(offsets, -STRONGEST_OFFSET, STRONGEST_OFFSET).astype(np.float32)


def penalise_sequences(logits: Logits, history: History, sampler: SeqRepetition) -> None:
    window = history.last(sampler.last_n)
    if sampler.tolerance > 0:
        lengths = fuzzy_match_lengths(window.tolist(), sampler.tolerance, max(sampler.max_merge, 1))
    else:
        lengths = match_lengths(window, limit=window.size)
    for token, length in longest_by_next_token(window, lengths, sampler.min_length).items():
        # The length counts the token that would be added.
        offset = (length + 1) * sampler.stacking_penalty + sampler.flat_penalty
        subtract(logits, token, offset)


def subtract(logits: Logits, token: int, offset: float) -> None:
    logits[token] -= np.float32(min(max(offset, -STRONGEST_OFFSET), STRONGEST_OFFSET))


def match_lengths(tokens: Tokens, limit: int) -> Tokens:
    """Return for each position but the last how many tokens up to it equal the newest tokens.

    Counts at most `limit`. Narrows the set of matching positions one step back at a time.
    """
    newest = tokens.size - 1
    lengths = np.zeros(max(newest, 0), dtype=np.intp)
    ends = (tokens[:-1] == tokens[-1:]).nonzero()[0]
    for length in range(1, limit + 1):
        if not ends.size:
            break
        lengths[ends] = length
        ends = ends[ends >= length]
        ends = ends[tokens[ends - length] == tokens[newest - length]]
    return lengths


def fuzzy_match_lengths(tokens: list[int], tolerance: int, max_merge: int) -> Tokens:
    """Like `match_lengths`, but up to `tolerance` mismatches pass.

    A mismatch puts up to `max_merge` earlier tokens in the place of one of the newest. Both ends of
    a match are equal tokens. The length counts the newest tokens that are matched.
    """
    lengths = [_fuzzy_match_length(tokens, end, tolerance, max_merge) for end in range(len(tokens) - 1)]
    return np.array(lengths, dtype=np.intp)


def _fuzzy_match_length(tokens: list[int], end: int, tolerance: int, max_merge: int) -> int:
    # Walks back in both places: `needle` through the newest tokens, `hay` from `end`.
    # `reach` is how many tokens of the hay may be tried for the next token of the needle.
    needle, hay, reach, matched = len(tokens) - 1, end, 1, 0
    stop = needle - LONGEST_FUZZY_MATCH
    while needle > stop and hay >= 0:
        tried = tokens[max(hay - reach + 1, 0) : hay + 1][::-1]
        if tokens[needle] in tried:
            hay -= tried.index(tokens[needle]) + 1
            reach = 1
            matched = len(tokens) - needle
        elif matched == 0 or tolerance == 0:
            break
        else:
            tolerance -= 1
            hay -= reach
            reach = max_merge
        needle -= 1
    return matched


def longest_by_next_token(tokens: Tokens, lengths: Tokens, at_least: int) -> Mapping[int, int]:
    """Return for each token that followed a match of at least that length the longest such match."""
    ends = (lengths >= at_least).nonzero()[0]
    ends = ends[lengths[ends].argsort(kind="stable")]
    # Ascending lengths: of equal tokens the last, longest one stays.
    return dict(zip(tokens[ends + 1].tolist(), lengths[ends].tolist(), strict=True))
