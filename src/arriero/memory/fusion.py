"""One ranking out of two: weighted reciprocal rank fusion of what was found by meaning and by words. Pure.

A hit at rank r of a list adds weight / (60 + r) to its score; scores are scaled so that the first of
both lists has 1. Ranks and not scores count, because cosines and word scores have nothing in common.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from arriero.memory.records import Hit

if TYPE_CHECKING:
    from collections.abc import Sequence

RANK_OFFSET = 60


class Ranked(msgspec.Struct, frozen=True):
    """A hit with the score that it is ranked by, and where each list had it, from 1.

    similarity: the cosine, for hits that were found by meaning.
    """

    hit: Hit
    score: float
    vector_rank: int | None = None
    text_rank: int | None = None
    similarity: float | None = None


def by_vector(hits: Sequence[Hit]) -> list[Ranked]:
    """Rank by meaning alone; the score is the cosine, at least 0."""
    return [
        Ranked(hit, max(0.0, hit.score), vector_rank=rank, similarity=hit.score)
        for rank, hit in enumerate(hits, 1)
    ]


def by_text(hits: Sequence[Hit]) -> list[Ranked]:
    """Rank by words alone; the score is the share of the best hit's."""
    best = max((hit.score for hit in hits), default=0.0)
    return [
        Ranked(hit, max(0.0, hit.score / best) if best > 0 else 0.0, text_rank=rank)
        for rank, hit in enumerate(hits, 1)
    ]


def fused(
    vector_hits: Sequence[Hit], text_hits: Sequence[Hit], *, vector_weight: float, text_weight: float
) -> list[Ranked]:
    """Rank by both; equal scores stay in the order of the heavier list."""
    by_meaning = {_key(hit): (rank, hit) for rank, hit in enumerate(vector_hits, 1)}
    by_words = {_key(hit): (rank, hit) for rank, hit in enumerate(text_hits, 1)}
    first, second = (by_words, by_meaning) if text_weight >= vector_weight else (by_meaning, by_words)
    most = (vector_weight + text_weight) / (RANK_OFFSET + 1) or 1.0
    ranked: list[Ranked] = []
    for key in {**first, **second}:
        vector_rank, vector_hit = by_meaning.get(key, (None, None))
        text_rank, text_hit = by_words.get(key, (None, None))
        hit = vector_hit or text_hit
        assert hit is not None
        score = _share(vector_rank, vector_weight) + _share(text_rank, text_weight)
        similarity = vector_hit.score if vector_hit else None
        ranked.append(Ranked(hit, score / most, vector_rank, text_rank, similarity))
    return sorted(ranked, key=lambda one: -one.score)


def _share(rank: int | None, weight: float) -> float:
    return 0.0 if rank is None else weight / (RANK_OFFSET + rank)


def _key(hit: Hit) -> tuple[str, int]:
    return hit.document.id, hit.chunk.ordinal
